# SPDX-License-Identifier: Apache-2.0
"""img3d-tiny: one picture with alpha → Gaussians, by a small U-Net of LGM's kind whose weights come with img3d.

The picture's pixels are spread over a few layers in depth, and the network says how each of these anchor Gaussians
moves and changes. It knows simple objects (`procedural_objects`) and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, plucker_rays
from img3d_generators.gaussians import Gaussians
from img3d_generators.lgm import VALUES_PER_GAUSSIAN, UNet, UNetConfig, activated
from img3d_generators.state_dicts import load_weights, read_state_dict

TINY_WEIGHTS = Path(__file__).with_name("tiny_weights.safetensors")
TINY_INPUT_SIZE = 128
CELL = 4
"""Height and width in pixels of what one of the U-Net's pixels sees."""
SPLIT = 2
"""Each of the U-Net's pixels gives SPLIT x SPLIT columns of Gaussians."""
LAYERS = (0.25, 0.08, -0.08, -0.25)
"""z of the anchors in a column; +z is towards the viewer."""
OFFSET_UNIT = 0.25
"""World units that an output of 1 moves an anchor by."""
ANCHOR_OPACITY = 1.0
"""Logit."""
ANCHOR_SCALE = -1.5
"""Before LGM's activation, which makes 0.02 of it: about the distance between columns."""
TINY_CONFIG = UNetConfig(
    in_channels=4 * CELL**2 + 6,
    out_channels=48,
    down_channels=(24, 48, 128, 192),
    down_attention=(False, False, False, True),
    up_channels=(192, 128, 48, 24),
    up_attention=(True, False, False, False),
    layers_per_block=1,
    num_groups=8,
)


class TinyLGM(nn.Module):
    """The network; its camera is LGM's: at (0, 0, 1.5), looking at the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(TINY_CONFIG)
        self.conv = nn.Conv2d(TINY_CONFIG.out_channels, SPLIT**2 * len(LAYERS) * VALUES_PER_GAUSSIAN, 1)
        nn.init.zeros_(self.conv.weight)  # training starts from the anchors as they are
        nn.init.zeros_(self.conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B 1 S S"]
    ) -> tuple[Float[Tensor, "B N 14"], Bool[Tensor, "B N"]]:
        """Gaussians before LGM's activations, and which of them belong to pixels of the object.

        Args:
            rgb: pictures on white, `TINY_INPUT_SIZE` square, in [0, 1].
            alpha: the object's coverage of each pixel.
        """
        batch, device = len(rgb), rgb.device
        pose = torch.eye(4, device=device)[None, :3]
        pose[0, 2, 3] = LGM_RADIUS
        rays = plucker_rays(pose, LGM_FOV, TINY_INPUT_SIZE // CELL).expand(batch, -1, -1, -1)
        pixels = pixel_unshuffle(2 * torch.cat([rgb, alpha], dim=1) - 1, CELL)
        change = self.conv(self.unet(torch.cat([pixels, rays], dim=1), num_views=1))
        change = pixel_shuffle(change, SPLIT).unflatten(1, (len(LAYERS), VALUES_PER_GAUSSIAN))

        coverage = avg_pool2d(alpha, CELL // SPLIT)
        colour = (avg_pool2d(rgb, CELL // SPLIT) - (1 - coverage)) / coverage.clamp(min=1e-3)  # without the white
        raw_colour = torch.atanh(2 * colour.clamp(0.02, 0.98) - 1)
        directions = plucker_rays(pose, LGM_FOV, TINY_INPUT_SIZE * SPLIT // CELL)[0, 3:]
        depths = LGM_RADIUS - torch.tensor(LAYERS, device=device)
        positions = directions / -directions[2] * depths[:, None, None, None] + pose[0, :, 3, None, None]

        moved = positions + OFFSET_UNIT * change[:, :, :3]
        opacity = ANCHOR_OPACITY + change[:, :, 3:4]
        scale = ANCHOR_SCALE + change[:, :, 4:7]
        rotation = torch.tensor([1.0, 0, 0, 0], device=device)[:, None, None] + change[:, :, 7:11]
        rgb_out = raw_colour[:, None] + change[:, :, 11:]
        raw = torch.cat([moved, opacity, scale, rotation, rgb_out], dim=2)
        mask = (coverage > 0.02).expand(-1, len(LAYERS), -1, -1)
        return raw.permute(0, 1, 3, 4, 2).flatten(1, 3), mask.flatten(1)

    @torch.no_grad()
    def generate(self, image: Float[Tensor, "4 S S"]) -> Gaussians:
        """The object's Gaussians, y up, with +z towards the viewer of the picture.

        Args:
            image: RGBA in [0, 1], not premultiplied, of any size; the longer side of the object should take about
                six tenths of its width, as in training.
        """
        alpha = image[3:]
        on_white = torch.cat([image[:3] * alpha + 1 - alpha, alpha])[None].to(self.conv.weight)
        size = (TINY_INPUT_SIZE, TINY_INPUT_SIZE)
        picture = interpolate(on_white, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        raw, mask = self(picture[:, :3], picture[:, 3:])
        return activated(raw[0, mask[0]].float()).pruned()


def load_tiny(path: Path = TINY_WEIGHTS) -> TinyLGM:
    """The network with its weights, in float32.

    Raises:
        InputError: the file is missing, damaged or for another network.
    """
    model = TinyLGM()
    load_weights(model, read_state_dict(path), path, torch.float32)
    return model
