# SPDX-License-Identifier: Apache-2.0
"""Undistortion: the pinhole camera that sees most of a distorted camera's view, and its photos."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from img3d_base.errors import InputError
from img3d_dataparsers.intrinsics import MAX_FOCAL, MIN_FOCAL
from img3d_dataparsers.posed_photos import FloatArray

EXACT_DISTORTION = "opencv_distortion"
"""Key of Cameras.metadata for distortion `[N, 8]` in OpenCV's order, if distortion_params only approximates it."""
MAX_FIELD_OF_VIEW = 120.0
"""Largest field of view in degrees of an undistorted fisheye photo along its longer side: a larger one would stretch
the rim over most of the photo."""
MAX_ANGLE = np.radians(85)
"""Largest angle to the optical axis of a fisheye's rays that a pinhole camera can represent."""


@dataclass(frozen=True)
class Undistortion:
    """The undistortion of one camera's photos, which keeps their size."""

    K: FloatArray
    """Intrinsics `[3, 3]` of the distorted camera, in OpenCV's convention (pixel centres at integers)."""
    new_K: FloatArray
    """Intrinsics `[3, 3]` of the pinhole camera, in the same convention."""
    distortion: FloatArray
    """OpenCV's order: k1, k2, p1, p2, k3, k4, k5, k6 (perspective) or k1, k2, k3, k4 (fisheye)."""
    is_fisheye: bool
    width: int
    height: int

    def at_scale(self, factor: int) -> Undistortion:
        """The same lens on photos with `factor` times the pixels in width and height."""
        scale = np.diag([factor, factor, 1.0])
        # Pixel centres are at integers here, so the corner that the scaling leaves fixed is at -0.5.
        shift = np.array([[0, 0, (factor - 1) / 2], [0, 0, (factor - 1) / 2], [0, 0, 0]])
        return replace(
            self,
            K=scale @ self.K + shift,
            new_K=scale @ self.new_K + shift,
            width=factor * self.width,
            height=factor * self.height,
        )

    def source_pixels(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Position in the distorted photo of each pixel of the undistorted one: x and y, each `[height, width]`."""
        size = (self.width, self.height)
        if self.is_fisheye:
            maps = cv2.fisheye.initUndistortRectifyMap(
                self.K, self.distortion, np.eye(3), self.new_K, size, cv2.CV_32FC1
            )
        else:
            maps = cv2.initUndistortRectifyMap(self.K, self.distortion, np.eye(3), self.new_K, size, cv2.CV_32FC1)
        return np.asarray(maps[0], dtype=np.float32), np.asarray(maps[1], dtype=np.float32)

    def undistort(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resamples a photo `[height, width, channels]`; with cubic interpolation, as linear blurs visibly."""
        x, y = self.source_pixels()
        # The border is replicated because the outermost pixel centres may be a fraction of a pixel outside.
        return np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)

    def undistort_mask(self, mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        """Resamples a mask `[height, width]` (None: all True); False outside the photo.

        Returns:
            None if the mask was None and the photo covers the whole view.
        """
        x, y = self.source_pixels()
        covered = (x > -1) & (x < self.width) & (y > -1) & (y < self.height)
        if mask is None:
            return None if covered.all() else covered
        straight = cv2.remap(mask.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return covered & (np.asarray(straight) > 0)


def undistortion_of(camera: Cameras) -> Undistortion | None:
    """The undistortion of a camera `[]`; None for a pinhole camera.

    The new focal lengths and principal point are those for which the undistorted photo has no empty border (OpenCV's
    `alpha=0`, `balance=0`), as in Nerfstudio's FullImageDatamanager. Unlike there, nothing is cropped, so that photos
    of one size keep that size (`ns-export tsdf` requires it), and the cameras are known before any photo is read.

    Raises:
        InputError: The distortion is so strong that there is no such pinhole camera.
    """
    K, distortion, is_fisheye = _lens(camera)
    if not is_fisheye and not distortion.any():
        return None
    width, height = int(camera.width.item()), int(camera.height.item())
    size = (width, height)
    try:
        if is_fisheye:
            new_K = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(K, distortion, size, np.eye(3), balance=0.0)
            least = max(size) / 2 / np.tan(np.radians(MAX_FIELD_OF_VIEW / 2))
            new_K[:2, :2] *= max(1.0, least / max(new_K[0, 0], 1e-9))
        else:
            new_K, _ = cv2.getOptimalNewCameraMatrix(K, distortion, size, 0.0)
    except cv2.error:
        new_K = np.zeros((3, 3))
    focal, centre = np.diag(new_K)[:2] / size, new_K[:2, 2] / size
    usable = (MIN_FOCAL < focal).all() and (focal < MAX_FOCAL).all() and (np.abs(centre) < MAX_FOCAL).all()
    if not usable:
        names = "k1, k2, k3, k4" if is_fisheye else "k1, k2, p1, p2, k3, k4, k5, k6"
        raise InputError(
            f"a lens with {names} = {', '.join(f'{value:g}' for value in distortion)} and focal length {K[0, 0]:g} of "
            f"a {width} x {height} photo cannot be undistorted; correct the calibration"
        )
    return Undistortion(K, np.asarray(new_K, dtype=np.float64), distortion, is_fisheye, width, height)


def _lens(camera: Cameras) -> tuple[FloatArray, FloatArray, bool]:
    """`K` `[3, 3]` (pixel centres at integers), distortion in OpenCV's order, and whether it is a fisheye."""
    K = np.array(
        [[camera.fx.item(), 0, camera.cx.item() - 0.5], [0, camera.fy.item(), camera.cy.item() - 0.5], [0, 0, 1]]
    )
    params = camera.distortion_params
    k1, k2, k3, k4, p1, p2 = params.double().flatten().tolist() if params is not None else [0.0] * 6
    if int(camera.camera_type.item()) == CameraType.FISHEYE.value:
        return K, np.array([k1, k2, k3, k4]), True
    exact = (camera.metadata or {}).get(EXACT_DISTORTION)
    distortion = [k1, k2, p1, p2, k3, 0.0, 0.0, 0.0] if exact is None else exact.double().flatten().tolist()
    return K, np.array(distortion), False


def straight_rays(camera: Cameras, pixels: FloatArray) -> FloatArray:
    """Intersections of the rays through pixels of a (distorted) photo with the plane at distance 1: x right, y down.

    Args:
        camera: `[]`, with or without lens distortion.
        pixels: `[P, 2]`, pixel centres at +0.5.

    Returns:
        `[P, 2]`; NaN for rays of a fisheye that point sideways or backwards.
    """
    K, distortion, is_fisheye = _lens(camera)
    if len(pixels) == 0:
        return pixels
    points = pixels.reshape(-1, 1, 2) - 0.5
    if not is_fisheye:
        enough = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
        straight = cv2.undistortPointsIter(points, K, distortion, np.eye(3), np.eye(3), enough)
        return np.asarray(straight, dtype=np.float64).reshape(-1, 2)
    straight = np.asarray(cv2.fisheye.undistortPoints(points, K, distortion), dtype=np.float64).reshape(-1, 2)
    # Beyond 90 degrees, or if no angle fits, OpenCV returns a point on the wrong side of the axis.
    sides = np.sign(straight) == np.sign((points.reshape(-1, 2) - K[:2, 2]) / np.diag(K)[:2])
    steep = np.linalg.norm(straight, axis=1) < np.tan(MAX_ANGLE)
    return np.where((sides.all(axis=1) & steep)[:, None], straight, np.nan)


def pixels_of_rays(camera: Cameras, rays: FloatArray) -> FloatArray:
    """The inverse of `straight_rays`: pixels `[P, 2]` of rays `[P, 2]` in a camera `[]`, pixel centres at +0.5."""
    K, distortion, is_fisheye = _lens(camera)
    if len(rays) == 0:
        return rays
    if is_fisheye:
        pixels = cv2.fisheye.distortPoints(rays.reshape(-1, 1, 2), K, distortion)
    else:
        points = np.column_stack([rays, np.ones(len(rays))])
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, distortion)
    return np.asarray(pixels, dtype=np.float64).reshape(-1, 2) + 0.5


def with_denominators(cameras: Cameras, denominators: Tensor) -> Cameras:
    """Adds k4, k5, k6 `[N, 3]` of OpenCV's full perspective model to cameras `[N]`.

    Nerfstudio's distortion_params cannot hold them: they get the best polynomial approximation, by which other methods
    undistort rays, and the metadata get the exact distortion.
    """
    if not denominators.any():
        return cameras
    assert cameras.distortion_params is not None
    params = cameras.distortion_params.clone()
    k1, k2, k3, _, p1, p2 = params.unbind(dim=-1)
    exact = torch.stack([k1, k2, p1, p2, k3, *denominators.unbind(dim=-1)], dim=-1)
    cameras = replace(cameras, metadata={**(cameras.metadata or {}), EXACT_DISTORTION: exact})
    for i in denominators.any(dim=-1).nonzero().flatten().tolist():
        width, height = cameras.width[i].item(), cameras.height[i].item()
        corners = straight_rays(cameras[i], np.array([[x, y] for x in (0, width) for y in (0, height)]))
        reach = float(np.linalg.norm(corners, axis=1).max())
        params[i, :3] = torch.from_numpy(nearest_polynomial(exact[i].double().numpy(), reach))
    return replace(cameras, distortion_params=params)


def nearest_polynomial(distortion: FloatArray, reach: float) -> FloatArray:
    """The `k1, k2, k3` that best approximate OpenCV's full perspective model, for programs without the latter.

    Args:
        distortion: `[8]`, OpenCV's order.
        reach: Largest distance of a pixel from the principal point, in undistorted photos of focal length 1.
    """
    k1, k2, _, _, k3, k4, k5, k6 = distortion.tolist()
    r2 = np.linspace(0, reach, 200)[1:] ** 2
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    radius = np.sqrt(r2)[:, None]
    powers = np.stack([r2, r2**2, r2**3], axis=1)
    return np.linalg.lstsq(radius * powers, radius[:, 0] * (radial - 1), rcond=None)[0]


def undistorted(cameras: Cameras, undistortions: list[Undistortion | None]) -> Cameras:
    """The pinhole cameras `[N]` of the undistorted photos; the arguments are not changed."""
    intrinsics = cameras.get_intrinsics_matrices().double()
    for i, undistortion in enumerate(undistortions):
        if undistortion is not None:
            intrinsics[i] = torch.from_numpy(undistortion.new_K)
            intrinsics[i, :2, 2] += 0.5  # OpenCV's pixel centres are at integers, ours at +0.5
    intrinsics = intrinsics.to(cameras.fx.dtype)
    return Cameras(
        camera_to_worlds=cameras.camera_to_worlds,
        fx=intrinsics[:, 0, 0],
        fy=intrinsics[:, 1, 1],
        cx=intrinsics[:, 0, 2],
        cy=intrinsics[:, 1, 2],
        width=cameras.width,
        height=cameras.height,
        camera_type=CameraType.PERSPECTIVE,
        metadata={},
    )
