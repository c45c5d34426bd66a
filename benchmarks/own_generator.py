# SPDX-License-Identifier: Apache-2.0
"""How well our own generators guess objects that they were not trained on, from one picture of each.

python benchmarks/own_generator.py --objects cc0_objects
python benchmarks/own_generator.py --objects cc0_objects --set outputs/small_set --packed objects.npz --sheet sheet.png
python benchmarks/own_generator.py --objects my_packs --limit 20     # all .glb files of a folder without index.csv
python benchmarks/own_generator.py --procedural 100                  # img3d's procedural objects, which are textured

Of a folder with an index.csv, the objects whose split is "heldout". The given view has a random azimuth and an
elevation of 0 to 30 degrees; 8 others at 128 x 128 pixels lie around the object, at elevations of 0 and 30 degrees in
turns. An object's light is fixed to it. Every generator gets the picture in its own framing, and what it makes is
scaled back by that framing. The table has the mean of PSNR, SSIM and the silhouettes' intersection over union (in all,
and by the angle to the given view: front to 60 degrees, side to 120, back), and the Chamfer distance between the
surfaces that the views show, in per cent of the object's radius, at the best scale.

Beside the generators, two simple guesses: the picture on a plane through the object's middle; and, with --set and
--packed (tools/small_training_set.py), the training object with the most similar picture, as it stands there.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import avg_pool2d

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.color_values import without_white
from img3d_assets.gaussians import Gaussians
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.image_preparation import recentred, to_pil
from img3d_generators.pairing import choose, input_of
from img3d_generators.procedural_objects import procedural_mesh
from img3d_generators.registry import row
from img3d_generators.small.objects import (
    BORDER_RATIO,
    Light,
    ObjectMesh,
    around,
    input_camera,
    read_object,
)
from img3d_kernels.losses import l1_ssim
from img3d_kernels.poses import focal_length, intrinsics, viewmats

GIVEN_SIZE, SIZE = 256, 128
"""Height and width in pixels of the given picture and of the others."""
NOVEL_VIEWS = 8
RADIUS = 1.8
"""Distance of the other cameras, from which all of an object is seen."""
SECTORS = {"front": (0, 60), "side": (60, 120), "back": (120, 180)}
METRICS = {"PSNR": ".2f", "SSIM": ".3f", "IoU": ".3f"}
SCALES = np.geomspace(0.8, 1.25, 9)
CHAMFER_POINTS = 2048
SHEET_OBJECTS, SHEET_VIEWS = 24, (1, 3, 4, 6)
LIGHT = Light()


@dataclass
class Views:
    """Pictures of one object, real or guessed."""

    pictures: Float[Tensor, "V 4 S S"]
    """On white, and alpha."""
    surface: Float[np.ndarray, "N 3"]
    """Points of the world that they show."""


@dataclass
class Task:
    """One object: what is given, and what is to be guessed."""

    name: str
    given: Float[Tensor, "4 S S"]
    """Straight alpha."""
    placement: Float[Tensor, "3 4"]
    poses: Float[Tensor, "V 3 4"]
    truth: Views

    @property
    def angles(self) -> Float[Tensor, "V"]:
        """Between the given view and the others, in degrees, seen from the object's middle."""
        return (self.poses[:, 2, 2]).clamp(-1, 1).acos().rad2deg()


Guess = Callable[[Task], Views]


