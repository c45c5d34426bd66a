# SPDX-License-Identifier: Apache-2.0
"""Removing Gaussians that are not part of the scene: floaters, needles, and those far outside the cameras' views.

Only centres, widths, axes and opacities are considered. Gaussians connected with the largest part of the scene are
kept, unless they are directly in front of a camera or stick out as needles.
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
"""With fewer Gaussians, isolated ones cannot be distinguished."""

WIDTHS = 3.0
"""Extent of a Gaussian in standard deviations, for tests against a picture's edge and of whether two touch."""
NEIGHBOURS = 8
SPACINGS, SPARSE = 4.0, 3.0
"""Two Gaussians are connected within SPACINGS times their distances to their nearest neighbours, however thin they are;
these distances count as at most SPARSE times the median one."""
ISLAND_SHARE, ISLAND_LEAST, ISLAND_MOST = 0.002, 4, 100
"""Connected Gaussians are part of the scene if they are at least this share of all, clamped to these numbers."""

NEAR_SHARE = 0.15
"""A Gaussian nearer to a camera than this share of the camera's median viewing distance is fog, except for DETAIL."""
DETAIL = 0.25
"""A camera may come close to the subject: near Gaussians that are connected with the largest part, and at most as wide
as this share of their distance, are not fog."""
NEIGHBOURING_CAMERAS, BETWEEN_SHARE = 3, 0.7
"""A Gaussian halfway between a camera and one of its NEIGHBOURING_CAMERAS nearest is fog too, if these are nearer to
each other than this share of the viewing distance."""
WIDE, FEW_CAMERAS = 0.5, 0.25
"""Fog is wider than this share of its distance to the nearest camera, and is seen by at most this share of the
cameras."""
WALL, MOST_CAMERAS = 0.05, 0.5
"""A Gaussian with at least this mean solid angle in steradians, seen by more than this share of the cameras, is a wall
or the sky, even if it is isolated."""
FAR_SHARE = 15.0
"""Gaussians beyond this multiple of the viewing distance are the backdrop or outside the scene."""
BACKDROP_SHARE = 0.02
"""Gaussians that far away are a backdrop, such as the sky, if they cover more than this share of the pictures."""

NEEDLE_RATIO = 8.0
"""Smallest ratio of a needle's longest axis to its second longest."""
NEEDLE_ENDS = 2.0
"""Distance of a needle's ends from its centre in standard deviations."""
NEEDLE_FREE, NEEDLE_FREE_END_ON = 3.0, 1.0
"""Smallest distance of a needle's end from other Gaussians, relative to their spacings or widths. The second value is
for needles that cameras see end-on, as a dot, so that training could not determine their length."""
END_ON = 0.6
"""Smallest mean cosine between a needle and the rays of the cameras that see it, for "end-on"."""


