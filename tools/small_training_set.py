# SPDX-License-Identifier: Apache-2.0
"""The training set of img3d-small: meshes packed in one file, and what training reads, rendered from them once.

python tools/small_training_set.py pack --objects cc0_objects --file objects.npz   # the training split only
python tools/small_training_set.py pack --procedural 400 --file procedural.npz     # textured, round objects
python tools/small_training_set.py render --file objects.npz --folder outputs/small_set --processes 2
python tools/small_training_set.py render --file objects.npz --copies 3 --folder outputs/copies_set   # deformed copies

Rendering goes on where it stopped. The folder holds memory-mapped arrays, with a row for each of N objects:

- `images.npy`, uint8 [N, V, 128, 128, 7]: colours on black, alpha, normals (127 n + 128) in the object's frame, unlit
- `placements.npy`, float32 [N, V, 3, 4]: how the object is placed before the camera in each view
- `distances.npy`, uint8 [N, 64, 64, 64] (z, y, x): distance into the empty space, 128 on the surface, 255 at least
  0.1 outside and 0 at least 0.1 inside, in units of the object's frame [-1, 1]^3
- `points.npy`, float16 [N, 4096, 3], `colours.npy`, uint8, and `normals.npy`, int8, of the same shape: points on the
  visible surface
- `done.npy`, bool [N]
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.lib.format import open_memmap
from rich.progress import track
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_base.atomic_files import write_atomically
from img3d_generators.procedural_objects import procedural_mesh
from img3d_generators.small.objects import Light, ObjectMesh, ObjectPicture, input_camera, read_object

SIZE = 128
VIEWS = 12
ELEVATIONS = (-10.0, 40.0)
GRID = 64
TRUNCATION = 0.1
"""Distances are limited to this."""
DIRECTIONS, DEPTH_SIZE = 36, 128
"""Depth maps from which empty space is found, and their height and width in pixels."""
POINTS = 4096
STRETCH, TAPER, RECOLOUR = 0.4, 0.4, 0.4
"""Of deformed copies: largest logarithm of the stretch along each axis; largest change of the width from the middle to
the top; deviation of the logarithm of the factors by which colours change, the same for similar ones."""
BURIED = -0.05
"""Surface points that are deeper than this inside the object are inside it: no view shows them."""


def mesh_files(objects: Path, split: str = "train") -> list[Path]:
    """The meshes of a split; without an index.csv, all meshes of the folder."""
    index = objects / "index.csv"
    if not index.exists():
        return sorted(objects.glob("*.glb"))
    with index.open() as rows:
        return [objects / row["file"] for row in csv.DictReader(rows) if row["split"] == split]


def pack(named: Iterable[tuple[str, ObjectMesh]], file: Path) -> int:
    """Writes objects into one file. Returns their number."""
    arrays: dict[str, np.ndarray] = {}
    names = []
    for i, (name, shape) in enumerate(named):
        mesh = shape.mesh
        names.append(name)
        arrays[f"{i}.vertices"] = mesh.vertices.astype(np.float32)
        arrays[f"{i}.faces"] = mesh.faces.astype(np.int32)
        arrays[f"{i}.colors"] = (255 * mesh.colors).round().astype(np.uint8)
        if mesh.texture is not None and mesh.uvs is not None:
            arrays[f"{i}.uvs"], arrays[f"{i}.texture"] = mesh.uvs, mesh.texture
    arrays["names"] = np.array(names)
    with write_atomically(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    return len(names)


def deformed(shape: ObjectMesh, rng: np.random.Generator) -> ObjectMesh:
    """A copy that is stretched along its axes, tapers, and has other colours: another object of the same kind."""
    mesh = shape.mesh
    vertices = mesh.vertices * np.exp(rng.uniform(-STRETCH, STRETCH, 3))
    vertices[:, ::2] *= 1 + rng.integers(2) * rng.uniform(-TAPER, TAPER) * mesh.vertices[:, 1:2]
    lattice = np.linspace(0, 1, 4)
    factors = RegularGridInterpolator((lattice,) * 3, np.exp(rng.normal(scale=RECOLOUR, size=(4, 4, 4, 3))))
    colors = (mesh.colors * factors(mesh.colors.clip(0, 1))).clip(0, 1).astype(np.float32)
    return ObjectMesh.framed(replace(mesh, vertices=vertices, colors=colors))


def packed_object(arrays: Any, index: int) -> ObjectMesh:
    """An object of a packed file that was opened with `np.load`."""
    textured = f"{index}.texture" in arrays
    return ObjectMesh(
        Mesh(
            arrays[f"{index}.vertices"].astype(np.float64),
            arrays[f"{index}.faces"].astype(np.int64),
            (arrays[f"{index}.colors"] / 255).astype(np.float32),
            arrays[f"{index}.uvs"] if textured else None,
            arrays[f"{index}.texture"] if textured else None,
        )
    )


@dataclass
class Arrays:
    """The arrays of a folder, memory-mapped."""

    images: Any
    placements: Any
    distances: Any
    points: Any
    colours: Any
    normals: Any
    done: Any

    @staticmethod
    def of(folder: Path, count: int = 0) -> Arrays:
        """Opens the arrays of a folder.

        Args:
            folder: The folder.
            count: If not 0, they are made for that many objects where they are missing.
        """
        shapes = {
            "images": (np.uint8, (VIEWS, SIZE, SIZE, 7)),
            "placements": (np.float32, (VIEWS, 3, 4)),
            "distances": (np.uint8, (GRID, GRID, GRID)),
            "points": (np.float16, (POINTS, 3)),
            "colours": (np.uint8, (POINTS, 3)),
            "normals": (np.int8, (POINTS, 3)),
            "done": (np.bool_, ()),
        }
        found = {}
        for name, (dtype, shape) in shapes.items():
            path = folder / f"{name}.npy"
            if path.exists():
                found[name] = np.load(path, mmap_mode="r+" if count else "r")
            else:
                found[name] = open_memmap(path, "w+", dtype, (count, *shape))
        return Arrays(**found)

    def pictures(self, index: int, light: Light, every: int = 1) -> Float[Tensor, "V 4 S S"]:
        """An object's views, every so manieth one, on white in the light, and alpha."""
        raw = torch.from_numpy(np.array(self.images[index, ::every])).float()
        shown = ObjectPicture(raw[..., :3] / 255, raw[..., 3:4] / 255, (raw[..., 4:] - 128) / 127)
        return shown.lit(light)


