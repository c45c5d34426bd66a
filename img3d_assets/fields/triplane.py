# SPDX-License-Identifier: Apache-2.0
"""A radiance field in three planes of features and a small network (Chan et al. 2022, arXiv 2112.07945), as networks
generate it from an image.

A point is projected onto each plane; the features found there are concatenated, and the network reads density and
colour from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from img3d_assets.axes import UpAxis
from img3d_assets.fields.plane_sampling import Axes, features_at
from img3d_base.foreign_files import parse_json

POINTS_AT_A_TIME = 1 << 14
"""Points whose features and hidden values fit a core's cache."""
ROUNDING = 1e-5
"""Distance outside the box, in half its side, that counts as inside: points on its faces are rounded."""

MAX_EXTRA_BYTES = 1 << 16
"""Largest description of a triplane beside its weights."""

Activation = Literal["silu", "relu"]
ACTIVATIONS: dict[str, type[nn.SiLU] | type[nn.ReLU]] = {"silu": nn.SiLU, "relu": nn.ReLU}


@dataclass(frozen=True)
class TriplaneLayout:
    """How planes and numbers are to be read. Lengths are in box units: the box is [-1, 1]^3."""

    axes: Axes = ((0, 1), (0, 2), (1, 2))
    """For each plane, the axes of the box along its columns and along its rows."""
    density_activation: Literal["exp", "softplus"] = "exp"
    """Makes a density of the network's first number."""
    density_bias: float = -1.0
    """Added before that."""
    inside: float = 1.0
    """Share of the box that is rendered."""
    length_of_every_ray: float | None = None
    """The length that a ray's path through the box counts as, for networks that were trained with the same for every
    ray; None for the true one."""
    shortest_path: float = 0.0
    """Rays with at most this path through the box see nothing."""
    surface_density: float = 12.5
    """Density of the surface."""
    color_margin: float = 0.0
    """How far colours reach beyond [0, 1] on both sides before they are limited to it."""


def mlp(
    in_channels: int, channels: int, num_layers: int, out_channels: int, activation: Activation = "silu"
) -> nn.Sequential:
    """Linear layers, with an activation after each but the last.

    Args:
        in_channels: Number of inputs.
        channels: Width of the hidden layers.
        num_layers: Number of hidden layers.
        out_channels: Number of outputs.
        activation: Of the hidden layers.
    """
    layers: list[nn.Module] = []
    for layer in range(num_layers):
        layers += [nn.Linear(in_channels if layer == 0 else channels, channels), ACTIVATIONS[activation](inplace=True)]
    return nn.Sequential(*layers, nn.Linear(channels, out_channels))


