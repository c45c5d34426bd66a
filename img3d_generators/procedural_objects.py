# SPDX-License-Identifier: Apache-2.0
"""Simple textured objects generated from a seed: some of the training data of img3d-small.

An object stands upright and consists of one solid or a few that touch. Each solid is a profile swept around an axis,
which gives ellipsoids, boxes, cylinders, superquadrics, cones, pyramids, capsules, rings and vases; each has a
procedural texture of a few colours. One soft light from above is baked in. The surface is covered with flat
Gaussians, so that our own kernels can render it.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.color_values import without_white
from img3d_assets.mesh import Mesh
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds

GRID = 48
"""Number of quadrilaterals along and around a solid, from which surface points are drawn."""
NUM_GAUSSIANS = 10_000
NUM_COLOURS = 4
"""Colours of an object, shared by its solids."""
MAX_RADIUS = 0.5
"""Maximum distance of any point of an object from the origin."""

Split = Literal["train", "held-out"]
Array = np.ndarray


def procedural_object(seed: int, split: Split = "train") -> ActivatedGaussians:
    """Generates the object of a seed, the same one on every machine.

    Args:
        seed: A number from 0.
        split: Objects for training, or others that are never trained on.
    """
    rng = _generator(seed, split)
    parts, grids = _solids(rng)

    # The number of points per area is the same for all parts, so that every Gaussian covers the same area.
    cross = np.cross(grids[:, 1:, :-1] - grids[:, :-1, 1:], grids[:, 1:, 1:] - grids[:, :-1, :-1])  # outward
    areas = np.linalg.norm(cross, axis=-1) / 2
    evenly = (np.arange(NUM_GAUSSIANS) + rng.random(NUM_GAUSSIANS)) / NUM_GAUSSIANS
    quads = np.searchsorted(np.cumsum(areas) / areas.sum(), evenly).clip(max=areas.size - 1)
    part, row, column = np.unravel_index(quads, areas.shape)
    along, around = rng.random((2, NUM_GAUSSIANS, 1))
    means = _between(grids, part, row, column, along, around)
    normals = cross[part, row, column] / (2 * areas[part, row, column, None] + 1e-12)
    local = _between(np.stack([p.local for p in parts]), part, row, column, along, around)

    rgbs = np.empty_like(means)
    for i, p in enumerate(parts):
        rgbs[part == i] = p.pattern(local[part == i])
    light = np.array([rng.uniform(-0.6, 0.6), 1.0, rng.uniform(-0.6, 0.6)])
    light /= np.linalg.norm(light)
    shade = 0.78 + 0.22 * (normals @ light)
    spacing = np.sqrt(areas.sum() / NUM_GAUSSIANS)
    # The shortest rotation that takes +z to the normal. For -z it is not unique; the small summand avoids dividing by
    # 0.
    quats = np.stack([1 + normals[:, 2] + 1e-6, -normals[:, 1], normals[:, 0], np.zeros(NUM_GAUSSIANS)], axis=1)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return ActivatedGaussians(
        means=_tensor(means),
        quats=_tensor(quats),
        scales=_tensor(np.broadcast_to(spacing * np.array([0.85, 0.85, 0.1]), (NUM_GAUSSIANS, 3))),
        opacities=torch.full((NUM_GAUSSIANS,), 0.97),
        colors=_tensor(np.clip(rgbs * shade[:, None], 0, 1)),
    )


def procedural_mesh(seed: int, split: Split = "train") -> Mesh:
    """The object of a seed as a mesh with the textures' colours at its vertices, unlit."""
    parts, grids = _solids(_generator(seed, split))
    side = GRID + 1
    row, column = np.meshgrid(np.arange(GRID), np.arange(GRID), indexing="ij")
    first = (row * side + column).ravel()
    across, along, opposite = first + 1, first + side, first + side + 1
    faces = np.concatenate(
        [np.stack([first, along, across], axis=1), np.stack([across, along, opposite], axis=1)]
    )  # counterclockwise from outside
    offsets = side**2 * np.arange(len(parts))[:, None, None]
    colors = np.concatenate([part.pattern(part.local.reshape(-1, 3)) for part in parts])
    return Mesh(grids.reshape(-1, 3), (faces + offsets).reshape(-1, 3), colors.clip(0, 1).astype(np.float32))


@dataclass
class ObjectViews:
    """Views of one object from all around."""

    rgb: Float[Tensor, "V 3 S S"]
    """On white, in [0, 1]."""
    alpha: Float[Tensor, "V 1 S S"]
    camera_to_worlds: Float[Tensor, "V 3 4"]
    """Poses that look at the origin from LGM's distance with LGM's field of view; y up."""

    def rgba(self, view: int) -> Float[Tensor, "4 S S"]:
        """A view with a transparent background, straight alpha."""
        return torch.cat([without_white(self.rgb[view], self.alpha[view]), self.alpha[view]])


