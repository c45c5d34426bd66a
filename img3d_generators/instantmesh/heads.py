# SPDX-License-Identifier: Apache-2.0
"""InstantMesh's heads, which decode the planes: to density and colour, or to a mesh by FlexiCubes.

The planes' box is [-1, 1]^3 in the network's world, in which z is up.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from img3d_assets.fields.plane_sampling import features_at, projections_of_grid
from img3d_assets.fields.triplane import POINTS_AT_A_TIME, FieldMlp, TriplaneField, TriplaneLayout, mlp
from img3d_assets.mesh import Mesh
from img3d_assets.meshing.field_surface import painted
from img3d_assets.meshing.flexicubes import NUM_WEIGHTS, corners_of, flexicubes, surface_cubes
from img3d_base.errors import warn

HIDDEN_LAYERS = 3
COLOR_MARGIN = 0.001
"""Predicted colours can be this far outside of [0, 1]."""
LAYOUT = TriplaneLayout(
    axes=((0, 1), (0, 2), (2, 1)),
    density_activation="softplus",
    density_bias=-1.0,
    surface_density=10.0,
    color_margin=COLOR_MARGIN,
)
"""Layout of the planes, and activation of the density."""
WEIGHT_SCALE = 0.5
"""FlexiCubes' `weight_scale`, as in training."""
WEIGHT_FACTOR = 0.1
"""Factor from the network's outputs to FlexiCubes' weights."""
MAX_DEFORMATION = 0.25
"""Maximum movement of the grid's vertices along an axis, in cells of a grid of side 1."""
ROUNDED_TO = 5
"""Decimals of the grid's coordinates, in a grid of side 1."""
CUBES_AT_A_TIME = 1 << 12
"""Number of cubes whose features (240 for each of eight corners) and hidden values fit into a core's cache."""


