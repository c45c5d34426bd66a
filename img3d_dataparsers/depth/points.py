# SPDX-License-Identifier: Apache-2.0
"""Dense 3D points from the depth maps of posed photos (LiDAR phones, depth cameras, renderings)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nerfstudio.cameras.cameras import Cameras

from img3d_assets.depth_edges import is_continuous
from img3d_base.console import print_line
from img3d_base.errors import InputError, counted, some_names, warn
from img3d_base.threaded import in_threads
from img3d_dataparsers.depth.maps import DepthMap, read_depth
from img3d_dataparsers.depth.units import USUAL, Seen, unit_of
from img3d_dataparsers.formats.capture_files import MAX_SCAN_POINTS
from img3d_dataparsers.images.undistortion import straight_rays
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.usable_photos import UsablePhoto
from img3d_pictures.reading import read_mask, read_photo

MAX_PHOTOS = 200
"""Largest number of depth maps used, evenly chosen, to bound the time."""
COMPARED_SIZE = 200
"""Longer side in pixels of the reduced depth maps that are compared with triangulated points."""
NAMES = {1.0: "metres", 1e-2: "centimetres", 1e-3: "millimetres", 1e-4: "tenths of millimetres"}


@dataclass(frozen=True)
class _Part:
    """The points of one photo."""

    seen: Seen
    rgb: npt.NDArray[np.uint8]
    """`[P, 3]`, the colours of `seen.vectors`."""
    has_integers: bool


def points_from_depth(
    photos: Sequence[UsablePhoto],
    cameras: Cameras,
    triangulated: Callable[[list[int]], FloatArray],
    scale: float,
    units: Mapping[bool, float],
) -> SeedPoints | None:
    """Converts depth maps to at most MAX_SCAN_POINTS points, in the world of the photos' poses.

    The unit of the depths is measured at points that are triangulated from a few photos, also to check the one that the
    data set declares; one line says what was assumed.

    Args:
        photos: The photos to train on; some may have no depth map.
        cameras: Their intrinsics `[N]`, at any size.
        triangulated: Returns points `[P, 3]` triangulated from the photos with the given indices, in the same world.
        scale: Units of the poses per metre, if the data set declares it; else 1.
        units: Metres per unit of depth, of maps with integers (True) and with floats (False), as far as the data set
            declares them.

    Returns:
        None if there are no depth maps, or, with a warning, if they are not usable.
    """
    indices = [i for i, photo in enumerate(photos) if photo.depth_path is not None]
    indices = [indices[i] for i in np.linspace(0, len(indices) - 1, min(len(indices), MAX_PHOTOS)).astype(int)]
    if not indices:
        return None
    each = -(-MAX_SCAN_POINTS // len(indices))
    found = in_threads(lambda i: _look(photos[i], cameras[i], each, seed=i), indices, "Reading depth maps")
    bad = [(photos[i], error) for i, error in zip(indices, found, strict=True) if isinstance(error, InputError)]
    if bad:
        names = some_names([str(photo.depth_path) for photo, _ in bad])
        maps = counted(len(bad), "missing or damaged depth map")
        warn(f"{maps} ({names}): they give no seed points ({bad[0][1]})")
    parts = [(i, part) for i, part in zip(indices, found, strict=True) if isinstance(part, _Part)]
    blank = sum(len(part.rgb) == 0 for _, part in parts)
    if blank:
        warn(f"{counted(blank, 'depth map')} without any known depth: they give no seed points")
    xyz, rgb = [], []
    for has_integers in (True, False):  # integers and floats have different units
        alike = [(i, part) for i, part in parts if part.has_integers == has_integers and len(part.rgb)]
        if alike:
            size = _unit(
                [part for _, part in alike],
                lambda g, a=alike: triangulated([a[k][0] for k in g]),
                scale,
                units.get(has_integers),
            )
            if size is not None:
                xyz += [part.seen.origin + size * part.seen.vectors for _, part in alike]
                rgb += [part.rgb for _, part in alike]
    return (np.concatenate(xyz), np.concatenate(rgb)) if xyz else None


def _unit(
    parts: Sequence[_Part], triangulated: Callable[[list[int]], FloatArray], scale: float, given: float | None
) -> float | None:
    """Length of a unit of depth in the poses' world, with a line about it; None, with a warning, if no unit fits."""
    has_integers = parts[0].has_integers
    kind = f"{counted(len(parts), 'depth map')} of {'integers' if has_integers else 'floats'}"
    usual = USUAL[has_integers] * scale
    unit = unit_of([part.seen for part in parts], triangulated, usual, None if given is None else given * scale, scale)
    if not unit.is_right:
        how = "in any unit" if given is None else f"in the data set's unit of {given:g} m"
        warn(
            f"no seed points from {kind}: {how}, they contradict points triangulated from the photos (relative "
            "depth from a network, or of another camera?)"
        )
        return None
    metres = unit.size / scale
    name = next((f"{name} ({size:g})" for size, name in NAMES.items() if np.isclose(metres, size)), f"{metres:.4g}")
    if given is not None and np.isclose(metres, given):
        why = "as the data set declares"
    elif given is not None:
        why = f"measured at points triangulated from the photos: the data set's {given:g} is wrong"
    elif unit.agreeing is None:
        why = "the usual one, which could not be checked"
    elif np.isclose(unit.size, usual):
        why = "the usual one"
    else:
        why = "measured at points triangulated from the photos"
    print_line(f"Seed points from {kind}: unit {name}, {why}")
    return unit.size


def _look(photo: UsablePhoto, camera: Cameras, count: int, seed: int) -> _Part | InputError:
    """At most `count` random points of one photo; an error if its depth map cannot be read."""
    assert photo.depth_path is not None
    try:
        depth = read_depth(photo.depth_path)
    except InputError as error:
        return error
    return _part(photo, camera, depth, count, seed)


def _part(photo: UsablePhoto, camera: Cameras, depth: DepthMap, count: int, seed: int) -> _Part:
    height, width = depth.values.shape
    usable = is_continuous(depth.values)
    if photo.mask_path is not None:
        usable &= read_mask(photo.mask_path, width, height, photo.upright, photo.image_path)
    rows, columns = np.nonzero(usable)
    if len(rows) > count:
        chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    scale = [camera.width.item() / width, camera.height.item() / height]
    rays = straight_rays(camera, (np.stack([columns, rows], axis=1) + 0.5) * scale)
    ahead = np.isfinite(rays).all(axis=1)  # a fisheye also sees sideways and backwards
    rows, columns, rays = rows[ahead], columns[ahead], rays[ahead]
    to_world = photo.camera_to_world[:3, :3] * [1.0, -1.0, -1.0]
    values = depth.values[rows, columns]
    vectors = np.column_stack([rays, np.ones(len(rays))]) * values[:, None] @ to_world.T
    step = -(-max(height, width) // COMPARED_SIZE)
    seen = Seen(
        origin=photo.camera_to_world[:3, 3],
        camera=camera,
        world_to_camera=to_world.T,
        vectors=vectors,
        depth=depth.values[step // 2 :: step, step // 2 :: step].copy(),
    )
    picture = read_photo(photo.image_path, width, height, upright=photo.upright)
    return _Part(seen, picture[rows, columns, :3], depth.has_integers)