class FieldMlp(nn.Module):
    """The network that reads raw density (1) and raw colour (3) from features: `mlp`, with these arguments."""

    def __init__(self, in_channels: int, channels: int, num_layers: int, activation: Activation = "silu") -> None:
        super().__init__()
        self.arguments = (in_channels, channels, num_layers, activation)
        self.layers = mlp(in_channels, channels, num_layers, 4, activation)

    def forward(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N 4"]:
        return self.layers(features)


class TriplaneField(nn.Module):
    """Implements `Field`.

    Args:
        planes: Features, rows from the lowest coordinate on.
        mlp: Reads density and colour; the colour's activation is a sigmoid, widened by the layout's margin.
        layout: How planes and numbers are to be read.
        world_to_box: Maps world coordinates into the box [-1, 1]^3: a rotation times a scale.
        up: The axis that points up in the world.
    """

    def __init__(
        self,
        planes: Float[Tensor, "3 C H W"],
        mlp: FieldMlp,
        layout: TriplaneLayout,
        world_to_box: Float[Tensor, "3 3"],
        up: UpAxis | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.up: UpAxis | None = up
        self.size = (planes.shape[2], planes.shape[3])
        self.rows = nn.Parameter(planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1]).contiguous())
        """The planes, a row of features per texel, so that a texel's are contiguous."""
        self.mlp = mlp
        self.world_to_box: Tensor
        self.register_buffer("world_to_box", world_to_box)

    @property
    def planes(self) -> Float[Tensor, "3 C H W"]:
        """The planes' features."""
        return self.rows.view(3, *self.size, -1).permute(0, 3, 1, 2)

    @property
    def boxes_per_unit(self) -> float:
        """Box units per world unit."""
        return float(self.world_to_box[0].norm())

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Lower and upper corner of the box in world coordinates."""
        half = torch.linalg.inv(self.world_to_box).abs().sum(dim=1)
        return torch.stack([-half, half])

    @property
    def surface_density(self) -> float:
        """Density of the surface, per world unit."""
        return self.layout.surface_density * self.boxes_per_unit

    @property
    def rendered_bounds(self) -> Float[Tensor, "2 3"]:
        """The part of the bounds that is rendered."""
        return self.bounds * self.layout.inside

    @property
    def path_length(self) -> float | None:
        """The length in world units that every ray's path through the box counts as; None for its true one."""
        length = self.layout.length_of_every_ray
        return None if length is None else length / self.boxes_per_unit

    @property
    def shortest_path(self) -> float:
        """Rays with at most this path through the box, in world units, see nothing."""
        return self.layout.shortest_path / self.boxes_per_unit

    def turned(self, rotation: Float[Tensor, "3 3"], scale: float = 1.0, up: UpAxis | None = None) -> TriplaneField:
        """The same field in another world, sharing its weights.

        Args:
            rotation: From this world's axes to the other one's.
            scale: Of the other world: its units per unit of this one.
            up: The axis that points up there.
        """
        world_to_box = self.world_to_box @ rotation.T.to(self.world_to_box) / scale
        moved = TriplaneField(self.planes.detach(), self.mlp, self.layout, world_to_box, up)
        moved.rows = self.rows
        return moved

    # ------------------------------------------------------------------------------------------------ keeping it

    def get_extra_state(self) -> Tensor:
        """What the state dict needs beside the weights, as the bytes of a JSON text."""
        kept = {"layout": asdict(self.layout), "up": self.up, "size": list(self.size), "mlp": list(self.mlp.arguments)}
        return torch.frombuffer(bytearray(json.dumps(kept).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes over what `get_extra_state` gave; the sizes have to be the present ones."""
        kept = parse_json(state.cpu().numpy().tobytes(), "a triplane", MAX_EXTRA_BYTES)
        axes = tuple(tuple(pair) for pair in kept["layout"].pop("axes"))
        self.layout = TriplaneLayout(axes=axes, **kept["layout"])  # pyright: ignore[reportArgumentType]
        self.up = kept["up"]

    @staticmethod
    def of_state_dict(state: dict[str, Any]) -> TriplaneField:
        """The field whose state dict this is.

        Raises:
            InputError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError: It is not one.
        """
        kept = parse_json(state["_extra_state"].cpu().numpy().tobytes(), "a triplane", MAX_EXTRA_BYTES)
        if kept["mlp"][2] > len(state):
            raise ValueError("it has fewer layers than it says")
        with torch.device("meta"):  # sizes that do not fit are found before memory is allocated for them
            planes = torch.zeros(3, state["rows"].shape[1], *kept["size"])
            field = TriplaneField(planes, FieldMlp(*kept["mlp"]), TriplaneLayout(), torch.eye(3))
        field.load_state_dict(state, assign=True)
        return field

    def save(self, path: str | Path, resolution: int = 256) -> None:
        """Writes the field itself (.safetensors), or a mesh of its surface with vertex colours: .glb, .obj, .usdz,
        .fbx, .ply or .stl.

        Args:
            path: The file. Missing folders are created; existing files are replaced.
            resolution: For a mesh, samples along each side of the field's box.

        Raises:
            InputError: The ending is unknown, a file cannot be written, or there is no surface.
        """
        from img3d_assets.fields.triplane_files import ENDING, write_triplane
        from img3d_assets.mesh_files import check_output
        from img3d_assets.meshing.field_surface import surface_of

        path = Path(path)
        if path.suffix.lower() == ENDING:
            write_triplane(self, path)
            return
        check_output(path, force=True)
        surface_of(self, resolution).save(path)

    # ------------------------------------------------------------------------------------------------- reading it

    def features(self, in_box: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        """The planes' features at points in box units, bilinear; 0 outside of the planes. F is 3 C."""
        return features_at(self.rows, self.size, self.layout.axes, in_box)

    def raw(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 4"]:
        """Density (1) and colour (3) at world coordinates, before the activations."""
        return self.mlp(self.features(points @ self.world_to_box.T))

    def forward(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world unit and sRGB, differentiable, not limited to [0, 1]; all points are evaluated at once."""
        raw = self.raw(points)
        biased = raw[:, 0] + self.layout.density_bias
        density = biased.exp() if self.layout.density_activation == "exp" else softplus(biased)
        if self.layout.length_of_every_ray is not None:  # densities are per path
            density = density / self.layout.length_of_every_ray
        margin = self.layout.color_margin
        return density * self.boxes_per_unit, raw[:, 1:].sigmoid() * (1 + 2 * margin) - margin

    @torch.no_grad()
    def query(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world unit, 0 outside of the box, and sRGB in [0, 1].

        Args:
            points: World coordinates, on the field's device.
        """
        density, rgb = points.new_empty(len(points)), torch.empty_like(points)
        for start in range(0, len(points), POINTS_AT_A_TIME):
            part = slice(start, start + POINTS_AT_A_TIME)
            density[part], rgb[part] = self(points[part])
        rgb.clamp_(0, 1)
        outside = ((points @ self.world_to_box.T).abs() > 1 + ROUNDING).any(dim=1)
        return density.masked_fill_(outside, 0), rgb
