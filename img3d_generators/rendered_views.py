# SPDX-License-Identifier: Apache-2.0
"""Views from a generator that makes Gaussians from an image in one step: the image itself, and renders of the
Gaussians."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_generators.cameras import ZERO123PLUS_RIGS, orbit_camera_to_worlds
from img3d_generators.image_preparation import prepared_image
from img3d_generators.pairing import input_of
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import row

VIEW_SIZE = 320
"""Height and width of a view in pixels, as in Zero123++."""


def rendered_views(
    name: str, path: Path, seed: int = 0, size: int = VIEW_SIZE
) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
    """Makes seven views of the object in an image: the image itself, and renders from Zero123++ v1.1's directions.

    Args:
        name: The name of a generator that makes Gaussians from an image.
        path: An image file of one object.
        seed: Random seed of the generator.
        size: Height and width of the views in pixels.

    Returns:
        The views, on white and with alpha, and the prepared input image.

    Raises:
        InputError: The image cannot be used, or weights are missing.
    """
    generator = row(name)
    camera = input_of(generator)
    image = prepared_image(path, camera.border_ratio)
    gaussians = ActivatedGaussians.of(generator.loaded()(image, seed))
    rig = ZERO123PLUS_RIGS["v1.1"]
    poses = orbit_camera_to_worlds((0, *rig.azimuths), (0, *rig.elevations), camera.radius)
    rgb, alpha = (pictures.permute(0, 3, 1, 2) for pictures in gaussians.render(poses[1:], camera.fov, size))
    premultiplied = torch.cat([image[:3] * image[3:], image[3:]])[None]
    front = interpolate(premultiplied, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    pictures = torch.cat([front[:, :3] + 1 - front[:, 3:], rgb]).clamp(0, 1)
    return PosedViews(pictures, poses, camera.fov, torch.cat([front[:, 3:], alpha]).clamp(0, 1)), image