class Texels:
    """Planes with contiguous features of each texel, to sample them quickly."""

    def __init__(self, planes: Float[Tensor, "3 C H W"]) -> None:
        self.size = (planes.shape[2], planes.shape[3])
        self.rows = planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1]).contiguous()

    def features(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        """The features at points in [-1, 1]^3."""
        parts = [features_at(self.rows, self.size, LAYOUT.axes, part) for part in points.split(POINTS_AT_A_TIME)]
        return torch.cat([self.rows.new_empty(0, 3 * self.rows.shape[1]), *parts])


class FieldHead(nn.Module):
    """Decodes planes to density and colour."""

    def __init__(self, plane_channels: int, channels: int) -> None:
        super().__init__()
        self.net = mlp(3 * plane_channels, channels, HIDDEN_LAYERS, 4, "relu")

    def field(self, planes: Float[Tensor, "3 C H W"]) -> TriplaneField:
        """The field of finished planes, with z up, on the CPU. The weights are copied."""
        first = self.net[0]
        assert isinstance(first, nn.Linear)
        reader = FieldMlp(first.in_features, first.out_features, HIDDEN_LAYERS, "relu")
        reader.layers.load_state_dict(self.net.state_dict())
        return TriplaneField(planes.float().cpu(), reader, LAYOUT, torch.eye(3), up="z")


class MeshHead(nn.Module):
    """Decodes planes to signed distances (negative inside), colours and deformations of a grid's vertices, and weights
    of its cubes.

    Args:
        plane_channels: Channels of a plane.
        channels: Width of the hidden layers.
    """

    def __init__(self, plane_channels: int, channels: int) -> None:
        super().__init__()
        features = 3 * plane_channels
        self.net_sdf = mlp(features, channels, HIDDEN_LAYERS, 1, "relu")
        self.net_rgb = mlp(features, channels, HIDDEN_LAYERS, 3, "relu")
        self.net_deformation = mlp(features, channels, HIDDEN_LAYERS, 3, "relu")
        self.net_weight = mlp(8 * features, channels, HIDDEN_LAYERS, NUM_WEIGHTS, "relu")

    @torch.no_grad()
    def mesh(self, planes: Float[Tensor, "3 C H W"], resolution: int, scale: float, texture_size: int = 0) -> Mesh:
        """The mesh with vertex colours, and with a texture if `texture_size` is not 0; z up.

        Args:
            planes: Finished planes.
            resolution: Cubes along each side of the grid.
            scale: The grid's side.
            texture_size: Height and width of the texture; 0: none.
        """
        texels = Texels(planes)
        side = grid_side(resolution, scale).to(planes)
        values = self.distances(planes, side).cpu()
        if (changed := with_a_surface(values)) is not values:
            warn("the network made no surface of these views: the mesh is an empty shell")
        values = changed.numpy()
        cubes = surface_cubes(values)
        corners = corners_of(cubes)
        numbers, of_corner = np.unique(
            np.ravel_multi_index(tuple(np.moveaxis(corners, -1, 0)), values.shape), return_inverse=True
        )
        of_corner = of_corner.reshape(corners.shape[:2])
        points = side[torch.from_numpy(np.stack(np.unravel_index(numbers, values.shape), axis=1)).to(side.device)]
        features = texels.features(points)
        positions = (points + self.deformations(features, resolution)).cpu().numpy()
        weights = self.weights(features, torch.from_numpy(of_corner).to(features.device)).cpu().numpy()
        made = flexicubes(cubes, values.ravel()[numbers][of_corner], positions[of_corner], weights, WEIGHT_SCALE)

        def color_at(points: Float[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 3"]:
            return self.colors(texels, torch.from_numpy(points).to(planes)).clamp(0, 1).cpu().numpy()

        mesh = Mesh(made.vertices, made.faces, color_at(made.vertices), up="z")
        return painted(mesh, color_at, texture_size) if texture_size > 0 else mesh

    def distances(self, planes: Float[Tensor, "3 C H W"], side: Float[Tensor, "N"]) -> Float[Tensor, "N N N"]:
        """The signed distances at a grid's vertices.

        Args:
            planes: Finished planes.
            side: The vertices' coordinates, the same along each axis.
        """
        first, *others = self.net_sdf
        assert isinstance(first, nn.Linear)
        of_planes = first.weight.chunk(3, dim=1)
        parts = [
            part @ weight.T
            for part, weight in zip(projections_of_grid(planes, LAYOUT.axes, side), of_planes, strict=True)
        ]
        rest = nn.Sequential(*others)
        found = side.new_empty(len(side), len(side), len(side))
        for x in range(len(side)):
            hidden = first.bias
            for part in parts:
                hidden = hidden + part[x if len(part) > 1 else 0]
            found[x] = rest(hidden)[..., 0]
        return found

    def deformations(self, features: Float[Tensor, "N F"], resolution: int) -> Float[Tensor, "N 3"]:
        """The movements of the grid's vertices."""
        raw = torch.cat([self.net_deformation(part) for part in features.split(POINTS_AT_A_TIME)])
        return raw.tanh() * (MAX_DEFORMATION / resolution)

    def weights(self, features: Float[Tensor, "N F"], corners: Int[Tensor, "S 8"]) -> Float[Tensor, "S 21"]:
        """FlexiCubes' weights of cubes.

        Args:
            features: Features of the corners.
            corners: For each cube, the rows of its corners in `features`.
        """
        parts = [self.net_weight(features[part].flatten(1)) for part in corners.split(CUBES_AT_A_TIME)]
        return torch.cat([features.new_empty(0, NUM_WEIGHTS), *parts]) * WEIGHT_FACTOR

    def colors(self, texels: Texels, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB at points; it can exceed [0, 1] by `COLOR_MARGIN`."""
        parts = [self.net_rgb(texels.features(part)).sigmoid() for part in points.split(POINTS_AT_A_TIME)]
        return torch.cat([points.new_empty(0, 3), *parts]) * (1 + 2 * COLOR_MARGIN) - COLOR_MARGIN


def grid_side(resolution: int, scale: float) -> Float[Tensor, "N"]:
    """The coordinates of the grid's vertices along a side, rounded as in training."""
    return (torch.round(torch.arange(resolution + 1) / resolution, decimals=ROUNDED_TO) - 0.5) * scale


def with_a_surface(values: Float[Tensor, "N N N"]) -> Float[Tensor, "N N N"]:
    """Returns the same values if their sign changes inside the grid. Otherwise, as in training, makes it change: the
    two outer layers become negative, and the vertex in the middle positive."""
    inner = values[1:-1, 1:-1, 1:-1]
    if not ((inner > 0).all() or (inner < 0).all()):
        return values
    is_outer = torch.ones_like(values, dtype=torch.bool)
    is_outer[2:-2, 2:-2, 2:-2] = False
    changed = torch.where(is_outer, -1 - values.max(), values)
    middle = (len(values) - 1) // 2 + 1
    changed[middle, middle, middle] = 1 - values.min()
    return changed
