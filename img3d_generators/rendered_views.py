# SPDX-License-Identifier: Apache-2.0
"""Views from a generator that makes Gaussians in one step: renders of the Gaussians, and the image that they were made
from, if any."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.color_values import without_white
from img3d_generators.cameras import ZERO123PLUS_RIGS, orbit_camera_to_worlds
from img3d_generators.inputs import prepared_input
from img3d_generators.pairing import input_of
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import row

VIEW_SIZE = 320
"""Height and width of a view in pixels, as in Zero123++."""


def rendered_views(
    name: str, source: Path | str, seed: int = 0, size: int = VIEW_SIZE
) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
    """Makes seven views of an object: the image itself, if the generator looks at one from the front, and renders from
    Zero123++ v1.1's directions.

    Args:
        name: The name of a generator that makes Gaussians from an image or a text.
        source: An image file of one object; or the text, and then the first view is a render as well.
        seed: Random seed of the generator.
        size: Height and width of the views in pixels.

    Returns:
        The views, on white and with alpha; and the prepared input image, or the first view.

    Raises:
        InputError: The image cannot be used, or weights are missing.
    """
    generator = row(name)
    camera = input_of(generator)
    image = None if isinstance(source, str) else prepared_input(generator, source)
    made = generator.loaded()(source if image is None else image, seed)
    gaussians = ActivatedGaussians.of(made)
    if not generator.is_aligned:
        image = None
    rig = ZERO123PLUS_RIGS["v1.1"]
    poses = orbit_camera_to_worlds((0, *rig.azimuths), (0, *rig.elevations), camera.radius)
    rendered = poses if image is None else poses[1:]
    rgb, alpha = (
        pictures.permute(0, 3, 1, 2).clamp(0, 1)
        for pictures in gaussians.render(rendered, camera.fov, size, antialiased=made.antialiased)
    )
    if image is None:
        first = torch.cat([without_white(rgb[:1], alpha[:1]), alpha[:1]], dim=1)[0]
        return PosedViews(rgb, poses, camera.fov, alpha), first
    premultiplied = torch.cat([image[:3] * image[3:], image[3:]])[None]
    front = interpolate(premultiplied, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    pictures = torch.cat([front[:, :3] + 1 - front[:, 3:], rgb]).clamp(0, 1)
    return PosedViews(pictures, poses, camera.fov, torch.cat([front[:, 3:], alpha]).clamp(0, 1)), image