@torch.no_grad()
def object_views(seed: int, split: Split, num_inputs: int, num_novel: int, size: int = 128) -> ObjectViews:
    """Renders views that may be given to a network, followed by views that it should predict.

    Input views have any azimuth and an elevation at eye level or a little above (-5° to 25°). Novel views are spread
    evenly around the object, at elevations of -20° to 45°.

    Args:
        seed: The object's seed.
        split: The set to which the object belongs.
        num_inputs: Number of input views.
        num_novel: Number of novel views.
        size: Height and width in pixels.
    """
    rng = _generator(seed, split, stream=1)
    around = rng.uniform(0, 360) + (np.arange(num_novel) + rng.random(num_novel)) * 360 / max(num_novel, 1)
    azimuths = np.concatenate([rng.uniform(0, 360, num_inputs), around])
    elevations = np.concatenate([rng.uniform(-5, 25, num_inputs), rng.uniform(-20, 45, num_novel)])
    poses = orbit_camera_to_worlds(torch.from_numpy(azimuths), torch.from_numpy(elevations), LGM_RADIUS)
    gaussians = procedural_object(seed, split)
    rgb, alpha = gaussians.render(poses, LGM_FOV, size)
    return ObjectViews(rgb.clamp(0, 1).permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2), poses)


@dataclass
class _Part:
    """One solid."""

    local: Float[Array, "G H 3"]
    """Grid of surface points, about the size of the unit sphere, on which the texture is defined."""
    grid: Float[Array, "G H 3"]
    """The same points, stretched and rotated."""
    texture: str
    colours: Float[Array, "4 3"]
    axis: Float[Array, "3"]
    frequency: float
    phases: Float[Array, "6"]

    def pattern(self, p: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
        """Colours at local points."""
        along = p @ self.axis
        across = p @ np.roll(self.axis, 1)
        wave = np.sin(np.pi * self.frequency * along + self.phases[0])
        other_wave = np.sin(np.pi * self.frequency * across + self.phases[1])
        if self.texture == "plain":
            amount = np.zeros(len(p))
        elif self.texture == "gradient":
            amount = np.clip(0.5 + 0.5 * along, 0, 1)
        elif self.texture == "halves":
            amount = _step(along)
        elif self.texture == "stripes":
            amount = _step(wave)
        elif self.texture == "checks":
            amount = _step(4 * wave * other_wave)
        elif self.texture == "dots":
            waves = np.sin(np.pi * self.frequency * p + self.phases[:3])
            amount = _step(np.abs(waves).prod(axis=1) * 4 - 2)
        elif self.texture == "marble":
            turbulence = np.sin(2.5 * p[:, 1] + self.phases[2]) + np.sin(3 * p[:, 0] + 2 * p[:, 2] + self.phases[3])
            amount = 0.5 + 0.5 * np.sin(np.pi * self.frequency * along + 1.2 * turbulence)
        else:
            band = np.clip((p[:, 1] + 1) * 2, 0, 3.999).astype(int)
            return self.colours[band]
        return self.colours[0] + amount[:, None] * (self.colours[1] - self.colours[0])


def _solids(rng: np.random.Generator) -> tuple[list[_Part], Float[Array, "P G H 3"]]:
    """The solids of an object, and their surfaces in their places."""
    palette = np.stack([_random_colour(rng) for _ in range(NUM_COLOURS)])
    parts = [_random_part(rng, i, palette) for i in range(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))]
    pose = Rotation.from_euler("y", rng.uniform(0, 360), degrees=True)
    grids = _attached([part.grid for part in parts], rng) @ pose.as_matrix().T
    corners = grids.reshape(-1, 3)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    size = np.linalg.norm(corners - middle, axis=1).max()
    grids = (grids - middle) * (rng.uniform(0.8, 1.0) * MAX_RADIUS / size)
    return parts, grids


def _random_part(rng: np.random.Generator, index: int, palette: Float[Array, "4 3"]) -> _Part:
    local = _swept(*_random_profile(rng))
    width, height, flatness = rng.uniform(0.45, 1.0, 3)
    depth = width * flatness if rng.random() < 0.1 else width  # most objects are as deep as they are wide
    stretch = np.array([width, height, depth]) * (1.0 if index == 0 else rng.uniform(0.4, 0.9))
    turn = _random_rotation(rng) if index and rng.random() < 0.25 else Rotation.identity()
    texture = rng.choice(
        ["plain", "gradient", "halves", "stripes", "checks", "dots", "marble", "bands"],
        p=[0.22, 0.12, 0.08, 0.18, 0.1, 0.08, 0.12, 0.1],
    )
    axes = [np.eye(3)[i] for i in range(3)] + [_random_rotation(rng).as_matrix()[0]]
    return _Part(
        local=local,
        grid=(local * stretch) @ turn.as_matrix().T,
        texture=texture,
        colours=rng.permutation(palette),
        axis=axes[rng.choice(4, p=[0.2, 0.4, 0.2, 0.2])],
        frequency=rng.uniform(1.5, 4.0),
        phases=rng.uniform(0, 2 * np.pi, 6),
    )