def task_of(name: str, shape: ObjectMesh, seed: int) -> Task | None:
    """The task of an object; None if it is foreshortened from everywhere."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        azimuth, elevation = rng.uniform(0, 360), rng.uniform(0, 30)
        placement = shape.placed(azimuth, elevation)
        if placement is not None:
            break
    else:
        return None
    azimuths = [azimuth + 22.5 + 360 * i / NOVEL_VIEWS for i in range(NOVEL_VIEWS)]
    poses = around(placement, azimuths, [0.0, 30.0] * (NOVEL_VIEWS // 2), RADIUS)
    picture = shape.pictures(placement, input_camera(), GIVEN_SIZE).lit(LIGHT)[0]
    given = torch.cat([without_white(picture[:3], picture[3:]), picture[3:]])
    return Task(name, given, placement, poses, views_of_mesh(shape, placement, poses))


def views_of_mesh(shape: ObjectMesh, placement: Float[Tensor, "3 4"], poses: Float[Tensor, "V 3 4"]) -> Views:
    """Renders a placed object."""
    picture = shape.pictures(placement, poses, SIZE)
    assert picture.depths is not None
    return Views(picture.lit(LIGHT), _surface(picture.depths[..., 0], picture.alpha[..., 0], poses))


def views_of_gaussians(gaussians: ActivatedGaussians, poses: Float[Tensor, "V 3 4"], antialiased: bool) -> Views:
    """Renders what a generator made."""
    count = len(poses)
    render, alpha, _ = gaussians.rasterized(
        viewmats(poses), intrinsics(LGM_FOV, SIZE).repeat(count, 1, 1), SIZE, SIZE, antialiased, render_mode="RGB+ED"
    )
    rgb = (render[..., :3] + 1 - alpha).clamp(0, 1)
    pictures = torch.cat([rgb, alpha.clamp(0, 1)], dim=-1).permute(0, 3, 1, 2)
    return Views(pictures, _surface(render[..., 3], alpha[..., 0], poses))


def _surface(
    depths: Float[Tensor, "V S S"], alpha: Float[Tensor, "V S S"], poses: Float[Tensor, "V 3 4"]
) -> Float[np.ndarray, "N 3"]:
    """World coordinates of what pixels show that are at least half covered."""
    steps = (torch.arange(SIZE) + 0.5 - SIZE / 2) / focal_length(LGM_FOV, SIZE)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    rays = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
    points = torch.einsum("vij,vhwj->vhwi", poses[:, :, :3], rays * depths[..., None]) + poses[:, None, None, :, 3]
    return points[alpha > 0.5].numpy()


def from_generator(name: str) -> Guess:
    """What the generator of that name makes of the given view."""
    choice = choose(name)
    camera = input_of(row(choice.view_generator))
    loaded = None if choice.has_stages else choice.generator.loaded()
    ours, theirs = (
        radius * (1 - border) / focal_length(fov, 1)
        for radius, border, fov in (
            (LGM_RADIUS, BORDER_RATIO, LGM_FOV),
            (camera.radius, camera.border_ratio, camera.fov),
        )
    )

    def guess(task: Task) -> Views:
        if loaded is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "given.png")
                to_pil(task.given).save(path)
                made = generate(name, path)
        else:
            pixels = recentred(np.asarray(to_pil(task.given)), camera.border_ratio, 512, Path(task.name))
            made = loaded(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, 0)
        if not isinstance(made, Gaussians):
            raise InputError(f"{name} makes no Gaussians")
        gaussians = ActivatedGaussians.of(made)
        gaussians.means, gaussians.scales = gaussians.means * ours / theirs, gaussians.scales * ours / theirs
        return views_of_gaussians(gaussians, task.poses, made.antialiased)

    return guess


def from_plane(task: Task) -> Views:
    """The given picture as flat Gaussians on the plane z = 0."""
    size = SIZE
    picture = avg_pool2d(torch.cat([task.given[:3] * task.given[3:], task.given[3:]])[None], GIVEN_SIZE // size)[0]
    steps = (torch.arange(size) + 0.5 - size / 2) / focal_length(LGM_FOV, size) * LGM_RADIUS
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    shown = picture[3] > 0.5
    width = float(steps[1] - steps[0])
    count = int(shown.sum())
    gaussians = ActivatedGaussians(
        torch.stack([x, y, torch.zeros_like(x)], dim=-1)[shown],
        torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        width * torch.tensor([[0.5, 0.5, 0.05]]).repeat(count, 1),
        torch.full((count,), 0.97),
        (picture[:3] / picture[3:].clamp(min=1e-3)).permute(1, 2, 0)[shown],
    )
    return views_of_gaussians(gaussians, task.poses, False)


def from_nearest(folder: Path, packed: Path) -> Guess:
    """The training object whose picture, of all rendered ones, is most similar to the given one."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    from small_training_set import Arrays, packed_object  # pyright: ignore[reportMissingImports]

    arrays = Arrays.of(folder)
    meshes = np.load(packed)
    objects = np.flatnonzero(arrays.done)
    index = []
    for i in track(objects, "Training pictures"):
        index.append(_reduced(arrays.pictures(i, LIGHT)))
    known = torch.stack(index)

    def guess(task: Task) -> Views:
        given = torch.cat([task.given[:3] * task.given[3:] + 1 - task.given[3:], task.given[3:]])[None]
        distances = (known - _reduced(given)).square().sum(dim=2)
        best = int(distances.argmin())
        found, view = int(objects[best // known.shape[1]]), best % known.shape[1]
        placement = torch.from_numpy(np.array(arrays.placements[found, view]))
        return views_of_mesh(packed_object(meshes, found), placement, task.poses)

    return guess


def _reduced(pictures: Float[Tensor, "V 4 S S"]) -> Float[Tensor, "V F"]:
    return avg_pool2d(pictures, pictures.shape[-1] // 32).flatten(1)


def chamfer(guess: Float[np.ndarray, "N 3"], truth: Float[np.ndarray, "M 3"], seed: int = 0) -> float:
    """Mean distance of each surface from the other, averaged over both directions, at the best scale about the
    truth's middle."""
    rng = np.random.default_rng(seed)
    if not len(guess):
        return float("nan")
    one, other = (each[rng.integers(len(each), size=CHAMFER_POINTS)] for each in (guess, truth))
    middle = (other.min(axis=0) + other.max(axis=0)) / 2
    tree = KDTree(other)
    found = []
    for scale in SCALES:
        moved = middle + scale * (one - middle)
        found.append((tree.query(moved)[0].mean() + KDTree(moved).query(other)[0].mean()) / 2)
    return float(min(found))


def scores(guess: Views, truth: Views) -> Float[Tensor, "V 3"]:
    """PSNR, SSIM and the silhouettes' intersection over union of each view."""
    one, other = guess.pictures, truth.pictures
    psnr = -10 * (one[:, :3] - other[:, :3]).square().mean(dim=(1, 2, 3)).clamp(min=1e-6).log10()
    ssim = torch.stack(
        [
            1 - l1_ssim(a.permute(1, 2, 0).contiguous(), b.permute(1, 2, 0).contiguous(), 1.0)
            for a, b in zip(one[:, :3], other[:, :3], strict=True)
        ]
    )
    a, b = one[:, 3] > 0.5, other[:, 3] > 0.5
    overlap = (a & b).sum(dim=(1, 2)) / (a | b).sum(dim=(1, 2)).clamp(min=1)
    return torch.stack([psnr, ssim, overlap], dim=1)


def objects_of(folder: Path) -> list[Path]:
    """The held-out objects of a folder with an index.csv, or all of another.

    Raises:
        InputError: There are none.
    """
    index = folder / "index.csv"
    if index.exists():
        with index.open() as file:
            found = [folder / row["file"] for row in csv.DictReader(file) if row["split"] == "heldout"]
    else:
        found = sorted(folder.rglob("*.glb"))
    if not found:
        raise InputError(f"{folder} has no held-out objects in an index.csv, and no .glb files")
    return found


def sheet_row(task: Task, views: Views) -> Tensor:
    """The given picture, four guessed views, and the truth of these."""
    given = avg_pool2d(task.given[:3] * task.given[3:] + 1 - task.given[3:], GIVEN_SIZE // SIZE)
    chosen = list(SHEET_VIEWS)
    return torch.cat([given, *views.pictures[chosen, :3], *task.truth.pictures[chosen, :3]], dim=2)


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    objects = parser.add_mutually_exclusive_group(required=True)
    objects.add_argument("--objects", type=Path, help="folder of .glb files")
    objects.add_argument("--procedural", type=int, help="that many held-out procedural objects")
    parser.add_argument("--generators", nargs="+", default=["img3d-small"])
    parser.add_argument("--set", type=Path, help="rendered training set, for the nearest training object")
    parser.add_argument("--packed", type=Path, help="the packed meshes that it was rendered from")
    parser.add_argument("--limit", type=int, default=0, help="number of objects, chosen by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="PNG of 24 objects, chosen by the seed")
    arguments = parser.parse_args(argv)
    sources: Sequence[Path | int]
    sources = range(arguments.procedural) if arguments.objects is None else objects_of(arguments.objects)
    order = np.random.default_rng(arguments.seed).permutation(len(sources))
    sources = [sources[i] for i in (order[: arguments.limit] if arguments.limit else order)]
    guesses = {name: from_generator(name) for name in arguments.generators}
    guesses["the image on a plane"] = from_plane
    if arguments.set is not None and arguments.packed is not None:
        guesses["the nearest training object"] = from_nearest(arguments.set, arguments.packed)

    found: dict[str, list[Tensor]] = {name: [] for name in guesses}
    distances: dict[str, list[float]] = {name: [] for name in guesses}
    angles, sheet = [], []
    for i, source in enumerate(track(sources, "Held-out objects")):
        shape = (
            read_object(source) if isinstance(source, Path) else ObjectMesh.framed(procedural_mesh(source, "held-out"))
        )
        task = task_of(str(source), shape, arguments.seed + i)
        if task is None:
            continue
        angles.append(task.angles)
        for name, guess in guesses.items():
            views = guess(task)
            found[name].append(scores(views, task.truth))
            size = float(task.placement[:, 0].norm())
            distances[name].append(100 / size * chamfer(views.surface, task.truth.surface))
            if name == arguments.generators[0] and len(sheet) < SHEET_OBJECTS:
                sheet.append(sheet_row(task, views))
    angle = torch.stack(angles)
    console = Console()
    for metric, (label, form) in enumerate(METRICS.items()):
        table = Table(f"{label} of {len(angle)} objects", "all", *SECTORS)
        for name in guesses:
            values = torch.stack(found[name])[..., metric]
            sectors = [values[(angle >= low) & (angle < high)].mean() for low, high in SECTORS.values()]
            table.add_row(name, *(f"{float(value):{form}}" for value in [values.mean(), *sectors]))
        console.print(table)
    table = Table("Chamfer distance, % of the radius", "mean", "median")
    for name in guesses:
        table.add_row(name, f"{np.nanmean(distances[name]):.2f}", f"{np.nanmedian(distances[name]):.2f}")
    console.print(table)
    if arguments.sheet is not None:
        half = (len(sheet) + 1) // 2
        columns = [torch.cat(part, dim=1) for part in (sheet[:half], sheet[half:]) if part]
        height = max(column.shape[1] for column in columns)
        padded = [
            torch.nn.functional.pad(column, (0, 16, 0, height - column.shape[1]), value=1.0) for column in columns
        ]
        pixels = (255 * torch.cat(padded, dim=2)).round().byte().permute(1, 2, 0).numpy()
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(arguments.sheet)


if __name__ == "__main__":
    main()
