# SPDX-License-Identifier: Apache-2.0
"""Which Gaussians are no part of the scene: floaters, needles, and what lies outside of what the cameras look at.

Only centres, widths, axes and opacities are looked at. What hangs together with the largest part of the scene stays,
unless it is before a camera or sticks out as a needle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from img3d_assets.gaussians import Gaussians

MIN_GAUSSIANS = 20
"""Of fewer nobody can say what stands apart."""

WIDTHS = 3.0
"""Standard deviations after which a Gaussian ends, for a picture's edge and for whether two touch."""
NEIGHBOURS = 8
SPACINGS, SPARSE = 4.0, 3.0
"""Two hang together within so many times their distances to their nearest neighbours, however thin they are; and these
count as at most so many times the typical one."""
ISLAND_SHARE, ISLAND_LEAST, ISLAND_MOST = 0.002, 4, 100
"""What hangs together is a part of the scene from this share of all Gaussians on, at least and at most so many."""

NEAR_SHARE = 0.15
"""In front of a camera nothing is nearer than this share of the distance of what cameras look at."""
DETAIL = 0.25
"""Unless it belongs to the largest thing, and is no wider than this share of its distance: a camera may come close."""
NEIGHBOURING_CAMERAS, BETWEEN_SHARE = 3, 0.7
"""Nor halfway between two neighbours among the cameras, if they are nearer to each other than this share of it."""
WIDE, FEW_CAMERAS = 0.5, 0.25
"""Fog is wider than this share of its distance from the camera that sees it, and seen by so few of them."""
WALL, MOST_CAMERAS = 0.05, 0.5
"""What is this large in so many pictures, in steradians, is a wall or the sky, even if nothing else is near it."""
FAR_SHARE = 15.0
"""Beyond so many times the distance of what cameras look at there is the backdrop, or nothing."""
BACKDROP_SHARE = 0.02
"""What is that far is a backdrop, as the sky, from this share of what cameras see on."""

NEEDLE_RATIO = 8.0
"""A needle's longest axis, in those of its second."""
NEEDLE_ENDS = 2.0
"""A needle's ends, in standard deviations from its centre."""
NEEDLE_FREE, NEEDLE_FREE_END_ON = 3.0, 1.0
"""How far an end is from others, in their own distances or widths; the latter for what cameras see end-on, where it
looks like a dot, so that nothing has told training how long it is."""
END_ON = 0.6
"""Mean cosine between a needle and the rays of the cameras that see it."""


