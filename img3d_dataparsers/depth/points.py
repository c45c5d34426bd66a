# SPDX-License-Identifier: Apache-2.0
"""Dense 3D points from depth maps that lie beside posed photos (LiDAR phones, depth cameras, renderings)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nerfstudio.cameras.cameras import Cameras

from img3d_base.console import CONSOLE
from img3d_base.errors import InputError, counted, some_names, warn
from img3d_base.threaded import in_threads
from img3d_dataparsers.depth.maps import DepthMap, is_continuous, read_depth
from img3d_dataparsers.depth.units import USUAL, Seen, unit_of
from img3d_dataparsers.formats.capture_files import MAX_SCAN_POINTS
from img3d_dataparsers.images.undistortion import straight_rays
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.usable_photos import UsablePhoto
from img3d_pictures.reading import read_mask, read_photo

MAX_PHOTOS = 200
"""Evenly chosen of larger sets, so that time stays bounded."""
COMPARED_SIZE = 200
"""Pixels of the longer side of the depth maps that are kept for comparing photos."""
NAMES = {1.0: "metres", 1e-2: "centimetres", 1e-3: "millimetres", 1e-4: "tenths of millimetres"}


@dataclass(frozen=True)
class _Part:
    """What one photo gives."""

    seen: Seen
    rgb: npt.NDArray[np.uint8]
    """`[P, 3]` of its vectors."""
    has_integers: bool


def points_from_depth(
    photos: Sequence[UsablePhoto],
    cameras: Cameras,
    triangulated: Callable[[list[int]], FloatArray],
    scale: float,
    units: Mapping[bool, float],
) -> SeedPoints | None:
    """What the photos' depth maps see, at most MAX_SCAN_POINTS of it, in the world of the photos' poses.

    Which unit they are in is measured at points that are triangulated from a few photos, unless the data set says it;
    one line tells what was assumed.

    Args:
        photos: those to train on; some may have no depth map.
        cameras: their intrinsics `[N]`, at any size.
        triangulated: points `[P, 3]` from the photos of these indices, in the same world.
        scale: units of the poses in a metre, as far as the data set says so.
        units: what a depth of 1 is, in metres, of maps with whole numbers (True) and with floats (False), where the
            data set says it.

    Returns:
        None, with a warning, if the depth maps show nothing, or no depths; None if there are none.
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
        warn(f"{maps} ({names}): no seed points from there ({bad[0][1]})")
    parts = [(i, part) for i, part in zip(indices, found, strict=True) if isinstance(part, _Part)]
    blank = sum(len(part.rgb) == 0 for _, part in parts)
    if blank:
        warn(f"{counted(blank, 'depth map')} without any known depth: no seed points from there")
    xyz, rgb = [], []
    for has_integers in (True, False):  # each kind has a unit of its own
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
    """The length of a depth of 1 in the poses' world, with a line that says it; None, with a warning, for no depths."""
    has_integers = parts[0].has_integers
    kind = f"{len(parts)} depth maps of {'whole numbers' if has_integers else 'floats'}"
    usual = USUAL[has_integers] * scale
    unit = unit_of([part.seen for part in parts], triangulated, usual, None if given is None else given * scale, scale)
    if not unit.is_right:
        how = "in any unit" if given is None else f"in units of {given:g}, as the data set says"
        warn(
            f"{kind} give no seed points: {how} they are not as deep as points that are triangulated from the photos "
            "(relative depth, as networks guess it, or of another camera?)"
        )
        return None
    metres = unit.size / scale
    name = next((f"{name} ({size:g})" for size, name in NAMES.items() if np.isclose(metres, size)), f"{metres:.4g}")
    if given is not None and np.isclose(metres, given):
        why = "as the data set says"
    elif given is not None:
        why = f"measured at points that are triangulated from the photos: {given:g}, as the data set says, is wrong"
    elif unit.agreeing is None:
        why = "which is usual, but could not be checked"
    elif np.isclose(unit.size, usual):
        why = "as is usual"
    else:
        why = "measured at points that are triangulated from the photos"
    CONSOLE.print(f"Seed points from {kind}: unit {name}, {why}", markup=False, highlight=False, soft_wrap=True)
    return unit.size


def _look(photo: UsablePhoto, camera: Cameras, count: int, seed: int) -> _Part | InputError:
    """At most `count` points of one photo, at random; an error if its depth map cannot be read."""
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
    ahead = np.isfinite(rays).all(axis=1)  # a fisheye sees to the side, too
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
