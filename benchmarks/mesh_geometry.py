# SPDX-License-Identifier: Apache-2.0
"""How near `img3d-export mesh` comes to objects whose surface and texture are known exactly.

Pictures of a textured mesh from cameras all around it train a method; what is exported from that run, in the original
frame, is compared with the mesh itself, and with pictures of it from 8 other cameras.

    python benchmarks/mesh_geometry.py spot
    python benchmarks/mesh_geometry.py spot --method img3d-ngp
    python benchmarks/mesh_geometry.py bob --preset fast --keep /some/folder
    python benchmarks/mesh_geometry.py spot --photos 12 --only "tsdf, renders"
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import open3d as o3d
import trimesh
from PIL import Image

from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_kernels.poses import focal_length

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("IMG3D_DATA", REPOSITORY.parent / "shared" / "data"))
OBJECTS = {"spot": ("spot.obj", "spot_texture.png"), "bob": ("bob_tri.obj", "bob_diffuse.png")}
VARIANTS = {
    "tsdf": (),
    "tsdf, renders": ("--texture", "renders"),
    "tsdf, watertight": ("--watertight",),
    "poisson": ("--surface", "poisson"),
    "poisson, watertight": ("--surface", "poisson", "--watertight"),
}
NUM_HELD_OUT = 8
SIZE, FOV = 400, 40.0
SUPERSAMPLING = 3
NUM_SAMPLES = 100_000
THRESHOLD = 0.01
"""Of the F-score, relative to the bounding box's diagonal."""

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


@dataclass
class TexturedMesh:
    """Triangles and what is painted on them."""

    vertices: FloatArray
    """`[N, 3]`."""
    faces: npt.NDArray[np.int64]
    """`[F, 3]`."""
    uvs: FloatArray
    """`[N, 2]`, the origin at the texture's lower left."""
    texture: Float32Array
    """`[H, W, 3]`, in [0, 1], the upper row first."""

    def scene(self) -> o3d.t.geometry.RaycastingScene:
        """For rays and distances."""
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(self.vertices.astype(np.float32), self.faces.astype(np.uint32))
        return scene

    def samples(self, seed: int = 0) -> Float32Array:
        """Points `[NUM_SAMPLES, 3]`, evenly on the surface."""
        mesh = trimesh.Trimesh(self.vertices, self.faces, process=False)
        return np.asarray(trimesh.sample.sample_surface(mesh, NUM_SAMPLES, seed=seed)[0], np.float32)


def load(path: Path, texture: Path | None = None) -> TexturedMesh:
    """A mesh file with one texture, in it or given."""
    mesh = trimesh.load(path, force="mesh", process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    visual: Any = mesh.visual
    if texture is None:
        image = visual.material.baseColorTexture
    else:
        image = Image.open(texture)
    pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    return TexturedMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), np.asarray(visual.uv), pixels)


