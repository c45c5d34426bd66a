# SPDX-License-Identifier: Apache-2.0
"""Makes pictures of the documentation from the bundled sample and from our own procedural objects.

python tools/doc_pictures.py --folder docs/pictures [--only one-image stereo]

The picture of a text trains for a few minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import write_mesh
from img3d_assets.splat_files import read_splats
from img3d_dataparsers.lenses.views import Resampling, views_of
from img3d_generators import generate
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds
from img3d_generators.image_preparation import to_pil
from img3d_generators.procedural_objects import object_views
from img3d_kernels.poses import intrinsics, viewmats
from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps
from img3d_kernels.stereo.silhouettes import visual_hull
from img3d_kernels.stereo.views import DepthMap, StereoView

REPOSITORY = Path(__file__).parents[1]
SAMPLE = REPOSITORY / "sample" / "still_life"
SIZE = 192
"""Height of a picture's rows in pixels."""
OBJECTS = (3, 8)
"""Seeds of objects on which img3d-small was not trained."""
JPEG_QUALITY = 85

Row = Sequence[Float[Tensor, "H W 3"]]


def one_image() -> list[Row]:
    """A picture of an object, and what img3d-small makes of it, from the same side and from four others."""
    rows = []
    poses = orbit_camera_to_worlds(torch.tensor([0.0, 45, 90, 180, 270]), torch.full((5,), 15.0), LGM_RADIUS)
    for seed in OBJECTS:
        views = object_views(seed, "held-out", 1, 0, SIZE)
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "object.png"
            to_pil(views.rgba(0)).save(picture)
            asset = generate("img3d-small", picture)
        assert isinstance(asset, Gaussians)
        rgb, _ = ActivatedGaussians.of(asset).render(poses, LGM_FOV, SIZE)
        rows.append([views.rgb[0].permute(1, 2, 0), *rgb])
    return rows


def silhouettes() -> list[Row]:
    """A picture of an object, its outline, and the normals of the visual hull of 24 outlines."""
    rows = []
    for seed in OBJECTS:
        views = object_views(seed, "held-out", 0, 24, SIZE)
        K = intrinsics(LGM_FOV, SIZE)
        seen = []
        for rgb, alpha, matrix in zip(views.rgb, views.alpha, viewmats(views.camera_to_worlds), strict=True):
            outline = alpha[0] > 0.5
            seen.append(StereoView((rgb.mean(dim=0) * 255).to(torch.uint8), K, matrix, outline, outline))
        near, far = LGM_RADIUS - 0.6, LGM_RADIUS + 0.6
        hull = visual_hull(seen, [(near, far)] * len(seen))
        assert hull is not None
        shown = []
        for view in (0, 12):
            rgb, outline = views.rgb[view].permute(1, 2, 0), seen[view].outline
            assert outline is not None
            shown += [rgb, outline[..., None].float().expand(-1, -1, 3), colored(hull.seen_from(seen[view], near, far))]
        rows.append(shown)
    return rows


def stereo() -> list[Row]:
    """Photos of the still life, and depth and normals by PatchMatch stereo with four photos nearby."""
    frames = json.loads((SAMPLE / "transforms.json").read_text())
    poses = torch.tensor([frame["transform_matrix"] for frame in frames["frames"]], dtype=torch.float64)[:, :3]
    K = torch.tensor(
        [[frames["fl_x"], 0, frames["cx"]], [0, frames["fl_y"], frames["cy"]], [0, 0, 1]], dtype=torch.float64
    )
    distances = torch.cdist(poses[:, :, 3], poses[:, :, 3])
    numbers = distances[0].argsort()[:5].tolist()
    views = []
    for number, matrix in zip(numbers, viewmats(poses[numbers]), strict=True):
        with Image.open(SAMPLE / frames["frames"][number]["file_path"]) as file:
            grey = torch.from_numpy(np.array(file.convert("L")))
        views.append(StereoView(grey, K, matrix).resized(SIZE, round(SIZE * frames["w"] / frames["h"])))
    sources = [[j for j in range(len(views)) if j != i] for i in range(len(views))]
    ranges = [(0.3, 6.0)] * len(views)
    found = stereo_depth_maps(views, sources, ranges, StereoOptions(geometric_passes=1))[0]
    inverse = torch.where(found.depth > 0, 1 / found.depth.clamp(min=1e-6), 0)
    known = inverse[found.depth > 0]
    low, high = known.quantile(0.02), known.quantile(0.98)
    grey = ((inverse - low) / (high - low)).clamp(0, 1) * 0.85 + 0.15
    depth = torch.where(found.depth > 0, grey, 0)[..., None].expand(-1, -1, 3)
    with Image.open(SAMPLE / frames["frames"][numbers[0]]["file_path"]) as file:
        photo = file.convert("RGB").resize((depth.shape[1], depth.shape[0]), Image.Resampling.LANCZOS)
    return [[as_tensor(np.asarray(photo)), depth, colored(found)]]


