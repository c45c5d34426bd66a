# SPDX-License-Identifier: Apache-2.0
"""Renders of what img3d-small makes of training objects, from other views of these objects, and their error."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.small.columns import ColumnNetwork
from img3d_generators.small.generator import gaussians_from

MIN_ERROR = 2e-3
"""Squared errors below this hardly count: the loss is the mean logarithm, as PSNR is."""


def camera_poses(placements: Float[Tensor, "*B V 3 4"]) -> Float[Tensor, "*B V 3 4"]:
    """Where the generator's camera is when it sees an object in each of these placements, in the world of the first.

    Args:
        placements: From the object's frame to the world.
    """
    scales = placements[..., 0].norm(dim=-1)[..., None, None]
    rotations = placements[..., :3] / scales
    camera = placements.new_tensor([[0], [0], [LGM_RADIUS]]) - placements[..., 3:]
    first = placements[..., :1, :, :]
    turns = rotations[..., :1, :, :] @ rotations.transpose(-1, -2)
    moved = scales[..., :1, :, :] / scales * turns @ camera + first[..., 3:]
    return torch.cat([turns, moved], dim=-1)


def mirrored_poses(poses: Float[Tensor, "*B 3 4"]) -> Float[Tensor, "*B 3 4"]:
    """The cameras that see the world's mirror image, with x negated, as these see the world, but for left and right."""
    x = poses.new_tensor([-1.0, 1, 1])
    return poses * x[:, None] * torch.cat([x, x.new_ones(1)])


def seen(
    network: ColumnNetwork,
    features: Float[Tensor, "N F"],
    picture: Float[Tensor, "4 S S"],
    poses: Float[Tensor, "V 3 4"],
) -> Float[Tensor, "V 4 S S"]:
    """What the network makes of a picture, seen from these poses: on white, and alpha."""
    found = gaussians_from(network, features, picture).render(poses, LGM_FOV, picture.shape[-1])
    return torch.cat(found, dim=3).permute(0, 3, 1, 2)


def errors(guess: Float[Tensor, "V 4 S S"], truth: Float[Tensor, "V 4 S S"]) -> Float[Tensor, "V"]:
    """Mean squared errors of the colours."""
    return (guess[:, :3] - truth[:, :3]).square().mean(dim=(1, 2, 3))


def view_scores(guess: Float[Tensor, "V 4 S S"], truth: Float[Tensor, "V 4 S S"]) -> Float[Tensor, "2"]:
    """Mean PSNR in dB and mean intersection over union of the silhouettes."""
    psnr = -10 * errors(guess.clamp(0, 1), truth).clamp(min=1e-6).log10()
    one, other = guess[:, 3] > 0.5, truth[:, 3] > 0.5
    overlap = (one & other).sum(dim=(1, 2)) / (one | other).sum(dim=(1, 2)).clamp(min=1)
    return torch.stack([psnr.mean(), overlap.mean()])