def free_distances(shape: ObjectMesh) -> Float[Tensor, "D H W"]:
    """How far in front of the surface each point of a grid over [-1, 1]^3 is, seen from where that is most; negative
    inside.

    A point is inside if no view from outside sees through it: this also works for open and overlapping surfaces.
    Surfaces grow by about a pixel of the depth maps to their sides, so that thin parts survive.
    """
    steps = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    grid = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    golden = torch.arange(DIRECTIONS) * (np.pi * (3 - 5**0.5))
    height = 1 - (2 * torch.arange(DIRECTIONS) + 1) / DIRECTIONS
    backs = torch.stack([(1 - height**2).sqrt() * golden.cos(), height, (1 - height**2).sqrt() * golden.sin()], dim=-1)
    plane = (torch.arange(DEPTH_SIZE) + 0.5) / DEPTH_SIZE * 2 - 1
    v, u = torch.meshgrid(plane, plane, indexing="ij")
    free = torch.full((GRID**3,), -TRUNCATION)
    for back in backs:
        right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]), back), dim=0)
        up = torch.linalg.cross(back, right)
        origins = u.reshape(-1, 1) * right + v.reshape(-1, 1) * up + 2 * back
        depth = shape.scene.cast(origins, (-back).expand_as(origins)).depth.clamp(max=4.0)
        nearest = -max_pool2d(-depth.view(1, 1, DEPTH_SIZE, DEPTH_SIZE), 3, stride=1, padding=1)
        place = torch.stack([grid @ right, grid @ up], dim=-1)[None, None]
        found = grid_sample(nearest, place, mode="nearest", padding_mode="border", align_corners=False)[0, 0, 0]
        free = torch.maximum(free, found - (2 - grid @ back))
    return free.clamp(max=TRUNCATION).view(GRID, GRID, GRID)


def coded(distances: Float[Tensor, "D H W"]) -> UInt8[np.ndarray, "D H W"]:
    """Distances as they are stored."""
    return (distances / TRUNCATION * 127.5 + 127.5).round().clamp(0, 255).byte().numpy()


