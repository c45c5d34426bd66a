# SPDX-License-Identifier: Apache-2.0
"""Triangulation of sparse 3D points from features matched between photos with known cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from img3d_base.threaded import in_threads
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.sfm.sift import Features, IntArray, find_features, match

RECIPE = 4
"""Version number: increase it with every change that affects the points, to invalidate cached ones."""
IMAGE_SIZE = 800
"""Longest side in pixels of the photos in which features are detected; distances in pixels refer to this size."""
MAX_PHOTOS = 200
"""Largest number of photos that seed points are triangulated from, evenly chosen, to bound time and memory."""
MAX_FEATURES = 4096
"""Largest number of features per photo."""
NEIGHBOURS = 12
"""Number of photos that each photo is matched with; farther ones are connected through the tracks."""
MAX_VIEWING_ANGLE = 60.0
"""Largest angle in degrees between two photos' viewing directions at which SIFT finds matches."""
MAX_RATIO = 0.85
"""Threshold of Lowe's ratio test; laxer than the usual 0.8, because the known cameras reject wrong matches."""
MAX_EPIPOLAR_ERROR = 3.0
"""Largest epipolar error of a match in pixels (Sampson distance)."""
MAX_MISFIT_ERROR = 20.0
"""Matches with a larger epipolar error in pixels are taken for wrong ones, however wrong the cameras are."""
MIN_RIGHT = 0.25
"""Share of the matches that must be right to tell how well cameras fit: on real photos 0.5 to 0.9 are."""
MAX_REPROJECTION_ERROR = 2.0
"""Largest distance in pixels between a point's projection and the feature."""
MIN_ANGLE = 1.5
"""Smallest angle in degrees between the rays of a point: below it, the depth is mostly noise."""
MIN_DEPTH = 1e-6
"""Depth, in camera distances, below which a point counts as behind the camera."""
MIN_POINTS = 500
"""Smallest number of points to start training from."""
MANY_POINTS = 3000
"""If fewer points are seen by three photos, points that only two photos see are used too."""


