# SPDX-License-Identifier: Apache-2.0
"""How near stereo's depth comes to the true one, where that is known exactly, and how fast it is.

Spot and bob are rendered by the project's own mesh renderer; the still life's photos are compared with the depth of the
scene that they were rendered from. The cloud that COLMAP fuses of the depth maps, and the mesh that is fitted to it,
are compared with the true surface too. fountain-P11 has no true depth here: its maps are for looking at.

    python benchmarks/stereo.py spot bob still_life
    python benchmarks/stereo.py fountain --size 1536 --views 4 --pictures /some/folder

A mesh of the still life by another method, written by `img3d-export mesh --original-frame`, is scored alike:

    python benchmarks/stereo.py --mesh model.ply
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mesh_geometry
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32
from PIL import Image
from scipy.spatial import KDTree
from torch import Tensor

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_assets.meshing.cloud_surface import CloudSurfaceOptions, surface_of_cloud
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, fused_cloud, photos_needed, write_workspace
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import focal_length
from img3d_kernels.stereo.consistency import count_agreeing
from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps
from img3d_kernels.stereo.patch_match import random_planes, sweep
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import DepthMap, StereoView

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = mesh_geometry.DATA
STILL_LIFE = REPOSITORY / "sample" / "still_life"
CLOSE = 0.01
"""Of the true depth."""
NUM_SOURCES = 8
NUM_POINTS = 5000
"""Drawn from the true surface, in place of a sparse reconstruction's."""
NUM_SEEN = 100_000
"""Points of true depth maps that a reconstruction should have."""


@dataclass
class TrueSurface:
    """What there is to see."""

    distances: Any
    """Open3D's scene for distances from it."""
    samples: npt.NDArray[np.floating]
    """Points of what the views see, [M, 3]."""
    diagonal: float
    """Of the bounding box."""


@dataclass
class Scene:
    """Views with their true depths, 0 where there is nothing, and sparse points."""

    views: list[StereoView]
    depths: list[Float32[Tensor, "H W"]] | None
    points: Float32[Tensor, "P 3"]
    surface: TrueSurface | None = None


def opencv_viewmat(camera_to_world: npt.NDArray[np.float64]) -> Tensor:
    """World to camera in OpenCV's axes, of a pose in OpenGL's."""
    return torch.from_numpy(np.linalg.inv(camera_to_world @ np.diag([1.0, -1.0, -1.0, 1.0])))


def grey_of(rgb: npt.NDArray[Any]) -> Tensor:
    """`[H, W]`, of uint8 `[H, W, 3]`."""
    return torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def textured_mesh(name: str, size: int, number: int) -> Scene:
    """An object on white, from all around."""
    folder = DATA / "meshes" / name
    mesh = mesh_geometry.load(*(folder / file for file in mesh_geometry.OBJECTS[name]))
    vertices = torch.from_numpy(mesh.vertices).float()
    scene = MeshScene(
        vertices,
        torch.from_numpy(mesh.faces),
        torch.full_like(vertices, 0.5),
        torch.from_numpy(mesh.uvs).float(),
        torch.from_numpy(mesh.texture),
    )
    focal = focal_length(mesh_geometry.FOV, size)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    views, depths = [], []
    for pose in mesh_geometry.cameras_around(mesh, number, 0):
        camera = torch.from_numpy(pose[:3]).float()
        rgb, _, alpha, _ = scene.render(camera, K, size, size, 3)
        _, depth, hit, _ = scene.render(camera, K, size, size, 1)
        picture = ((rgb + 1 - alpha) * 255).round().to(torch.uint8).numpy()
        outline = alpha[..., 0] > 0.5
        views.append(StereoView(grey_of(picture), K, opencv_viewmat(pose), outline, outline))
        depths.append((depth * hit)[..., 0])
    diagonal = float(np.linalg.norm(mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0)))
    surface = TrueSurface(mesh.scene(), mesh.samples(), diagonal)
    return Scene(views, depths, torch.from_numpy(mesh.samples()[:NUM_POINTS]), surface)


