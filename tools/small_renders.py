# SPDX-License-Identifier: Apache-2.0
"""Renders of what img3d-small makes of a training object, from the other views of that object, and their error."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from small_training_set import Arrays
from torch import Tensor

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.small.columns import ColumnNetwork
from img3d_generators.small.generator import gaussians_from
from img3d_generators.small.objects import Light

OBJECTS, TARGETS = 4, 2
"""Objects of a step, and the views of each that are rendered."""
MIN_ERROR = 2e-3
"""Squared errors below this hardly count: the loss is the mean logarithm, as PSNR is."""
LIGHT_MEAN, LIGHT_SPREAD, MAX_STRENGTH = (0, 1, 0), (1, 0.6, 1), 0.7
"""Of the lights in training: mean and deviation of their directions before these are normalised; largest strength."""


def camera_poses(placements: Float[Tensor, "V 3 4"]) -> Float[Tensor, "V 3 4"]:
    """Where the generator's camera is when it sees an object in each of these placements, in the world of the first.

    Args:
        placements: From the object's frame to the world.
    """
    scales = placements[:, :, 0].norm(dim=1)[:, None, None]
    rotations = placements[:, :, :3] / scales
    camera = placements.new_tensor([[0], [0], [LGM_RADIUS]]) - placements[:, :, 3:]
    turns = rotations[0] @ rotations.transpose(1, 2)
    return torch.cat([turns, scales[0] / scales * turns @ camera + placements[0, :, 3:]], dim=2)


def seen(
    network: ColumnNetwork, arrays: Arrays, index: int, views: Int[np.ndarray, "V"], light: Light, device: torch.device
) -> tuple[Float[Tensor, "V 4 S S"], Float[Tensor, "V 4 S S"]]:
    """What the network makes of the first of these views, seen in all of them, and the truth: on white, and alpha."""
    truth = arrays.pictures(index, light)[views].to(device)
    poses = camera_poses(torch.from_numpy(arrays.placements[index][views]))
    guess = gaussians_from(network, truth[0]).render(poses, LGM_FOV, truth.shape[-1])
    return torch.cat(guess, dim=3).permute(0, 3, 1, 2), truth


def errors(guess: Float[Tensor, "V 4 S S"], truth: Float[Tensor, "V 4 S S"]) -> Float[Tensor, "V"]:
    """Mean squared errors of the colours."""
    return (guess[:, :3] - truth[:, :3]).square().mean(dim=(1, 2, 3))


def render_loss(
    network: ColumnNetwork,
    arrays: Arrays,
    objects: Int[np.ndarray, "N"],
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Mean logarithm of the error in other views of some of these objects, in a light of their own each."""
    losses = []
    for index in rng.choice(objects, OBJECTS):
        views = rng.permutation(arrays.images.shape[1])[: TARGETS + 1]
        x, y, z = rng.normal(LIGHT_MEAN, LIGHT_SPREAD).tolist()
        guess, truth = seen(network, arrays, index, views, Light((x, y, z), rng.uniform(0, MAX_STRENGTH)), device)
        losses.append((errors(guess[1:], truth[1:]) + MIN_ERROR).log().mean())
    return torch.stack(losses).mean()
