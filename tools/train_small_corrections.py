# SPDX-License-Identifier: Apache-2.0
"""Train the corrections of img3d-small's Gaussians by renders of other views; the rest of the network stays as it is.

python tools/train_small_corrections.py --set small_set --folder small

Goes on from the checkpoint of tools/train_small.py, and writes the result into it, in a few minutes on a CPU. Prints
PSNR and the silhouettes' intersection over union in other views of the validation objects, before and after.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from rich.progress import track
from small_training_set import Arrays
from train_small import SEED, Training, batch_of, features_of, render_loss, split, validate

from img3d_generators.small.columns import ColumnNetwork, column_rays

OBJECTS, OTHERS = 4, 4
"""Objects of a step, and other views of each."""
STEPS, PEAK_LR, WARMUP = 1000, 2e-3, 30
AVERAGING = 0.99
"""Share of the averaged weights that each step keeps."""


def train(
    network: ColumnNetwork, arrays: Arrays, objects: Int[np.ndarray, "N"], steps: int, device: torch.device
) -> None:
    """Trains the network's corrections, and leaves their average over the last steps in it."""
    network.requires_grad_(False)
    network.correction.requires_grad_()
    optimizer = torch.optim.Adam(network.correction.parameters(), betas=(0.9, 0.98))
    average = copy.deepcopy(network.correction)
    for step in track(range(steps), "Training"):
        rng = np.random.default_rng([SEED, step])
        optimizer.zero_grad()
        batch = batch_of(arrays, rng.choice(objects, OBJECTS), rng, device, others=OTHERS)
        render_loss(network, features_of(network, batch), batch).backward()
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        optimizer.step()
        keep = min(AVERAGING, step / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.correction.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
    network.correction.load_state_dict(average.state_dict())
    network.requires_grad_(False)


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder of tools/small_training_set.py render")
    parser.add_argument("--folder", type=Path, required=True, help="folder of tools/train_small.py")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2, help="threads of the CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arrays = Arrays.of(arguments.set)
    objects, others = split(arrays)
    training = Training.started(device)
    training.load(arguments.folder / "checkpoint.pt", device)
    network = training.average
    rays = column_rays().to(device)
    print("Before: {:.2f} dB, {:.3f}".format(*validate(network, arrays, others, rays)[3:]))
    train(network, arrays, objects, arguments.steps, device)
    print("After: {:.2f} dB, {:.3f}".format(*validate(network, arrays, others, rays)[3:]))
    for each in (training.network, training.working):
        each.correction.load_state_dict(network.correction.state_dict())
    training.save(arguments.folder / "checkpoint.pt")


if __name__ == "__main__":
    main()