class _Surfaces:
    """In place of Mitsuba: keeps the triangles that the scene's parts are made of."""

    def __init__(self) -> None:
        import open3d as o3d

        self.scene = o3d.t.geometry.RaycastingScene()

    def add(self, name: str, data: Any, *_: Any, **__: Any) -> None:
        self.scene.add_triangles(data.vertices.astype(np.float32), data.faces.astype(np.uint32))


def still_life() -> Scene:
    """The bundled photos, and the depth of the shapes that tools/sample_scene.py builds."""
    import json

    import open3d as o3d

    sys.path.insert(0, str(REPOSITORY / "tools"))
    import sample_scene  # pyright: ignore[reportMissingImports]

    class Shapes(sample_scene.SceneParts):  # pyright: ignore[reportUntypedBaseClass]
        """The scene without materials and light."""

        def __init__(self) -> None:
            super().__init__(None)
            self.surfaces = _Surfaces()
            self.add = self.surfaces.add

    shapes = Shapes()
    for part in ("table", "jar", "bowl_of_eggs", "books", "fruit", "small_things", "room"):
        getattr(sample_scene, f"add_{part}")(shapes)
    meta = json.loads((STILL_LIFE / "transforms.json").read_text())
    K = torch.tensor([[meta["fl_x"], 0, meta["cx"]], [0, meta["fl_y"], meta["cy"]], [0, 0, 1]])
    views, depths = [], []
    for frame in meta["frames"]:
        pose = np.array(frame["transform_matrix"])
        picture = np.asarray(Image.open(STILL_LIFE / frame["file_path"]))
        views.append(StereoView(grey_of(picture), K, opencv_viewmat(pose)))
        x, y = np.meshgrid(np.arange(meta["w"]) + 0.5, np.arange(meta["h"]) + 0.5)
        in_camera = np.stack([(x - meta["cx"]) / meta["fl_x"], -(y - meta["cy"]) / meta["fl_y"], -np.ones_like(x)], -1)
        directions = in_camera @ pose[:3, :3].T
        cast = np.concatenate([np.broadcast_to(pose[:3, 3], directions.shape), directions], -1).astype(np.float32)
        hit = shapes.surfaces.scene.cast_rays(o3d.core.Tensor(cast))["t_hit"].numpy()
        depths.append(torch.from_numpy(np.where(np.isfinite(hit), hit, 0).astype(np.float32)))
    seen = _points_seen(views, depths, NUM_SEEN).numpy()
    low, high = np.quantile(seen, [0.01, 0.99], axis=0)
    surface = TrueSurface(shapes.surfaces.scene, seen, float(np.linalg.norm(high - low)))
    return Scene(views, depths, _points_seen(views, depths, NUM_POINTS), surface)


