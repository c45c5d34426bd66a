# SPDX-License-Identifier: Apache-2.0
"""How well img3d-tiny, with the weights that come with img3d, guesses objects that it was not trained on.

python benchmarks/tiny_model.py

PSNR at 128 x 128 on white, of novel views all around 100 held-out procedural objects, each given as one picture; beside
it what two simple guesses reach: the picture pasted on a plane through the object's middle, and the average of the
training set's pictures (a blob of its mean colour).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import grid_sample

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, normalised_to_first, plucker_rays
from img3d_generators.procedural_objects import ObjectViews, object_views
from img3d_generators.tiny import TINY_INPUT_SIZE, TinyLGM, load_tiny
from img3d_kernels.poses import focal_length

NOVEL_VIEWS = 8
SECTORS = {"front": (0, 60), "side": (60, 120), "back": (120, 180)}
"""Angles in degrees between the cameras' directions, seen from the object."""

Guess = Callable[[ObjectViews, Float[Tensor, "V 3 4"]], Float[Tensor, "V 3 S S"]]
"""From an object's views, the first of which is given, and all poses relative to it, to pictures of all poses."""


@dataclass
class Scores:
    """PSNR of one guess."""

    psnr: Float[Tensor, "objects views"]
    angles: Float[Tensor, "objects views"]
    """Between each view and the one that was given, in degrees."""

    def mean(self, sector: tuple[float, float] = (0, 180)) -> float:
        """Over all novel views whose angle is in the sector."""
        return self.psnr[(self.angles >= sector[0]) & (self.angles <= sector[1])].mean().item()


def from_model(model: TinyLGM) -> Guess:
    """What the network makes of the first view."""

    def guess(views: ObjectViews, poses: Float[Tensor, "V 3 4"]) -> Float[Tensor, "V 3 S S"]:
        rgb, _ = model.generate(views.rgba(0)).render(poses, LGM_FOV, TINY_INPUT_SIZE)
        return rgb.permute(0, 3, 1, 2)

    return guess


def from_plane(views: ObjectViews, poses: Float[Tensor, "V 3 4"]) -> Float[Tensor, "V 3 S S"]:
    """The first view as a cut-out on the plane z = 0, which faces its camera."""
    directions = plucker_rays(poses, LGM_FOV, TINY_INPUT_SIZE)[:, 3:].permute(0, 2, 3, 1)
    origins = poses[:, None, None, :, 3]
    distances = -origins[..., 2] / directions[..., 2]
    hits = (origins + distances[..., None] * directions)[..., :2]
    place = hits * torch.tensor([1.0, -1.0]) * focal_length(LGM_FOV, 2) / LGM_RADIUS  # from -1 to 1 over the picture
    place[distances <= 0] = 2.0  # the plane is behind the camera: nothing there
    cutout = torch.cat([views.rgb[:1] - (1 - views.alpha[:1]), views.alpha[:1]], dim=1)
    seen = grid_sample(cutout.expand(len(poses), -1, -1, -1), place, align_corners=False)
    return seen[:, :3] + 1 - seen[:, 3:]


def from_mean(num_objects: int = 200) -> Guess:
    """The average picture of as many training objects, whatever the view."""
    training = [object_views(seed, "train", 0, NOVEL_VIEWS).rgb.mean(dim=0) for seed in range(num_objects)]
    average = torch.stack(training).mean(dim=0)
    return lambda views, poses: average.expand(len(poses), -1, -1, -1)


def held_out_objects(count: int) -> Iterator[tuple[ObjectViews, Float[Tensor, "V 3 4"]]]:
    """Objects and their cameras relative to the first, which is the one to be given."""
    for seed in range(count):
        views = object_views(seed, "held-out", 1, NOVEL_VIEWS)
        yield views, normalised_to_first(views.camera_to_worlds)[0]


@torch.no_grad()
def scores(guesses: dict[str, Guess], num_objects: int) -> dict[str, Scores]:
    """Each guess on the same held-out objects."""
    novel = range(1, NOVEL_VIEWS + 1)
    psnr = {name: [] for name in guesses}
    angles = []
    for views, poses in track(held_out_objects(num_objects), "Held-out objects", total=num_objects):
        angles.append(poses[1:, 2, 2].clamp(-1, 1).acos().rad2deg())
        for name, guess in guesses.items():
            psnr[name].append(views.psnr(guess(views, poses)[1:], novel))
    return {name: Scores(torch.stack(rows), torch.stack(angles)) for name, rows in psnr.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100, help="number of held-out objects")
    arguments = parser.parse_args()
    guesses = {
        "img3d-tiny": from_model(load_tiny()),
        "the picture on a plane": from_plane,
        "the training set's mean": from_mean(),
    }
    table = Table("PSNR in dB of novel views", "all", *SECTORS, "worst object", "best object")
    for name, score in scores(guesses, arguments.objects).items():
        objects = score.psnr.mean(dim=1)
        cells = [score.mean(), *map(score.mean, SECTORS.values()), objects.min().item(), objects.max().item()]
        table.add_row(name, *(f"{value:.2f}" for value in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