def cameras_around(mesh: TexturedMesh, number: int, turn: float) -> FloatArray:
    """Poses `[number, 4, 4]` evenly around it, OpenGL axes.

    Args:
        mesh: What they look at; wholly in view.
        number: How many.
        turn: Of all of them about the vertical axis, in degrees: other cameras for another turn.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    distance = 1.05 * float(np.linalg.norm(high - low)) / 2 / math.sin(math.radians(FOV / 2))
    steps = np.arange(number)
    elevations = np.degrees(np.arcsin(1 - (2 * steps + 1) / number))
    azimuths = turn + steps * 180 * (3 - math.sqrt(5))
    poses = np.tile(np.eye(4), (number, 1, 1))
    poses[:, :3] = orbit_camera_to_worlds(azimuths.tolist(), elevations.tolist(), distance).numpy()
    poses[:, :3, 3] += (low + high) / 2
    return poses


def picture(mesh: TexturedMesh, scene: o3d.t.geometry.RaycastingScene, pose: FloatArray) -> Float32Array:
    """What a camera sees `[SIZE, SIZE, 4]`: colours times opacity, opacity."""
    fine = SIZE * SUPERSAMPLING
    steps = (np.arange(fine) + 0.5 - fine / 2) / focal_length(FOV, fine)
    x, y = np.meshgrid(steps, -steps)
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    rays = np.concatenate([np.broadcast_to(pose[:3, 3], directions.shape), directions], axis=-1)
    seen = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
    hit = np.isfinite(seen["t_hit"].numpy())
    u, v = np.moveaxis(seen["primitive_uvs"].numpy()[hit], -1, 0)
    corners = mesh.uvs[mesh.faces[seen["primitive_ids"].numpy()[hit]]]
    uv = (1 - u - v)[:, None] * corners[:, 0] + u[:, None] * corners[:, 1] + v[:, None] * corners[:, 2]
    height, width = mesh.texture.shape[:2]
    at = np.zeros((fine, fine, 2), np.float32)
    at[hit] = uv * [width, -height] + [-0.5, height - 0.5]
    colors = cv2.remap(mesh.texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore
    rgba = np.concatenate([colors, np.ones((fine, fine, 1), np.float32)], axis=-1) * hit[..., None]
    return rgba.reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING, 4).mean(axis=(1, 3))


def on_white(rgba: Float32Array) -> Float32Array:
    """`[H, W, 3]`."""
    return rgba[..., :3] + 1 - rgba[..., 3:]


def write_photos(mesh: TexturedMesh, number: int, folder: Path) -> None:
    """RGBA photos with a transforms.json."""
    (folder / "images").mkdir(parents=True)
    scene, frames = mesh.scene(), []
    for i, pose in enumerate(cameras_around(mesh, number, 0)):
        rgba = picture(mesh, scene, pose)
        rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
        name = f"images/{i:03d}.png"
        Image.fromarray(np.round(rgba * 255).astype(np.uint8)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    focal = focal_length(FOV, SIZE)
    camera = {"fl_x": focal, "fl_y": focal, "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE}
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))


def run(*command: object) -> float:
    """A command of this environment, which has to succeed; its seconds."""
    began = time.perf_counter()
    name, *arguments = map(str, command)
    binary = Path(sys.executable).parent / name
    result = subprocess.run(
        [binary, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        sys.exit(f"{name} failed:\n{result.stdout[-3000:]}")
    return time.perf_counter() - began


def psnr(squared_errors: Float32Array) -> float:
    """In decibels, of values in [0, 1]."""
    return float(-10 * np.log10(squared_errors.mean()))


def row(truth: TexturedMesh, path: Path) -> str:
    """What there is to say of an exported mesh."""
    mesh = load(path)
    diagonal = float(np.linalg.norm(truth.vertices.max(axis=0) - truth.vertices.min(axis=0)))
    to_truth = truth.scene().compute_distance(mesh.samples()).numpy() / diagonal
    to_mesh = mesh.scene().compute_distance(truth.samples()).numpy() / diagonal
    precision, recall = (to_truth <= THRESHOLD).mean(), (to_mesh <= THRESHOLD).mean()
    f_score = 2 * precision * recall / (precision + recall)
    errors, on_object = [], []
    scenes = truth.scene(), mesh.scene()
    for pose in cameras_around(truth, NUM_HELD_OUT, 40):
        reference, found = (picture(each, scene, pose) for each, scene in zip((truth, mesh), scenes, strict=True))
        error = (on_white(found) - on_white(reference)) ** 2
        errors.append(error)
        on_object.append(error[reference[..., 3] > 0])
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices(merge_tex=True, merge_norm=True)
    return (
        f"{100 * to_truth.mean():.3f} | {100 * to_mesh.mean():.3f} | {f_score:.4f} | {psnr(np.stack(errors)):.2f} | "
        f"{psnr(np.concatenate(on_object)):.2f} | {len(mesh.faces):,} | {'yes' if welded.is_watertight else 'no'}"
    )


def measure(name: str, variants: list[str], number: int, method: str, preset: str, folder: Path) -> None:
    """Train on pictures of one object, export it in each way, print a row for each."""
    obj, texture = (DATA / "meshes" / name / file for file in OBJECTS[name])
    truth = load(obj, texture)
    if not (folder / "photos").is_dir():
        write_photos(truth, number, folder / "photos")
    if not list(folder.glob("outputs/**/config.yml")):
        training = run(
            *("ns-train", method, "--output-dir", folder / "outputs", "--vis", "tensorboard"),
            *("--pipeline.model.preset", preset),
            *("img3d-photos", "--data", folder / "photos", "--eval-mode", "all"),
        )
        print(f"{name}: trained in {training:.0f} s, with starting and loading")
    (config,) = folder.glob("outputs/**/config.yml")
    print("| object | how | to truth % | to mesh % | F-score | PSNR dB | on object dB | faces | watertight | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for variant in variants:
        output = folder / f"{name} {variant}.glb"
        seconds = run(
            *("img3d-export", "mesh", "--load-config", config, "--output", output, "--original-frame", "--force"),
            *VARIANTS[variant],
        )
        print(f"| {name} | {variant} | {row(truth, output)} | {seconds:.0f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", nargs="?", choices=OBJECTS, help="default: both")
    parser.add_argument("--method", choices=["img3d-splat", "img3d-ngp"], default="img3d-splat")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--photos", type=int, default=60, help="how many pictures to train on")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS), help="ways of export")
    parser.add_argument("--keep", type=Path, help="folder for photos, runs and meshes; what is there is used again")
    arguments = parser.parse_args()
    if not (DATA / "meshes").is_dir():
        sys.exit(f"No data at {DATA / 'meshes'}: set IMG3D_DATA to the folder that holds it.")
    for name in [arguments.object] if arguments.object else OBJECTS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.keep or Path(temporary)) / name
            measure(name, arguments.only, arguments.photos, arguments.method, arguments.preset, folder)


if __name__ == "__main__":
    main()