def panorama() -> list[Row]:
    """A panorama of a room, and the six views that take its place in training."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "dataparsers" / "lenses"))
    from textured_room import (  # pyright: ignore[reportMissingImports]
        TexturedRoom,
        panorama_lens,
        panorama_rays,
        poses,
    )

    size = SIZE * 2 // 3
    width, height = 6 * size, 3 * size
    picture = TexturedRoom().picture(poses(1)[0], (width, height), panorama_rays(width, height))
    lens = panorama_lens(width, height)
    views = [Resampling.of(lens, view).photo(picture) for view in views_of(lens)]
    resized = [Image.fromarray(view).resize((size, size), Image.Resampling.LANCZOS) for view in views]
    return [[as_tensor(picture)], [as_tensor(np.asarray(view)) for view in resized]]


def text() -> list[Row]:
    """Gaussians from four sides, shaped by a judge that knows the mesh of the sample's jar."""
    from sample_patterns import grid_mesh, jar_texture, lathe_points, smooth_profile
    from sample_scene import JAR_PROFILE

    points = lathe_points(smooth_profile(JAR_PROFILE, 260), 161)
    sheet, picture = grid_mesh(points), (255 * jar_texture(points, 8)).round().astype(np.uint8)
    grey = np.full(sheet.vertices.shape, 0.5, np.float32)
    jar = Mesh(sheet.vertices, sheet.faces, grey, sheet.uvs.astype(np.float32), picture)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mesh(jar, folder / "jar.glb")
        known = ("--pipeline.guidance", "known-object", "--pipeline.mesh", folder / "jar.glb")
        run("ns-train", "img3d-dreamfusion", *known, *outputs(folder), "img3d-distilled", "--view-size", "96")
        config = next(folder.glob("*/*/run/config.yml"))
        run("img3d-export", "splat", "--load-config", config, "--output", folder / "jar.ply")
        splats, _ = read_splats(folder / "jar.ply")
    poses = z_up_orbit([0.0, 90, 180, 270], [15.0] * 4)
    rgb, _ = ActivatedGaussians.of(splats).render(poses, LGM_FOV, SIZE)
    return [list(rgb)]


def run(program: str, *arguments: object) -> None:
    """Runs a command of this environment."""
    subprocess.run([Path(sys.executable).parent / program, *map(str, arguments)], check=True)


def outputs(folder: Path) -> tuple[object, ...]:
    """The options of `ns-train` for a run in a folder."""
    return "--output-dir", folder, "--experiment-name", "scene", "--timestamp", "run", "--vis", "tensorboard"


def z_up_orbit(azimuths: Sequence[float], elevations: Sequence[float]) -> Float[Tensor, "V 3 4"]:
    """Poses of cameras around the origin, in axes with z up."""
    poses = orbit_camera_to_worlds(azimuths, elevations, LGM_RADIUS)
    return torch.from_numpy(TO_Y_UP["z"].T.astype(np.float32)) @ poses


def as_tensor(picture: np.ndarray) -> Float[Tensor, "H W 3"]:
    """A picture of bytes, in [0, 1]."""
    return torch.from_numpy(picture / np.float32(255))


def colored(found: DepthMap) -> Float[Tensor, "H W 3"]:
    """Normals as colours, on white: red to the right, green up, blue towards the camera."""
    colors = found.normals * torch.tensor([0.5, -0.5, -0.5]) + 0.5
    return torch.where(found.depth[..., None] > 0, colors, 1.0)


PICTURES: dict[str, Callable[[], list[Row]]] = {
    "one-image": one_image,
    "silhouettes": silhouettes,
    "stereo": stereo,
    "panorama": panorama,
    "text": text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        with torch.no_grad():
            sheet = torch.cat([torch.cat(list(row), dim=1) for row in PICTURES[name]()])
        picture = Image.fromarray((255 * sheet.clamp(0, 1)).round().byte().numpy())
        picture.save(options.folder / f"{name}.jpg", quality=JPEG_QUALITY)


if __name__ == "__main__":
    main()