@dataclass(frozen=True)
class Viewpoints:
    """Poses and fields of view of cameras."""

    positions: Float[np.ndarray, "C 3"]
    """Camera centres in the Gaussians' world."""
    rotations: Float[np.ndarray, "C 3 3"]
    """World to camera, OpenCV axes (x right, y down, z forward)."""
    slopes: Float[np.ndarray, "C 4"]
    """The picture's edges: smallest and largest x/z, smallest and largest y/z; infinite for a panoramic camera."""

    def __len__(self) -> int:
        return len(self.positions)

    def each(self) -> Iterator[tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"], Float[np.ndarray, "4"]]]:
        """Yields position, rotation and slopes of each camera."""
        return zip(self.positions, self.rotations, self.slopes, strict=True)


@dataclass(frozen=True)
class Removed:
    """The Gaussians that cleaning removes, each listed for the first reason that applies."""

    outside: Bool[np.ndarray, "N"]
    """Far outside the cameras' views or, if the cameras are unknown, far from all others."""
    unseen: Bool[np.ndarray, "N"]
    """In no camera's picture."""
    near: Bool[np.ndarray, "N"]
    """Fog: a camera is inside of them, or they are directly in front of it."""
    isolated: Bool[np.ndarray, "N"]
    """Far from all others, alone or in small groups."""
    needles: Bool[np.ndarray, "N"]
    """Long and thin, with an end in empty space."""

    def any(self) -> Bool[np.ndarray, "N"]:
        return np.logical_or.reduce([getattr(self, field.name) for field in fields(self)])

    def __str__(self) -> str:
        """The number removed for each reason, in one line."""
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
    """The shapes of the Gaussians in double precision."""

    def __init__(self, splats: Gaussians) -> None:
        self.means = splats.means.astype(np.float64)
        self.scales = np.exp(np.minimum(splats.log_scales.astype(np.float64), 80))
        self.ordered = np.sort(self.scales, axis=1)
        self.quats = splats.quats.astype(np.float64)
        self.alphas = splats.alphas()

    def axes(self, index: Bool[np.ndarray, "N"] | Int[np.ndarray, "M"]) -> Float[np.ndarray, "M 3 3"]:
        """Axes of some Gaussians as columns of matrices."""
        quats = self.quats[index]
        return Rotation.from_quat(quats, scalar_first=True).as_matrix() if len(quats) else np.zeros((0, 3, 3))


def unwanted(splats: Gaussians, viewpoints: Viewpoints | None = None) -> Removed:
    """Finds the Gaussians that are not part of the scene.

    Args:
        splats: N Gaussians, all visible (`Gaussians.visible`).
        viewpoints: The cameras of the photos, in the same frame; None if unknown.
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
    """Removes the `unwanted` Gaussians; returns the others in their order, and what was removed."""
    removed = unwanted(splats, viewpoints)
    return splats[~removed.any()], removed


# ------------------------------------------------------------------------------------------------------------ cameras


class _Seen:
    """The Gaussians in the cameras' pictures, whether or not they are occluded."""

    def __init__(self, shapes: _Shapes, viewpoints: Viewpoints) -> None:
        self._shapes, self._viewpoints = shapes, viewpoints
        number = len(shapes.means)
        self.by_any = np.zeros(number, bool)
        self._cameras = np.zeros(number, int)  # number of cameras with its centre in the picture
        self._nearest, self._nearest_share = np.full(number, np.inf), np.full(number, np.inf)  # over these cameras
        self._least_share = np.full(number, np.inf)  # over all cameras
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
            # Bounded: very near Gaussians would outweigh all others.
            self._solid_angles[inside] += (areas / np.maximum(distances, NEAR_SHARE * looked_at) ** 2)[inside]

    def outside(self) -> Bool[np.ndarray, "N"]:
        """Gaussians far beyond the viewing distance of all cameras, unless they are a backdrop."""
        far = np.isfinite(self._least_share) & (self._least_share > FAR_SHARE)
        is_backdrop = self._solid_angles[far].sum() > BACKDROP_SHARE * self._solid_angles.sum()
        return np.zeros_like(far) if is_backdrop else far

    def walls(self) -> Bool[np.ndarray, "N"]:
        """Gaussians that are large in most pictures."""
        mean = self._solid_angles / np.maximum(self._cameras, 1)
        return (mean > WALL) & (self._cameras > MOST_CAMERAS * len(self._viewpoints))

    def fog(self) -> Bool[np.ndarray, "N"]:
        """Gaussians in front of or around cameras."""
        widths = self._shapes.ordered[:, 2]
        unsure = (widths > WIDE * self._nearest) & (self._cameras <= FEW_CAMERAS * len(self._viewpoints))
        at_lens = (self._nearest_share < NEAR_SHARE) | self._between()
        if at_lens.any():  # a camera may also be close to the subject itself
            sizes = _parts(self._shapes, np.ones(len(at_lens), bool))
            at_lens &= (sizes < sizes.max()) | (widths > DETAIL * self._nearest)
        return at_lens | unsure | _around(self._shapes, self._viewpoints.positions)

    def _between(self) -> Bool[np.ndarray, "N"]:
        """Gaussians about halfway between two neighbouring cameras."""
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
        """Mean cosine between the given axes of some Gaussians and the rays of the cameras that see them."""
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
    """Which spheres of radius `reach` intersect a camera's viewing pyramid, whose apex is the origin."""
    if not np.isfinite(slopes).all():
        return np.ones(len(local), bool)
    x, y, z = local.T
    left, right, top, bottom = slopes
    # The distance from the plane through the apex and an edge of the picture is (x - slope z) / sqrt(1 + slope^2).
    return (
        (z > -reach)
        & (x - left * z >= -reach * np.hypot(1, left))
        & (right * z - x >= -reach * np.hypot(1, right))
        & (y - top * z >= -reach * np.hypot(1, top))
        & (bottom * z - y >= -reach * np.hypot(1, bottom))
    )


def _around(shapes: _Shapes, positions: Float[np.ndarray, "C 3"]) -> Bool[np.ndarray, "N"]:
    """Which Gaussians have a camera within one standard deviation, which no real object has."""
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
    """The few Gaussians that are many times as far from the median as nearly all others."""
    distances = np.linalg.norm(shapes.means - np.median(shapes.means, axis=0), axis=1)
    far = distances > FAR_SHARE * np.quantile(distances, 0.9)
    return far if far.mean() < BACKDROP_SHARE else np.zeros_like(far)


def _parts(shapes: _Shapes, left: Bool[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Size of the connected part that each Gaussian belongs to; 0 for those not in `left`."""
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
    """Which Gaussians are isolated, alone or in small groups. The largest part never is."""
    sizes = _parts(shapes, left)
    enough = min(np.clip(ISLAND_SHARE * left.sum(), ISLAND_LEAST, ISLAND_MOST), sizes.max())
    return left & (sizes < enough)


def _needles(shapes: _Shapes, left: Bool[np.ndarray, "N"], seen: _Seen | None) -> Bool[np.ndarray, "N"]:
    """Which Gaussians are long and thin and end in empty space. Along an edge or a wire there are others."""
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