def _random_profile(rng: np.random.Generator) -> tuple[Float[Array, "G 2"], float]:
    """A random profile: a curve (distance from the axis, height), counterclockwise around the solid, and the
    exponent of the cross-section: 1 is round, 0 square."""
    t = np.linspace(0, 1, GRID + 1)
    arc = np.pi * (t - 0.5)
    kind = rng.choice(
        ["ellipsoid", "box", "cylinder", "superquadric", "cone", "pyramid", "capsule", "ring", "vase"],
        p=[0.15, 0.2, 0.15, 0.14, 0.1, 0.06, 0.07, 0.04, 0.09],
    )
    if kind == "cone" or kind == "pyramid":
        top = rng.uniform(0, 0.6)
        corners = np.array([[0.0, -1], [1, -1], [top, 1], [0, 1]])
        positions = [0, 0.3, 0.85, 1]
        profile = np.stack([np.interp(t, positions, corners[:, i]) for i in range(2)], axis=1)
        return profile, 1.0 if kind == "cone" else 0.05
    if kind == "capsule":
        half = rng.uniform(0.5, 1.2)
        height = np.sin(arc) + half * np.clip(np.tan(arc) / 0.2, -1, 1)
        return np.stack([np.cos(arc), height], axis=1) / (1 + half), 1.0
    if kind == "ring":
        thickness = rng.uniform(0.2, 0.4)
        turn = 2 * np.pi * t
        profile = np.stack([1 - thickness + thickness * np.cos(turn), thickness * np.sin(turn)], axis=1)
        return profile, rng.choice([1.0, 0.2], p=[0.8, 0.2])
    if kind == "vase":
        heights = rng.uniform(0.35, 1.0, 5)
        radius = np.interp(t, np.linspace(0, 1, 5), heights)
        radius = np.convolve(np.pad(radius, 6, mode="edge"), np.ones(13) / 13, mode="valid")
        ends = np.minimum(1, np.minimum(t, 1 - t) / 0.06)
        return np.stack([radius * ends, np.clip((t - 0.06) / 0.88, 0, 1) * 2 - 1], axis=1), 1.0
    exponents = {
        "ellipsoid": (1.0, 1.0),
        "box": (0.05, 0.05),
        "cylinder": (0.05, 1.0),
        "superquadric": tuple(rng.uniform(0.3, 1.7, 2)),
    }[kind]
    return np.stack([_power(np.cos(arc), exponents[0]), _power(np.sin(arc), exponents[0])], axis=1), exponents[1]


def _swept(profile: Float[Array, "G 2"], exponent: float) -> Float[Array, "G H 3"]:
    angle = 2 * np.pi * np.arange(GRID + 1) / GRID
    section = np.stack([_power(np.cos(angle), exponent), np.zeros(GRID + 1), _power(np.sin(angle), exponent)], axis=1)
    return profile[:, None, :1] * section + profile[:, None, 1:] * np.array([0, 1.0, 0])


def _attached(grids: list[Float[Array, "G H 3"]], rng: np.random.Generator) -> Float[Array, "P G H 3"]:
    """Attaches grids to the first one: they are moved so that their centres are on its surface, on top or anywhere."""
    moved = [grids[0]]
    for grid in grids[1:]:
        corners = grids[0].reshape(-1, 3)
        top = np.array([0, corners[:, 1].max(), 0])
        place = top if rng.random() < 0.5 else rng.choice(corners)
        moved.append(grid + place * rng.uniform(0.8, 1.1))
    return np.stack(moved)


def _between(
    grids: Float[Array, "P G H 3"], part: Array, row: Array, column: Array, along: Array, around: Array
) -> Float[Array, "N 3"]:
    """Points inside quadrilaterals, by bilinear interpolation."""
    low = grids[part, row, column] * (1 - around) + grids[part, row, column + 1] * around
    high = grids[part, row + 1, column] * (1 - around) + grids[part, row + 1, column + 1] * around
    return low * (1 - along) + high * along


def _random_colour(rng: np.random.Generator) -> Float[Array, "3"]:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 1.0), rng.uniform(0.6, 1.0)))


def _random_rotation(rng: np.random.Generator) -> Rotation:
    return Rotation.from_quat(rng.normal(size=4))


def _power(values: Array, exponent: float) -> Array:
    values = np.where(np.abs(values) < 1e-9, 0, values)  # sin(pi) is not quite 0, but its 20th root would be large
    return np.sign(values) * np.abs(values) ** exponent


def _step(values: Array) -> Array:
    """A step from 0 to 1 at 0, with a soft edge that does not alias at 128 pixels."""
    return np.clip(0.5 + 4 * values, 0, 1)


def _generator(seed: int, split: Split, stream: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, split == "held-out", stream])


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
