# SPDX-License-Identifier: Apache-2.0
"""Perspective views that together show what a lens sees, and resampling photos to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from img3d_dataparsers.lenses.lens import EQUIRECTANGULAR, OPENCV_FISHEYE, Lens
from img3d_dataparsers.posed_photos import FloatArray

FACES: dict[str, FloatArray] = {
    "front": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "right": np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]),
    "back": np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]),
    "left": np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    "up": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
    "down": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
"""The faces of a cube around the camera: rotations from the view's axes to the camera's, both OpenCV's."""
MAX_HALF_ANGLE = np.radians(55)
"""Maximum angle in radians to the optical axis that a single perspective view shows on each side: in a wider one, the
rim would take most of the pixels."""
MIN_COVERED = 0.1
"""Minimum fraction of a face that the lens sees; other faces are not used."""
PADDING = 4
"""Pixels added around a panorama, for interpolation across its left and right edges and its poles."""


@dataclass(frozen=True)
class View:
    """A perspective view of what a lens sees, without distortion."""

    name: str
    """A face of the cube, or "centre"."""
    rotation: FloatArray
    """`[3, 3]`, from the view's axes to the camera's, both OpenCV's (x right, y down, z forward)."""
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def rays(self, pixels: FloatArray) -> FloatArray:
        """Rays `[N, 3]` in the camera's axes through pixels `[N, 2]` of the view, pixel centres at +0.5."""
        x, y = (pixels - (self.cx, self.cy)).T / np.array([[self.fx], [self.fy]])
        return np.stack([x, y, np.ones_like(x)], axis=1) @ self.rotation.T


def replacing_views(lens: Lens | None) -> tuple[View, ...]:
    """The views that replace the photos of a lens; none if OpenCV can undistort these to one perspective photo."""
    if lens is None or (lens.model == OPENCV_FISHEYE and lens.half_angles().max() <= MAX_HALF_ANGLE):
        return ()
    return views_of(lens)


@lru_cache(maxsize=64)
def views_of(lens: Lens) -> tuple[View, ...]:
    """One central view if the lens has a moderate field of view, otherwise the faces of a cube that it sees."""
    right, down, left, up = np.tan(np.minimum(lens.half_angles(), MAX_HALF_ANGLE))
    if lens.model != EQUIRECTANGULAR and lens.half_angles().max() <= MAX_HALF_ANGLE:
        fx, fy = lens.width / (left + right), lens.height / (up + down)
        return (View("centre", np.eye(3), fx, fy, fx * left, fy * up, lens.width, lens.height),)
    # As many pixels per radian in the middle of a face as the lens has in its middle.
    size = max(2, round(2 * lens.focal_length))
    half = size / 2
    faces = [View(name, rotation, half, half, half, half, size, size) for name, rotation in FACES.items()]
    return tuple(face for face in faces if _covered(lens, face) >= MIN_COVERED)


def _covered(lens: Lens, view: View) -> float:
    """The fraction of a view that a lens sees."""
    steps = (np.arange(64) + 0.5) / 64
    x, y = np.meshgrid(view.width * steps, view.height * steps)
    seen = lens.pixels(view.rays(np.stack([x.ravel(), y.ravel()], axis=1)))
    return float(np.isfinite(seen).all(axis=1).mean())


@dataclass(frozen=True)
class Resampling:
    """Where each pixel of a view is in the photos of a lens."""

    lens: Lens
    xy: npt.NDArray[np.float32]
    """`[height, width, 2]`, pixel centres at +0.5; NaN where the lens does not see."""

    @staticmethod
    def of(lens: Lens, view: View) -> Resampling:
        """The resampling of the photos of a lens to a view."""
        x, y = np.meshgrid(np.arange(view.width) + 0.5, np.arange(view.height) + 0.5)
        xy = lens.pixels(view.rays(np.stack([x.ravel(), y.ravel()], axis=1)))
        return Resampling(lens, xy.reshape(view.height, view.width, 2).astype(np.float32))

    def photo(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resamples a photo `[H, W, C]`, with cubic interpolation; unseen pixels are black."""
        return self._resampled(image, cv2.INTER_CUBIC)

    def mask(self, mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        """Resamples a mask `[H, W]`; False where the lens sees nothing. None stands for True everywhere."""
        seen = np.isfinite(self.xy).all(axis=2)
        if mask is not None:
            seen &= self._resampled(mask[..., None].astype(np.uint8), cv2.INTER_NEAREST)[..., 0] > 0
        return None if seen.all() else seen

    def _resampled(self, image: npt.NDArray[np.uint8], interpolation: int) -> npt.NDArray[np.uint8]:
        padded = padded_panorama(image) if self.lens.is_whole_sphere else image
        shift = (PADDING if self.lens.is_whole_sphere else 0) - 0.5  # OpenCV's pixel centres are at integers
        x, y = (np.nan_to_num(self.xy[..., axis], nan=-1e4) + shift for axis in (0, 1))
        # Seen pixels within half a pixel of the photo's border take the border's colour.
        inside = np.isfinite(self.xy).all(axis=2)
        result = cv2.remap(padded, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
        result = np.asarray(result, dtype=np.uint8).reshape(*inside.shape, image.shape[2])
        return np.where(inside[..., None], result, 0).astype(np.uint8)


def padded_panorama(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A whole panorama `[H, W, C]` with `PADDING` pixels on each side, continued around the sphere."""
    # Beyond a pole, the picture goes on with the opposite meridian, upside down.
    opposite = np.roll(image, image.shape[1] // 2, axis=1)
    tall = np.concatenate([opposite[:PADDING][::-1], image, opposite[-PADDING:][::-1]])
    return np.ascontiguousarray(np.concatenate([tall[:, -PADDING:], tall, tall[:, :PADDING]], axis=1))