@dataclass(frozen=True)
class Viewpoints:
    """Cameras, as far as what they can see goes."""

    positions: Float[np.ndarray, "C 3"]
    """In the Gaussians' world."""
    rotations: Float[np.ndarray, "C 3 3"]
    """World to camera, OpenCV's axes (x right, y down, z forward)."""
    slopes: Float[np.ndarray, "C 4"]
    """The picture's edges: least and greatest x/z, least and greatest y/z; infinite where a camera sees all around."""

    def __len__(self) -> int:
        return len(self.positions)

    def each(self) -> Iterator[tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"], Float[np.ndarray, "4"]]]:
        """Position, rotation and slopes of each."""
        return zip(self.positions, self.rotations, self.slopes, strict=True)


@dataclass(frozen=True)
class Removed:
    """Which Gaussians cleaning takes away, each for the first reason that holds."""

    outside: Bool[np.ndarray, "N"]
    """Far outside of what the cameras look at or, where cameras are not known, of where all others are."""
    unseen: Bool[np.ndarray, "N"]
    """In no camera's picture."""
    near: Bool[np.ndarray, "N"]
    """Fog before a camera: it is inside them, or they are just in front of it."""
    isolated: Bool[np.ndarray, "N"]
    """Far from all others, alone or a few together."""
    needles: Bool[np.ndarray, "N"]
    """Long and thin, with ends in empty space."""

    def any(self) -> Bool[np.ndarray, "N"]:
        return np.logical_or.reduce([getattr(self, field.name) for field in fields(self)])

    def __str__(self) -> str:
        """How many of each, in one line."""
        names = {
            "outside": "far outside",
            "unseen": "seen by no camera",
            "near": "before a camera",
            "isolated": "isolated",
            "needles": "sticking out as needles",
        }
        all_of_them = self.any()
        counts = [f"{getattr(self, name).sum():,} {what}" for name, what in names.items() if getattr(self, name).any()]
        reasons = f" ({', '.join(counts)})" if counts else ""
        return f"Cleaned away {all_of_them.sum():,} of {len(all_of_them):,} Gaussians{reasons}."


class _Shapes:
    """What cleaning looks at, in double precision."""

    def __init__(self, splats: Gaussians) -> None:
        self.means = splats.means.astype(np.float64)
        self.scales = np.exp(np.minimum(splats.log_scales.astype(np.float64), 80))
        self.ordered = np.sort(self.scales, axis=1)
        self.quats = splats.quats.astype(np.float64)
        self.alphas = splats.alphas()

    def axes(self, index: Bool[np.ndarray, "N"] | Int[np.ndarray, "M"]) -> Float[np.ndarray, "M 3 3"]:
        """Their axes as columns."""
        quats = self.quats[index]
        return Rotation.from_quat(quats, scalar_first=True).as_matrix() if len(quats) else np.zeros((0, 3, 3))


def unwanted(splats: Gaussians, viewpoints: Viewpoints | None = None) -> Removed:
    """What cleaning takes away.

    Args:
        splats: N Gaussians, all visible (`Gaussians.visible`).
        viewpoints: Where the photos were taken, in the same frame, where that is known.
    """
    nothing = np.zeros(len(splats), bool)
    if len(splats) < MIN_GAUSSIANS:
        return Removed(nothing, nothing, nothing, nothing, nothing)
    shapes = _Shapes(splats)
    left = ~nothing

    def taken(which: Bool[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        which = which & left
        left[which] = False
        return which

    seen = None
    if viewpoints is not None and len(viewpoints):
        seen = _Seen(shapes, viewpoints)
        outside, unseen, near = taken(seen.outside()), taken(~seen.by_any), taken(seen.fog())
    else:
        outside, unseen, near = taken(_far_from_all(shapes)), nothing, nothing
    large = nothing if seen is None else seen.walls()
    isolated = taken(_islands(shapes, left) & ~large)
    return Removed(outside, unseen, near, isolated, taken(_needles(shapes, left, seen) & ~large))


def cleaned(splats: Gaussians, viewpoints: Viewpoints | None = None) -> tuple[Gaussians, Removed]:
    """What cleaning leaves, in its order, and what it takes away; arguments as `unwanted`'s."""
    removed = unwanted(splats, viewpoints)
    return splats[~removed.any()], removed


# ------------------------------------------------------------------------------------------------------------ cameras


class _Seen:
    """What the cameras have in their pictures, whether or not something hides it."""

    def __init__(self, shapes: _Shapes, viewpoints: Viewpoints) -> None:
        self._shapes, self._viewpoints = shapes, viewpoints
        number = len(shapes.means)
        self.by_any = np.zeros(number, bool)
        self._cameras = np.zeros(number, int)  # that have its centre in their picture
        self._nearest, self._nearest_share = np.full(number, np.inf), np.full(number, np.inf)  # of those
        self._least_share = np.full(number, np.inf)  # of all
        self._looked_at = np.full(len(viewpoints), np.nan)
        self._solid_angles = np.zeros(number)
        areas = shapes.alphas * shapes.ordered[:, 1] * shapes.ordered[:, 2]
        for camera, (position, rotation, slopes) in enumerate(viewpoints.each()):
            local = (shapes.means - position) @ rotation.T
            self.by_any |= _in_picture(local, slopes, WIDTHS * shapes.ordered[:, 2])
            inside = _in_picture(local, slopes, np.zeros(number))
            if not inside.any():
                continue
            distances = np.maximum(np.linalg.norm(local, axis=1), np.finfo(np.float32).tiny)
            self._looked_at[camera] = looked_at = np.median(distances[inside])
            self._cameras += inside
            self._nearest[inside] = np.minimum(self._nearest, distances)[inside]
            shares = distances / looked_at
            self._nearest_share[inside] = np.minimum(self._nearest_share, shares)[inside]
            self._least_share = np.minimum(self._least_share, shares)
            # What is very near would outweigh all else.
            self._solid_angles[inside] += (areas / np.maximum(distances, NEAR_SHARE * looked_at) ** 2)[inside]

    def outside(self) -> Bool[np.ndarray, "N"]:
        """Farther from all cameras than what these look at, unless that is a backdrop."""
        far = np.isfinite(self._least_share) & (self._least_share > FAR_SHARE)
        is_backdrop = self._solid_angles[far].sum() > BACKDROP_SHARE * self._solid_angles.sum()
        return np.zeros_like(far) if is_backdrop else far

    def walls(self) -> Bool[np.ndarray, "N"]:
        """What is large in most pictures."""
        mean = self._solid_angles / np.maximum(self._cameras, 1)
        return (mean > WALL) & (self._cameras > MOST_CAMERAS * len(self._viewpoints))

    def fog(self) -> Bool[np.ndarray, "N"]:
        """What hangs before the cameras."""
        widths = self._shapes.ordered[:, 2]
        unsure = (widths > WIDE * self._nearest) & (self._cameras <= FEW_CAMERAS * len(self._viewpoints))
        at_lens = (self._nearest_share < NEAR_SHARE) | self._between()
        if at_lens.any():  # a camera may also have come close to the thing itself
            sizes = _parts(self._shapes, np.ones(len(at_lens), bool))
            at_lens &= (sizes < sizes.max()) | (widths > DETAIL * self._nearest)
        return at_lens | unsure | _around(self._shapes, self._viewpoints.positions)

    def _between(self) -> Bool[np.ndarray, "N"]:
        """What is about halfway between two neighbouring cameras."""
        positions = self._viewpoints.positions
        if len(positions) < 2:
            return np.zeros(len(self._shapes.means), bool)
        distances, neighbours = map(
            np.asarray, KDTree(positions).query(positions, k=min(len(positions), NEIGHBOURING_CAMERAS + 1))
        )
        looked_at = np.minimum(self._looked_at[:, None], self._looked_at[neighbours])
        first, second = np.nonzero((distances > 0) & (distances < BETWEEN_SHARE * looked_at))
        if not len(first):
            return np.zeros(len(self._shapes.means), bool)
        middles = (positions[first] + positions[neighbours[first, second]]) / 2
        distances, nearest = KDTree(middles).query(self._shapes.means)
        return distances < NEAR_SHARE * looked_at[first, second][np.asarray(nearest)]

    def end_on(self, index: Int[np.ndarray, "M"], axes: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M"]:
        """Mean cosine between these Gaussians' axes and the rays of the cameras that see them."""
        cosines = np.zeros(len(index))
        for position, rotation, slopes in self._viewpoints.each():
            rays = self._shapes.means[index] - position
            inside = _in_picture(rays @ rotation.T, slopes, np.zeros(len(index)))
            lengths = np.maximum(np.linalg.norm(rays, axis=1), np.finfo(np.float32).tiny)
            cosines += inside * np.abs((rays * axes).sum(axis=1)) / lengths
        return cosines / np.maximum(self._cameras[index], 1)


def _in_picture(
    local: Float[np.ndarray, "N 3"], slopes: Float[np.ndarray, "4"], reach: Float[np.ndarray, "N"]
) -> Bool[np.ndarray, "N"]:
    """Which spheres touch the pyramid that a camera sees, which has its tip at the origin."""
    if not np.isfinite(slopes).all():
        return np.ones(len(local), bool)
    x, y, z = local.T
    left, right, top, bottom = slopes
    # The distance from the plane through the tip and an edge is (x - slope z) / sqrt(1 + slope^2).
    return (
        (z > -reach)
        & (x - left * z >= -reach * np.hypot(1, left))
        & (right * z - x >= -reach * np.hypot(1, right))
        & (y - top * z >= -reach * np.hypot(1, top))
        & (bottom * z - y >= -reach * np.hypot(1, bottom))
    )


def _around(shapes: _Shapes, positions: Float[np.ndarray, "C 3"]) -> Bool[np.ndarray, "N"]:
    """Which Gaussians have a camera within a standard deviation: no thing has."""
    inside = np.zeros(len(shapes.means), bool)
    distances, _ = KDTree(positions).query(shapes.means)
    candidates = np.flatnonzero(distances < shapes.ordered[:, 2])
    axes = shapes.axes(candidates)
    for position in positions:
        offsets = np.einsum("nij,ni->nj", axes, position - shapes.means[candidates]) / shapes.scales[candidates]
        inside[candidates] |= np.linalg.norm(offsets, axis=1) < 1
    return inside


# -------------------------------------------------------------------------------------------------------- neighbours


def _far_from_all(shapes: _Shapes) -> Bool[np.ndarray, "N"]:
    """The few that are many times as far from the middle as nearly all."""
    distances = np.linalg.norm(shapes.means - np.median(shapes.means, axis=0), axis=1)
    far = distances > FAR_SHARE * np.quantile(distances, 0.9)
    return far if far.mean() < BACKDROP_SHARE else np.zeros_like(far)


def _parts(shapes: _Shapes, left: Bool[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """How many hang together with each; 0 for those that are not left."""
    index = np.flatnonzero(left)
    sizes = np.zeros(len(left), int)
    if len(index) < MIN_GAUSSIANS:
        sizes[index] = len(index)
        return sizes
    means, widths = shapes.means[index], shapes.ordered[index, 1]
    distances, neighbours = map(
        np.asarray, KDTree(means).query(means, k=min(NEIGHBOURS, len(index) - 1) + 1, workers=-1)
    )
    typical = np.median(distances[:, 1])
    spacing = np.clip(distances[:, 1], typical, SPARSE * typical)
    rows = np.repeat(np.arange(len(index)), distances.shape[1] - 1)
    columns, distances = neighbours[:, 1:].ravel(), distances[:, 1:].ravel()
    reach = SPACINGS * np.minimum(spacing[rows], spacing[columns])
    touch = distances <= np.maximum(WIDTHS * (widths[rows] + widths[columns]), reach)
    graph = coo_array((np.ones(touch.sum()), (rows[touch], columns[touch])), shape=(len(index), len(index)))
    _, part = connected_components(graph, directed=False)
    sizes[index] = np.bincount(part)[part]
    return sizes


def _islands(shapes: _Shapes, left: Bool[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Which are alone, or a few together, apart from the others. What most hang together with is never one."""
    sizes = _parts(shapes, left)
    enough = min(np.clip(ISLAND_SHARE * left.sum(), ISLAND_LEAST, ISLAND_MOST), sizes.max())
    return left & (sizes < enough)


def _needles(shapes: _Shapes, left: Bool[np.ndarray, "N"], seen: _Seen | None) -> Bool[np.ndarray, "N"]:
    """Which are long and thin and end where nothing else is. Along an edge or a wire there are others."""
    needles = np.zeros(len(left), bool)
    thin = shapes.ordered[:, 2] > NEEDLE_RATIO * shapes.ordered[:, 1]
    index, present = np.flatnonzero(left & thin), np.flatnonzero(left)
    if len(index) == 0 or len(present) < MIN_GAUSSIANS:
        return needles
    longest = np.argmax(shapes.scales[index], axis=1)
    axes = np.take_along_axis(shapes.axes(index), longest[:, None, None], axis=2)[:, :, 0]
    tree = KDTree(shapes.means[present])
    free = np.zeros(len(index))
    for end in (-NEEDLE_ENDS, NEEDLE_ENDS):
        tips = shapes.means[index] + end * shapes.ordered[index, 2:] * axes
        distances, nearest = map(np.asarray, tree.query(tips, k=2, workers=-1))
        itself = present[nearest[:, 0]] == index
        distances = np.where(itself, distances[:, 1], distances[:, 0])
        nearest = present[np.where(itself, nearest[:, 1], nearest[:, 0])]
        spacings = np.asarray(tree.query(shapes.means[nearest], k=NEIGHBOURS + 1, workers=-1)[0])[:, -1]
        free = np.maximum(free, distances / np.maximum(WIDTHS * shapes.ordered[nearest, 1], spacings))
    sticks_out = free > NEEDLE_FREE
    if seen is not None:
        sticks_out |= (free > NEEDLE_FREE_END_ON) & (seen.end_on(index, axes) > END_ON)
    needles[index] = sticks_out
    return needles
