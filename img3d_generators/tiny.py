# SPDX-License-Identifier: Apache-2.0
"""img3d-tiny: makes Gaussians from one picture with alpha, by a small U-Net of LGM's kind whose weights come with
img3d.

The pixels of the picture are spread over a few layers in depth as anchor Gaussians, and the network predicts how
each of these moves and changes. It handles simple objects (`procedural_objects`) only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.color_values import without_white
from img3d_assets.gaussians import Gaussians
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, plucker_rays
from img3d_generators.lgm import VALUES_PER_GAUSSIAN, UNet, UNetConfig, activated
from img3d_generators.rows import TINY_GENERATOR
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

TINY_WEIGHTS = Path(__file__).with_name("tiny_weights.safetensors")
TINY_INPUT_SIZE = 128
CELL = 4
"""Height and width in pixels of the cell that one pixel of the U-Net covers."""
SPLIT = 2
"""Each pixel of the U-Net gives SPLIT x SPLIT columns of Gaussians."""
NUM_LAYERS = 4
"""Number of Gaussians in a column: the first on the object's front, the last on its back, the others evenly spaced
between."""
ANCHOR_DEPTH = 0.25
"""Distance of the front and back anchors from the middle."""
OFFSET_UNIT = 0.25
"""World units by which an output of 1 moves a Gaussian."""
ANCHOR_OPACITY = 2.0
"""Initial opacity, as a logit."""
ANCHOR_SCALE = -1.5
"""Initial scale before LGM's activation, which maps it to 0.02, about the distance between columns."""


class TinyLGM(nn.Module):
    """The network, as configs/img3d-tiny.yaml describes it. Its camera is LGM's: at (0, 0, 1.5), looking at the
    origin."""

    def __init__(self) -> None:
        super().__init__()
        config = UNetConfig(**checkpoint(TINY_GENERATOR).architecture)
        self.unet = UNet(config)
        self.conv = nn.Conv2d(config.out_channels, SPLIT**2 * NUM_LAYERS * VALUES_PER_GAUSSIAN, 1)
        nn.init.zeros_(self.conv.weight)  # training starts from the unchanged anchors
        nn.init.zeros_(self.conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B 1 S S"]
    ) -> tuple[Float[Tensor, "B N 14"], Bool[Tensor, "B N"]]:
        """Gaussians before LGM's activations, layer by layer, and which of them belong to pixels of the object.

        Args:
            rgb: Pictures on white, `TINY_INPUT_SIZE` square, in [0, 1].
            alpha: The object's coverage of each pixel.
        """
        batch, device = len(rgb), rgb.device
        pose = torch.eye(4, device=device)[None, :3]
        pose[0, 2, 3] = LGM_RADIUS
        rays = plucker_rays(pose, LGM_FOV, TINY_INPUT_SIZE // CELL).expand(batch, -1, -1, -1)
        pixels = pixel_unshuffle(2 * torch.cat([rgb, alpha], dim=1) - 1, CELL)
        change = self.conv(self.unet(torch.cat([pixels, rays], dim=1), num_views=1))
        change = pixel_shuffle(change, SPLIT).unflatten(1, (NUM_LAYERS, VALUES_PER_GAUSSIAN))

        coverage = avg_pool2d(alpha, CELL // SPLIT)
        colour = without_white(avg_pool2d(rgb, CELL // SPLIT), coverage)
        raw_colour = torch.atanh(2 * colour.clamp(0.02, 0.98) - 1)
        rays = plucker_rays(pose, LGM_FOV, TINY_INPUT_SIZE * SPLIT // CELL)[0, 3:]
        rays = rays / -rays[2:]
        offset = OFFSET_UNIT * change[:, :, :3]
        front, back = ANCHOR_DEPTH + offset[:, :1, 2:], -ANCHOR_DEPTH + offset[:, -1:, 2:]
        between = torch.linspace(0, 1, NUM_LAYERS, device=device)[:, None, None, None]
        z = front + between * (back - front) + ((between > 0) & (between < 1)) * offset[:, :, 2:]
        xy = rays[:2] * (LGM_RADIUS - z) + offset[:, :, :2]

        raw = torch.cat(
            [
                *(xy, z),
                ANCHOR_OPACITY + change[:, :, 3:4],
                ANCHOR_SCALE + change[:, :, 4:7],
                torch.tensor([1.0, 0, 0, 0], device=device)[:, None, None] + change[:, :, 7:11],
                raw_colour[:, None] + change[:, :, 11:],
            ],
            dim=2,
        )
        mask = (coverage > 0.02).expand(-1, NUM_LAYERS, -1, -1)
        return raw.permute(0, 1, 3, 4, 2).flatten(1, 3), mask.flatten(1)

    @torch.no_grad()
    def generate(self, image: Float[Tensor, "4 S S"]) -> ActivatedGaussians:
        """Generates the object's Gaussians, with +z towards the viewer of the picture and y up in it.

        An upright object photographed from above therefore leans towards the viewer, by the camera's elevation.

        Args:
            image: RGBA in [0, 1], straight alpha, of any size, with the checkpoint's border ratio (0.25 to 0.55 in
                training).
        """
        alpha = image[3:]
        on_white = torch.cat([image[:3] * alpha + 1 - alpha, alpha])[None].to(self.conv.weight)
        size = (TINY_INPUT_SIZE, TINY_INPUT_SIZE)
        picture = interpolate(on_white, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        raw, mask = self(picture[:, :3], picture[:, 3:])
        return activated(raw[0, mask[0]].float()).pruned()


def load_tiny(path: Path = TINY_WEIGHTS) -> TinyLGM:
    """Loads the network with its weights, in float32.

    Raises:
        InputError: The file is missing, damaged or for another network.
    """
    model = TinyLGM()
    load_weights(model, read_state_dict(path), path, torch.float32)
    return model


def tiny_gaussians(name: str) -> Callable[[Tensor, int], Gaussians]:
    """Loader of rows; `name` is the only checkpoint's."""
    network = load_tiny()
    return lambda image, seed: network.generate(image).asset(up="y")