def _points_seen(views: list[StereoView], depths: list[Tensor], number: int) -> Tensor:
    """Some points of true depth maps."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for view, depth in zip(views, depths, strict=True):
        rows = torch.randint(0, depth.shape[0], (number // len(views),), generator=generator)
        columns = torch.randint(0, depth.shape[1], rows.shape, generator=generator)
        pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones(len(rows))], dim=1)
        in_camera = (pixels @ torch.linalg.inv(view.K).T) * depth[rows, columns, None]
        pose = torch.linalg.inv(view.viewmat).float()
        found.append((in_camera @ pose[:3, :3].T + pose[:3, 3])[depth[rows, columns] > 0])
    return torch.cat(found)


def fountain(size: int) -> Scene:
    """The photos with their given cameras; points are triangulated as for every data set without any."""
    from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

    parser: Any = Img3dPhotosDataParserConfig(
        data=DATA / "fountain_p11", max_image_size=size, eval_mode="all", cache_dir=Path("/tmp/img3d_stereo_cache")
    ).setup()
    outputs = parser.get_dataparser_outputs("train")
    views = []
    for i, path in enumerate(outputs.image_filenames):
        camera = outputs.cameras[i]
        width, height = int(camera.width), int(camera.height)
        picture = np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
        pose = np.vstack([camera.camera_to_worlds.double().numpy(), [[0, 0, 0, 1]]])
        views.append(StereoView(grey_of(picture), camera.get_intrinsics_matrices(), opencv_viewmat(pose)))
    return Scene(views, None, outputs.metadata["points3D_xyz"])


def measure(name: str, scene: Scene, options: StereoOptions, pictures: Path | None, shown: int) -> None:
    """Print a row; write pictures."""
    began = time.perf_counter()
    sources = choose_sources(scene.views, scene.points, NUM_SOURCES)
    ranges = [depth_range(view, scene.points, with_background=True) for view in scene.views]
    maps = stereo_depth_maps(scene.views, sources, ranges, options)
    seconds = time.perf_counter() - began
    close = seen = known = known_close = 0
    for i, found in enumerate(maps):
        if scene.depths is None:
            continue
        truth = scene.depths[i]
        others = sources[i]
        agreeing = count_agreeing(
            scene.views[i], truth, [scene.views[j] for j in others], [scene.depths[j] for j in others]
        )[0]
        by_three = (agreeing >= 2) & (truth > 0)
        if (mask := scene.views[i].mask) is not None:
            by_three &= mask
        right = (found.depth - truth).abs() <= CLOSE * truth
        seen, close = seen + int(by_three.sum()), close + int((by_three & right).sum())
        known += int((found.depth > 0).sum())
        known_close += int(((found.depth > 0) & right).sum())
    pixels = sum(view.grey.numel() for view in scene.views)
    filled = sum(int((found.depth > 0).sum()) for found in maps) / pixels
    shares = f"{close / seen:.3f} | {known_close / max(known, 1):.3f}" if seen else "- | -"
    print(f"| {name} | {len(scene.views)} | {shares} | {filled:.3f} | {seconds:.0f} |", flush=True)
    if scene.surface is not None:
        print_scores(scene, scene.surface, maps, sources)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for i in np.unique(np.linspace(0, len(maps) - 1, shown).astype(int)):
            truth = None if scene.depths is None else scene.depths[i]
            Image.fromarray(sheet(scene.views[i], maps[i], truth)).save(pictures / f"{name}_{i:03d}.png")


def print_scores(scene: Scene, surface: TrueSurface, maps: list[DepthMap], sources: list[list[int]]) -> None:
    """Print how near fused cloud and mesh come to the true surface, and how much of it they cover."""
    photos = [
        DensePhoto(f"{i:03d}.png", np.repeat(view.grey.numpy()[..., None], 3, axis=-1), view, found)
        for i, (view, found) in enumerate(zip(scene.views, maps, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_workspace(Path(folder), photos, sources)
        cloud = fused_cloud(Path(folder), photos_needed(scene.views))
    print(f"{len(cloud):,} points: {scores(cloud.points, surface)}", flush=True)
    print_mesh_scores(surface_of_cloud(cloud, CloudSurfaceOptions()), surface)


def print_mesh_scores(mesh: Mesh, surface: TrueSurface) -> None:
    """Print how near a mesh comes to the true surface, and how much of it it covers."""
    points = points_on_mesh(mesh, NUM_SEEN).points
    print(f"{len(mesh.faces):,} triangles: {scores(points, surface)}", flush=True)


def scores(points: npt.NDArray[np.floating], surface: TrueSurface) -> str:
    """F-scores of points at two distances, with precision and recall."""
    to_truth = surface.distances.compute_distance(points.astype(np.float32)).numpy() / surface.diagonal
    to_points = KDTree(points).query(surface.samples)[0] / surface.diagonal
    found = []
    for threshold in (0.005, 0.01):
        precision, recall = (to_truth <= threshold).mean(), (to_points <= threshold).mean()
        score = 2 * precision * recall / max(precision + recall, 1e-9)
        found.append(
            f"F-score {score:.3f} (precision {precision:.3f}, recall {recall:.3f}) at {threshold:.1%} of the diagonal"
        )
    return ", ".join(found)


def sheet(view: StereoView, found: DepthMap, truth: Tensor | None) -> npt.NDArray[np.uint8]:
    """Photo, true depth and error where known, depth found, normals, cost: side by side."""
    depths = found.depth if truth is None else truth
    low, high = np.quantile(depths[depths > 0].numpy(), [0.01, 0.99]) if (depths > 0).any() else (0.0, 1.0)

    def colored(depth: Tensor) -> npt.NDArray[np.uint8]:
        scaled = ((depth - low) / max(high - low, 1e-9)).clamp(0, 1).mul(255).to(torch.uint8).numpy()
        colors = np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)[..., ::-1], np.uint8)
        return colors * (depth > 0).numpy()[..., None].astype(np.uint8)

    parts = [np.repeat(view.grey.numpy()[..., None], 3, axis=-1)]
    if truth is not None:
        error = ((found.depth - truth).abs() / truth.clamp_min(1e-9) / (2 * CLOSE)).clamp(0, 1) * (found.depth > 0)
        parts += [colored(truth), np.repeat((error * 255).to(torch.uint8).numpy()[..., None], 3, axis=-1)]
    normals = (found.normals * torch.tensor([1.0, -1.0, -1.0]) + 1) * 127.5 * (found.depth > 0)[..., None]
    cost = (found.cost / 2).clamp(0, 1).mul(255).to(torch.uint8).numpy()[..., None].repeat(3, axis=-1)
    return np.concatenate([*parts, colored(found.depth), normals.to(torch.uint8).numpy(), cost], axis=1)


def speed(scene: Scene) -> None:
    """Print how many planes are compared with one source in a second, in the kernel alone."""
    view, sources = scene.views[0], scene.views[1 : 1 + NUM_SOURCES]
    depths = depth_range(view, scene.points)
    assert depths is not None
    planes = random_planes(view, *depths, seed=0)
    repeats = 5
    began = time.perf_counter()
    for _ in range(repeats):
        sweep(view, sources, *depths, planes, iterations=0)
    seconds = time.perf_counter() - began
    wanted = view.grey.numel() if view.mask is None else int(view.mask.sum())
    rate = repeats * wanted * len(sources) / seconds / 1e6
    print(f"{rate:.1f} million pixel-hypotheses a second, each against one source; {torch.get_num_threads()} threads")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=["spot", "bob", "still_life"])
    parser.add_argument("--size", type=int, default=400, help="longest side of rendered pictures and of fountain's")
    parser.add_argument("--views", type=int, default=60, help="of rendered objects")
    parser.add_argument("--geometric-passes", type=int, default=2)
    parser.add_argument("--min-agreeing", type=int, default=2)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of depth maps")
    parser.add_argument("--shown", type=int, default=4, help="pictures of each scene")
    parser.add_argument(
        "--mesh", type=Path, help="a mesh of the still life, in its photos' own frame, to score instead"
    )
    arguments = parser.parse_args()
    if arguments.mesh is not None:
        surface = still_life().surface
        assert surface is not None
        print_mesh_scores(read_mesh(arguments.mesh)[0], surface)
        return
    options = StereoOptions(geometric_passes=arguments.geometric_passes, min_agreeing=arguments.min_agreeing)
    print("| scene | views | within 1 %, of what three see | of what is found | found, of all pixels | seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.scenes:
        if name == "still_life":
            scene = still_life()
        elif name == "fountain":
            scene = fountain(arguments.size)
        else:
            scene = textured_mesh(name, arguments.size, arguments.views)
        measure(name, scene, options, arguments.pictures, arguments.shown)
        speed(scene)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