@dataclass(frozen=True)
class Observations:
    """Observations of points in photos, sorted by point."""

    point: IntArray
    """Index of the point, `[O]`."""
    photo: IntArray
    """Index of the photo, `[O]`."""
    xy: FloatArray
    """Position in the photo, `[O, 2]`, pixel centres at +0.5."""
    rgb: npt.NDArray[np.uint8]
    """Colour in the photo, `[O, 3]`."""

    @property
    def starts(self) -> IntArray:
        """Index of each point's first observation, `[P]`."""
        return np.flatnonzero(np.diff(self.point, prepend=-1))

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums of `values` `[O, ...]` over the observations of each point, `[P, ...]`."""
        return np.add.reduceat(values, self.starts, axis=0)

    def only(self, keep: npt.NDArray[np.bool_], min_views: int) -> Observations:
        """The observations in `keep` `[O]` of points that still have `min_views` photos; points are renumbered."""
        point, photo = self.point[keep], self.photo[keep]
        views = np.bincount(np.unique(np.stack([point, photo]), axis=1)[0], minlength=1)
        often = views[point] >= min_views
        chosen = np.flatnonzero(keep)[often]
        renumbered = np.unique(point[often], return_inverse=True)[1].astype(np.int64)
        return Observations(renumbered, self.photo[chosen], self.xy[chosen], self.rgb[chosen])


@dataclass(frozen=True)
class PhotoMatches:
    """Features of N photos, and which of them match by their descriptors alone."""

    features: list[Features]
    pairs: list[tuple[int, int]]
    """Indices of photos."""
    matched: list[IntArray]
    """For each pair the indices of features that match, `[M, 2]`."""
    K: FloatArray
    """`[N, 3, 3]`."""

    def epipolar_errors(self, world_to_cameras: FloatArray) -> list[FloatArray]:
        """For each pair the matches' epipolar errors in pixels, `[M]`; NaN if undefined.

        Args:
            world_to_cameras: `[N, 3, 4]`, OpenCV axes.
        """
        errors = []
        for (i, j), matched in zip(self.pairs, self.matched, strict=True):
            F = fundamental_matrix(self.K[[i, j]], world_to_cameras[[i, j]])
            first, second = self.features[i].xy[matched[:, 0]], self.features[j].xy[matched[:, 1]]
            errors.append(epipolar_errors(first, second, F))
        return errors

    def tracks(self, errors: Sequence[FloatArray], max_error: float) -> Observations:
        """The matches with an epipolar error below `max_error`, joined."""
        kept = [matched[error < max_error] for matched, error in zip(self.matched, errors, strict=True)]
        return link(self.features, self.pairs, kept)


def misfit(errors: Sequence[FloatArray]) -> float:
    """How far matches are from where the cameras let them be: the median epipolar error of the right ones, in pixels.
    Exact cameras have 0.1 to 0.4. 0 if hardly any match is right, which says nothing of the cameras.

    Errors of wrong matches are spread evenly, so that the larger half of the range tells how many of them there are.
    """
    all_errors = np.concatenate([np.empty(0), *errors])
    plausible = np.sort(all_errors[all_errors < MAX_MISFIT_ERROR])
    num_wrong = 2 * int((plausible > MAX_MISFIT_ERROR / 2).sum())
    num_right = len(plausible) - num_wrong
    if num_right <= MIN_RIGHT * len(all_errors):
        return 0.0
    num_right_below = np.arange(1, len(plausible) + 1) - num_wrong * plausible / MAX_MISFIT_ERROR
    return float(plausible[np.argmax(num_right_below >= num_right / 2)])


def match_features(photos: Img3dImageDataset, camera_to_worlds: FloatArray) -> PhotoMatches:
    """Finds features, and matches those of photos that probably overlap.

    Args:
        photos: N photos at IMAGE_SIZE, with masks and intrinsics.
        camera_to_worlds: `[N, 4, 4]`, OpenGL camera axes.
    """
    features = in_threads(
        lambda i: find_features(photos.get_numpy_image(i), photos.get_mask(i), MAX_FEATURES),
        list(range(len(photos))),
        "Finding features",
    )
    pairs = pairs_to_match(camera_to_worlds)

    def match_pair(pair: tuple[int, int]) -> IntArray:
        first, second = (features[i] for i in pair)
        return match(first.descriptors.float(), second.descriptors.float(), MAX_RATIO)

    matched = in_threads(match_pair, pairs, "Matching features")
    return PhotoMatches(features, pairs, matched, photos.cameras.get_intrinsics_matrices().double().numpy())


def triangulate(photos: Img3dImageDataset, camera_to_worlds: FloatArray) -> tuple[SeedPoints, float]:
    """Triangulates features that are matched in at least three of the photos (two, if that gives too few points).

    Args:
        photos: N photos at IMAGE_SIZE, with masks and intrinsics.
        camera_to_worlds: `[N, 4, 4]` of the photos, OpenGL camera axes, in double precision.

    Returns:
        Points in the world of `camera_to_worlds`, each within MAX_REPROJECTION_ERROR of its features, and their mean
        colours; they are empty if the photos have nothing in common. And the cameras' `misfit`.
    """
    matches = match_features(photos, camera_to_worlds)
    world = UnitWorld(camera_to_worlds)
    errors = matches.epipolar_errors(world.world_to_cameras)
    tracks = matches.tracks(errors, MAX_EPIPOLAR_ERROR)
    xyz, rgb = np.empty((0, 3)), np.empty((0, 3), dtype=np.uint8)
    for min_views in (3, 2):
        xyz, rgb = meet(tracks, matches.K, world.world_to_cameras, min_views)
        if len(xyz) >= MANY_POINTS:
            break
    return (xyz * world.scale + world.centre, rgb), misfit(errors)


class UnitWorld:
    """Cameras moved to the origin and scaled to unit size, so that thresholds do not depend on the data's scale.

    Args:
        camera_to_worlds: `[N, 4, 4]`, OpenGL camera axes.
    """

    def __init__(self, camera_to_worlds: FloatArray) -> None:
        origins = camera_to_worlds[:, :3, 3]
        self.centre: FloatArray = origins.mean(axis=0)
        self.scale: float = np.abs(origins - self.centre).max() or 1.0
        self.world_to_cameras = moved_world_to_cameras(camera_to_worlds, self.centre, self.scale)
        """`[N, 3, 4]`, OpenCV camera axes."""


def pairs_to_match(camera_to_worlds: FloatArray) -> list[tuple[int, int]]:
    """Pairs of photos that probably overlap: each photo with the nearest ones that look in a similar direction."""
    origins, backward = camera_to_worlds[:, :3, 3], camera_to_worlds[:, :3, 2]
    distance = np.linalg.norm(origins[:, None] - origins, axis=-1)
    distance[backward @ backward.T < np.cos(np.radians(MAX_VIEWING_ANGLE))] = np.inf
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBOURS]
    pairs = {
        (min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row if np.isfinite(distance[i, j])
    }
    return sorted(pairs)


def moved_world_to_cameras(camera_to_worlds: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
    """`[N, 3, 4]` with OpenCV camera axes, for the world moved by -centre and then scaled by 1/scale."""
    # Orthonormalised, as data sets round their rotations to a few digits.
    u, _, vh = np.linalg.svd(camera_to_worlds[:, :3, :3] * [1.0, -1.0, -1.0])
    rotations = np.asarray(np.swapaxes(u @ vh, 1, 2), dtype=np.float64)
    origins = (camera_to_worlds[:, :3, 3] - centre) / scale
    return np.concatenate([rotations, -rotations @ origins[..., None]], axis=2)


def fundamental_matrix(K: FloatArray, world_to_cameras: FloatArray) -> FloatArray:
    """`[3, 3]` with `x2^T F x1 = 0` for the pixels of a point in two photos (Hartley and Zisserman, section 9.6).

    Args:
        K: `[2, 3, 3]`.
        world_to_cameras: `[2, 3, 4]`, OpenCV axes.
    """
    (R1, R2), (t1, t2) = world_to_cameras[:, :, :3], world_to_cameras[:, :, 3]
    R = R2 @ R1.T
    x, y, z = t2 - R @ t1
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.linalg.inv(K[1]).T @ cross @ R @ np.linalg.inv(K[0])


def epipolar_errors(first: FloatArray, second: FloatArray, F: FloatArray) -> FloatArray:
    """Sampson distances of matches `[M, 2]` and `[M, 2]` in pixels, `[M]`; NaN if undefined."""
    x1 = np.concatenate([first, np.ones((len(first), 1))], axis=1)
    x2 = np.concatenate([second, np.ones((len(second), 1))], axis=1)
    line2, line1 = x1 @ F.T, x2 @ F
    slope = np.sqrt((line2[:, :2] ** 2).sum(axis=1) + (line1[:, :2] ** 2).sum(axis=1))
    # Two photos from the same position have no epipolar lines: their matches do not determine depth.
    return np.abs((x2 * line2).sum(axis=1)) / np.where(slope > 0, slope, np.nan)


def link(features: Sequence[Features], pairs: Sequence[tuple[int, int]], matches: Sequence[IntArray]) -> Observations:
    """Joins the matches of all pairs of photos into tracks, one for each point."""
    counts = [len(feature.xy) for feature in features]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    linked = [matched + offsets[list(pair)] for pair, matched in zip(pairs, matches, strict=True)]
    first, second = np.concatenate([np.empty((0, 2), dtype=np.int64), *linked]).T
    total = int(offsets[-1])
    graph = coo_matrix((np.ones(len(first), dtype=np.bool_), (first, second)), shape=(total, total))
    track_of_feature = connected_components(graph, directed=False)[1].astype(np.int64)
    order = np.argsort(track_of_feature, kind="stable")
    return Observations(
        track_of_feature[order],
        np.repeat(np.arange(len(features)), counts)[order],
        np.concatenate([feature.xy for feature in features])[order],
        np.concatenate([feature.rgb for feature in features])[order],
    )


def meet(tracks: Observations, K: FloatArray, world_to_cameras: FloatArray, min_views: int) -> SeedPoints:
    """Triangulates each track, and removes outlier observations and tracks.

    Args:
        tracks: The tracks of matched features.
        K: `[N, 3, 3]`.
        world_to_cameras: `[N, 3, 4]`, OpenCV axes; in a world of about unit size.
        min_views: Number of photos that must agree on a point.
    """
    everything = np.ones(len(tracks.point), dtype=np.bool_)
    tracks = tracks.only(everything, min_views)
    # The worst outliers are removed first: a wrong match pulls its point away from the right ones.
    for tolerance in (8 * MAX_REPROJECTION_ERROR, 3 * MAX_REPROJECTION_ERROR, MAX_REPROJECTION_ERROR):
        if len(tracks.point) > 0:
            residuals, _ = project(nearest_points(tracks, K, world_to_cameras), tracks, K, world_to_cameras)
            tracks = tracks.only(np.linalg.norm(residuals, axis=1) <= tolerance, min_views)
    if len(tracks.point) == 0:
        return np.empty((0, 3)), np.empty((0, 3), dtype=np.uint8)
    xyz = nearest_points(tracks, K, world_to_cameras)
    residuals, _ = project(xyz, tracks, K, world_to_cameras)
    worst = np.maximum.reduceat(np.linalg.norm(residuals, axis=1), tracks.starts)
    good = (worst <= MAX_REPROJECTION_ERROR) & (_angles(tracks, K, world_to_cameras) >= MIN_ANGLE)
    rgb = tracks.sums(tracks.rgb.astype(np.float64)) / np.bincount(tracks.point)[:, None]
    return xyz[good], np.round(rgb[good]).astype(np.uint8)


def nearest_points(tracks: Observations, K: FloatArray, world_to_cameras: FloatArray) -> FloatArray:
    """Points `[P, 3]` that minimise the reprojection error, robustly.

    Starts from the point nearest to the rays, then runs Gauss-Newton with Cauchy weights.
    """
    origins, directions = _rays(tracks, K, world_to_cameras)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    xyz = _solve(tracks.sums(across), tracks.sums(np.einsum("oij,oj->oi", across, origins)))
    for _ in range(5):
        residuals, jacobians = project(xyz, tracks, K, world_to_cameras)
        residuals = np.where(np.isfinite(residuals), residuals, 0.0)  # their derivatives are 0 too
        weighted = np.swapaxes(jacobians, 1, 2) / (1 + (residuals**2).sum(axis=1))[:, None, None]
        step = _solve(tracks.sums(weighted @ jacobians), tracks.sums((weighted @ residuals[..., None])[..., 0]))
        xyz = xyz - step
    return xyz


def project(
    xyz: FloatArray, tracks: Observations, K: FloatArray, world_to_cameras: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Projections minus features in pixels, `[O, 2]`, and their derivatives with respect to the points, `[O, 2, 3]`.

    Residuals of points behind their camera are infinite.
    """
    projections = K @ world_to_cameras
    P = projections[tracks.photo]
    homogeneous = np.einsum("oij,oj->oi", P[:, :, :3], xyz[tracks.point]) + P[:, :, 3]
    depth = homogeneous[:, 2:]
    in_front = depth > MIN_DEPTH
    depth = np.where(in_front, depth, 1.0)
    uv = homogeneous[:, :2] / depth
    jacobians = (P[:, :2, :3] - uv[:, :, None] * P[:, 2:, :3]) / depth[..., None]
    return np.where(in_front, uv - tracks.xy, np.inf), np.where(in_front[..., None], jacobians, 0.0)


