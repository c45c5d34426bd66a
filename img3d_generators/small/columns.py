# SPDX-License-Identifier: Apache-2.0
"""The network of img3d-small, which predicts occupancy and colour along the rays of a picture.

A U-Net of the whole picture, with what an encoder that was pretrained on ImageNet sees in it, gives each cell of 4 x 4
pixels a vector of features. From this, a linear layer predicts the cell's 2 x 2 columns: the occupancy at each of 64
depths, and the colour at every second one. Another one says how opaque and wide the Gaussians there have to be. So the
volume has the picture's perspective, and is empty outside the silhouette by construction.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, pixel_unshuffle, silu

from img3d_assets.color_values import without_white
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.lgm import UNet, UNetConfig
from img3d_generators.networks.efficientnet_lite import FEATURES, EfficientNetLite
from img3d_generators.small.objects import MAX_RADIUS
from img3d_kernels.poses import focal_length

INPUT_SIZE, ENCODER_SIZE = 128, 256
"""Height and width in pixels of the picture, and of what the encoder gets, which was trained on pictures of 224."""
CELL, SPLIT = 4, 2
"""Height and width in pixels of a cell, and the columns along each of its sides."""
CELLS = INPUT_SIZE // CELL
COLUMNS = CELLS * SPLIT
"""Columns along each side of the picture."""
DEPTHS, COLOURS = 64, 32
"""Depths of a column at which occupancy and colour are predicted."""
MIN_COVERAGE = 0.02
"""Columns of which the object covers a smaller share are not trained."""
EMPTY_AT_FIRST = -2.0
"""Initial logit of the occupancy."""
CORRECTIONS = 3
"""Values that correct the Gaussians of a bin: see `surface.gaussians_of`."""


class ColumnNetwork(nn.Module):
    """The network. Its output is in the world of its camera, which is at (0, 0, 1.5)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        self.encoder = EfficientNetLite().requires_grad_(False)
        levels = config.down_channels[0], *config.down_channels[:-1]
        self.adapters = nn.ModuleList(nn.Conv2d(sum(FEATURES.values()), channels, 1) for channels in levels)
        self.head = nn.Linear(config.out_channels, SPLIT**2 * (DEPTHS + 3 * COLOURS))
        self.correction = nn.Linear(config.out_channels, SPLIT**2 * DEPTHS * CORRECTIONS)
        for layer in (self.head, self.correction, self.adapters):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        with torch.no_grad():
            self.head.bias.view(SPLIT**2, -1)[:, :DEPTHS] = EMPTY_AT_FIRST

    def features(self, picture: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B N F"]:
        """The vector of each of N cells, row by row.

        Args:
            picture: Colours on white, and alpha, in [0, 1].
        """
        steps = torch.linspace(-1, 1, CELLS, device=picture.device, dtype=picture.dtype)
        place = torch.stack(torch.meshgrid(steps, steps, indexing="ij")).expand(len(picture), -1, -1, -1)
        pixels = torch.cat([pixel_unshuffle(2 * picture - 1, CELL), place], dim=1)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        encoded, sizes = self.encoded(picture), [CELLS // 2**level for level in range(len(self.adapters))]
        added = [
            adapter(torch.cat([_resized(each, size) for each in encoded], dim=1))
            for adapter, size in zip(self.adapters, sizes, strict=True)
        ]
        return silu(self.unet(pixels, num_views=1, added=added)).permute(0, 2, 3, 1).flatten(1, 2)

    @torch.no_grad()
    def encoded(self, picture: Float[Tensor, "B 4 S S"]) -> list[Float[Tensor, "B C h w"]]:
        """What the encoder sees in the picture; the second of its features has the size of the cells."""
        large = interpolate(2 * picture[:, :3] - 1, (ENCODER_SIZE,) * 2, mode="bilinear", align_corners=False)
        return self.encoder(large.contiguous(memory_format=torch.channels_last))

    def columns(
        self, features: Float[Tensor, "M F"], colours: Float[Tensor, "M K 3"]
    ) -> tuple[Float[Tensor, "M K D"], Float[Tensor, "M K C 3"]]:
        """Logits of the occupancy of the K columns of M cells, front to back, and their colours.

        Args:
            features: The vectors of the cells.
            colours: The picture's colour in each column, to which the prediction is added.
        """
        raw = self.head(features).unflatten(1, (SPLIT**2, -1)).float()
        return raw[..., :DEPTHS], colours[:, :, None] + raw[..., DEPTHS:].unflatten(2, (COLOURS, 3))

    def corrections(self, features: Float[Tensor, "M F"]) -> Float[Tensor, "M K D E"]:
        """Corrections of the Gaussians in the K columns of M cells, 0 at first.

        Args:
            features: The vectors of the cells.
        """
        return self.correction(features).unflatten(1, (SPLIT**2, DEPTHS, CORRECTIONS)).float()


def _resized(values: Float[Tensor, "B C h w"], size: int) -> Float[Tensor, "B C s s"]:
    if values.shape[-1] > size:
        return adaptive_avg_pool2d(values, size)
    return interpolate(values, (size, size), mode="bilinear", align_corners=False)


def in_cells(values: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N K C"]:
    """Values of all columns, `[COLUMNS, COLUMNS]`, by cell."""
    return (
        values.unflatten(3, (CELLS, SPLIT))
        .unflatten(2, (CELLS, SPLIT))
        .permute(0, 2, 4, 3, 5, 1)
        .flatten(1, 2)
        .flatten(2, 3)
    )


def in_volume(values: Float[Tensor, "N K *C"]) -> Float[Tensor, "H W *C"]:
    """The inverse of `in_cells`, for one picture, with channels last."""
    rows = values.unflatten(0, (CELLS, CELLS)).unflatten(2, (SPLIT, SPLIT))
    return rows.transpose(1, 2).flatten(0, 1).flatten(1, 2)


def column_inputs(
    picture: Float[Tensor, "B 4 S S"], min_coverage: float = MIN_COVERAGE
) -> tuple[Float[Tensor, "B N K 3"], Bool[Tensor, "B N K"]]:
    """The picture's colour in each column, and which columns the object covers.

    Args:
        picture: Colours on white, and alpha, in [0, 1].
        min_coverage: Minimum share of a column that the object covers.
    """
    small = avg_pool2d(picture, CELL // SPLIT)
    cells = in_cells(torch.cat([without_white(small[:, :3], small[:, 3:]), small[:, 3:]], dim=1))
    return cells[..., :3], cells[..., 3] > min_coverage


def column_rays() -> Float[Tensor, "N K 2"]:
    """x and y of the ray through the middle of each column, at distance 1 from the camera."""
    steps = (torch.arange(COLUMNS) + 0.5 - COLUMNS / 2) / focal_length(LGM_FOV, COLUMNS)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    return in_cells(torch.stack([x, y])[None])[0]


def depths(count: int = DEPTHS) -> Float[Tensor, "D"]:
    """z of the middle of each bin of a column, from front to back."""
    return MAX_RADIUS * (1 - (2 * torch.arange(count) + 1) / count)


def points_in_columns(rays: Float[Tensor, "*M 2"]) -> Float[Tensor, "*M D 3"]:
    """World coordinates of the middles of all bins of columns with these rays."""
    z = depths().to(rays).expand(*rays.shape[:-1], -1)
    return torch.cat([rays[..., None, :] * (LGM_RADIUS - z[..., None]), z[..., None]], dim=-1)


def bins_of(
    points: Float[Tensor, "*M 3"],
) -> tuple[Int[Tensor, "*M"], Int[Tensor, "*M"], Int[Tensor, "*M"], Bool[Tensor, "*M"]]:
    """The cell, the column in the cell and the bin of colours of each point, and whether the point is in any."""
    focal = focal_length(LGM_FOV, COLUMNS)
    distance = LGM_RADIUS - points[..., 2]
    column = (points[..., 0] / distance * focal + COLUMNS / 2).floor().long()
    row = (-points[..., 1] / distance * focal + COLUMNS / 2).floor().long()
    bin_ = ((1 - points[..., 2] / MAX_RADIUS) / 2 * COLOURS).floor().long()
    inside = (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < COLUMNS) & (bin_ >= 0) & (bin_ < COLOURS)
    column, row, bin_ = column.clamp(0, COLUMNS - 1), row.clamp(0, COLUMNS - 1), bin_.clamp(0, COLOURS - 1)
    cell = row // SPLIT * CELLS + column // SPLIT
    return cell, row % SPLIT * SPLIT + column % SPLIT, bin_, inside