def placements(shape: ObjectMesh, rng: np.random.Generator) -> list[Tensor]:
    """Placements for `VIEWS` views from all around, none of them too foreshortened; the last choice is any that is
    not."""
    found, tries = [], 0
    while len(found) < VIEWS and tries < 20 * VIEWS:
        azimuth = (len(found) + rng.random()) / VIEWS * 360 if tries < 3 * VIEWS else rng.uniform(0, 360)
        placement = shape.placed(azimuth, rng.uniform(*ELEVATIONS))
        tries += 1
        if placement is not None:
            found.append(placement)
    return found * (1 if len(found) == VIEWS else VIEWS) if found else []


def render(file: Path, folder: Path, copies: int, index: int) -> None:
    """Makes the rows of one object, or of one of its `copies` deformed copies if there are to be any."""
    torch.set_num_threads(1)
    arrays = Arrays.of(folder, 1)
    if arrays.done[index]:
        return
    with np.load(file) as packed:
        shape = packed_object(packed, index // max(copies, 1))
    if copies:
        shape = deformed(shape, np.random.default_rng([index, copies]))
    found = placements(shape, np.random.default_rng(index))[:VIEWS]
    if not found:
        return
    distances = free_distances(shape)
    arrays.distances[index] = coded(distances)
    for view, placement in enumerate(found):
        picture = shape.pictures(placement, input_camera(), SIZE)
        parts = [255 * picture.premultiplied, 255 * picture.alpha, 127 * picture.normals + 128]
        arrays.images[index, view] = torch.cat(parts, dim=-1)[0].round().byte().numpy()
        arrays.placements[index, view] = placement.numpy()
    cloud = points_on_mesh(shape.mesh, 3 * POINTS, seed=index)
    places = torch.from_numpy(cloud.points).float()
    depth = grid_sample(distances[None, None], places[None, None, None], align_corners=False)[0, 0, 0, 0]
    seen = np.flatnonzero((depth > BURIED).numpy())
    chosen = np.random.default_rng(index).choice(seen, POINTS, replace=len(seen) < POINTS)
    arrays.points[index] = cloud.points[chosen]
    arrays.colours[index] = (255 * cloud.colors[chosen]).round().clip(0, 255)
    arrays.normals[index] = (127 * cloud.normals[chosen]).round()
    arrays.done[index] = True


def main() -> None:
    """Pack or render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    packing = commands.add_parser("pack", help="meshes → one file")
    source = packing.add_mutually_exclusive_group(required=True)
    source.add_argument("--objects", type=Path, help="folder of .glb files, with index.csv or without")
    source.add_argument("--procedural", type=int, help="that many of img3d's procedural objects, which are textured")
    packing.add_argument("--file", type=Path, required=True)
    rendering = commands.add_parser("render", help="one file → arrays")
    rendering.add_argument("--file", type=Path, required=True)
    rendering.add_argument("--folder", type=Path, required=True)
    rendering.add_argument("--copies", type=int, default=0, help="that many deformed copies of each object instead")
    rendering.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.command == "pack":
        if arguments.objects:
            paths = track(mesh_files(arguments.objects), "Packing")
            count = pack(((path.stem, read_object(path)) for path in paths), arguments.file)
        else:
            seeds = track(range(arguments.procedural), "Packing")
            made = ((f"procedural-{seed}", ObjectMesh.framed(procedural_mesh(seed))) for seed in seeds)
            count = pack(made, arguments.file)
        print(f"{count} objects, {arguments.file.stat().st_size / 1e6:.0f} MB")
        return
    with np.load(arguments.file) as packed:
        count = len(packed["names"]) * max(arguments.copies, 1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    Arrays.of(arguments.folder, count)
    order = np.random.default_rng(0).permutation(count)  # so that a part of the set has some of every kind
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        work = pool.imap_unordered(partial(render, arguments.file, arguments.folder, arguments.copies), order.tolist())
        for _ in track(work, "Rendering", total=count):
            pass
    print(f"{int(Arrays.of(arguments.folder).done.sum())} of {count} objects are in {arguments.folder}")


if __name__ == "__main__":
    main()