def _solve(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Solves `[P, 3, 3] x = [P, 3]`; undetermined components (parallel rays) stay near 0."""
    ridge = 1e-12 * np.trace(matrices, axis1=1, axis2=2)[:, None, None] + 1e-30
    return np.linalg.solve(matrices + ridge * np.eye(3), vectors[..., None])[..., 0]


def _angles(tracks: Observations, K: FloatArray, world_to_cameras: FloatArray) -> FloatArray:
    """The largest angle between a point's first ray and its other rays, in degrees, `[P]`."""
    _, directions = _rays(tracks, K, world_to_cameras)
    cosines = (directions * directions[tracks.starts][tracks.point]).sum(axis=1)
    return np.degrees(np.arccos(np.minimum.reduceat(cosines, tracks.starts).clip(-1, 1)))


def _rays(tracks: Observations, K: FloatArray, world_to_cameras: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Origins and unit directions `[O, 3]` of all observations."""
    rotations = world_to_cameras[:, :, :3]
    origins = -np.einsum("nji,nj->ni", rotations, world_to_cameras[:, :, 3])
    pixels = np.concatenate([tracks.xy, np.ones((len(tracks.xy), 1))], axis=1)
    to_world = np.linalg.inv(K @ rotations)
    directions = np.einsum("oij,oj->oi", to_world[tracks.photo], pixels)
    return origins[tracks.photo], directions / np.linalg.norm(directions, axis=1, keepdims=True)
