# SPDX-License-Identifier: Apache-2.0
"""The intrinsics of one camera, from the values in a data set and the size of its photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nerfstudio.cameras.cameras import CameraType

from img3d_base.errors import InputError
from img3d_dataparsers.lenses.lens import EQUIRECTANGULAR, OPENCV_FISHEYE, PARAMETERS, Lens

CAMERA_TYPES = {
    **dict.fromkeys(("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL"), CameraType.PERSPECTIVE),
    **dict.fromkeys(("OPENCV", "FULL_OPENCV", "PERSPECTIVE"), CameraType.PERSPECTIVE),
    **dict.fromkeys(("FISHEYE", "SIMPLE_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"), CameraType.FISHEYE),
    OPENCV_FISHEYE: CameraType.FISHEYE,
    EQUIRECTANGULAR: CameraType.EQUIRECTANGULAR,
    **dict.fromkeys(PARAMETERS, CameraType.PERSPECTIVE),
}
"""Camera types of the camera models; of those that OpenCV lacks, `Intrinsics.lens` has the distortion.

OpenSfM's PERSPECTIVE is OPENCV's pinhole camera with k1 and k2."""
MIN_FOCAL, MAX_FOCAL = 1e-2, 1e4
"""Bounds of the focal length in photo widths: fields of view of 179 degrees and of 20 seconds of arc."""
RESIZED, OFF_CENTRE = 1.3, 0.05
"""For cameras without width and height: the least factor of a resized photo, and the largest relative distance of the
principal point from the centre."""
PANORAMA_TOLERANCE = 1e-2
"""Largest relative difference of a panorama's width to twice its height, and of its extent to a whole sphere."""


@dataclass(frozen=True)
class Intrinsics:
    """A camera at the full size of its photo: OpenCV's model, but with pixel centres at +0.5."""

    fx: float
    """Focal length in pixels."""
    fy: float
    """Focal length in pixels."""
    cx: float
    """Principal point in pixels from the photo's left edge."""
    cy: float
    """Principal point in pixels from the photo's upper edge."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    distortion: tuple[float, ...]
    """Nerfstudio's order: k1, k2, k3, k4, p1, p2; k4 is 0 for perspective cameras."""
    camera_type: CameraType
    """PERSPECTIVE, FISHEYE or EQUIRECTANGULAR; for the last, the focal lengths are as in `Lens`."""
    denominator: tuple[float, ...] = (0.0, 0.0, 0.0)
    """k4, k5, k6 of OpenCV's full perspective model, which divides by 1 + k4 r^2 + k5 r^4 + k6 r^6."""
    other_lens: Lens | None = None
    """The lens, if its model is one that OpenCV lacks; `distortion` is 0 then."""

    @property
    def lens(self) -> Lens | None:
        """The projection of a panorama, a fisheye, or a model that OpenCV lacks; None for the others."""
        focal_lengths_and_centre = (self.fx, self.fy, self.cx, self.cy)
        if self.camera_type == CameraType.EQUIRECTANGULAR:
            return Lens(EQUIRECTANGULAR, focal_lengths_and_centre, self.width, self.height)
        if self.camera_type == CameraType.FISHEYE:
            return Lens(OPENCV_FISHEYE, (*focal_lengths_and_centre, *self.distortion[:4]), self.width, self.height)
        return self.other_lens


def declared_size(values: dict[str, Any], name: str) -> tuple[float, float] | None:
    """Width and height of the camera that the data set declares; None if it declares none."""
    if "w" not in values or "h" not in values:
        return None
    return _positive(values, "w", name), _positive(values, "h", name)


def implied_size(values: dict[str, Any], width: int, height: int, name: str) -> tuple[float, float] | None:
    """Width and height of the camera whose values lack them, if its photo has been resized; None if it has not.

    Principal points are near the centre of the picture that they were calibrated on. If it is the centre of a picture
    of the photo's shape that is at least `RESIZED` times as large or as small, the focal length is of that picture too.

    Args:
        values: As for `resolve_intrinsics`.
        width: The photo's width.
        height: The photo's height.
        name: The photo's name, for messages.
    """
    if declared_size(values, name) is not None or not {"fl_x", "cx", "cy"} <= values.keys():
        return None
    factors = [2 * _number(values, key, name, 0.0) / size for key, size in (("cx", width), ("cy", height))]
    if min(factors) <= 0 or abs(math.log(factors[0] / factors[1])) > 2 * OFF_CENTRE:
        return None
    factor = math.sqrt(factors[0] * factors[1])
    if 1 / RESIZED < factor < RESIZED:
        return None
    whole = round(factor) if factor > 1 else 1 / round(1 / factor)
    if abs(factor / whole - 1) < OFF_CENTRE:
        factor = whole
    return factor * width, factor * height


def resolve_intrinsics(values: dict[str, Any], width: int, height: int, name: str) -> Intrinsics:
    """The camera of a photo of `width` x `height` pixels.

    Args:
        values: Keys of transforms.json (`fl_x`, `camera_angle_x`, `cx`, `w`, `k1`, …) for a photo of `w` x `h` pixels;
            they are scaled if the photo has another size.
        width: The photo's width.
        height: The photo's height.
        name: The photo's name, for messages.

    Raises:
        InputError: There is no focal length, a value is not a number, or the camera model is unknown.
    """
    values = _with_known_model(values)
    w, h = declared_size(values, name) or (width, height)
    camera_type = _camera_type(values, name)
    if camera_type == CameraType.EQUIRECTANGULAR:
        values = _as_panorama(values, w, h, name)
    if "fl_x" in values:
        fl_x = _positive(values, "fl_x", name)
    elif "camera_angle_x" in values:
        fl_x = 0.5 * w / math.tan(0.5 * _positive(values, "camera_angle_x", name))
    else:
        raise InputError(f"{name} has no focal length: give fl_x (pixels) or camera_angle_x (radians)")
    if "fl_y" in values:
        fl_y = _positive(values, "fl_y", name)
    elif "camera_angle_y" in values and "fl_x" not in values:
        fl_y = 0.5 * h / math.tan(0.5 * _positive(values, "camera_angle_y", name))
    else:
        fl_y = fl_x
    scale_x, scale_y = width / w, height / h
    fx, fy = fl_x * scale_x, fl_y * scale_y
    if not (MIN_FOCAL * width < fx < MAX_FOCAL * width and MIN_FOCAL * height < fy < MAX_FOCAL * height):
        raise InputError(
            f"{name}: a focal length of {fx:g} x {fy:g} pixels is impossible for a photo of {width} x {height}"
        )
    distortion, denominator = _distortion(values, camera_type, name)
    cx, cy = _number(values, "cx", name, w / 2) * scale_x, _number(values, "cy", name, h / 2) * scale_y
    return Intrinsics(
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=width,
        height=height,
        distortion=distortion,
        camera_type=camera_type,
        denominator=denominator,
        other_lens=_other_lens(values, {"f": fx, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}, (width, height), name),
    )


def _with_known_model(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the camera model in capitals, if it is known that way."""
    model = values.get("camera_model")
    return (
        {**values, "camera_model": model.upper()}
        if isinstance(model, str) and model.upper() in CAMERA_TYPES
        else values
    )


def _camera_type(values: dict[str, Any], name: str) -> CameraType:
    model = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    camera_type = CAMERA_TYPES.get(model) if isinstance(model, str) else None
    if camera_type is None:
        raise InputError(
            f"{name} has camera_model {model!r}; img3d reads COLMAP's camera models and EQUIRECTANGULAR panoramas: "
            "undistort the photos first"
        )
    return camera_type


def _as_panorama(values: dict[str, Any], w: float, h: float, name: str) -> dict[str, Any]:
    """The values with Nerfstudio's focal lengths of a panorama: those of a whole sphere, if there are none.

    Raises:
        InputError: It has none and is not twice as wide as high, or it would show more than a whole sphere.
    """
    if "fl_x" not in values:
        if abs(w / (2 * h) - 1) > PANORAMA_TOLERANCE:
            raise InputError(
                f"{name} has camera_model 'EQUIRECTANGULAR', but {w:g} x {h:g} pixels are not twice as wide as high: "
                "give whole panoramas, or fl_x (half the width of a turn) and fl_y (the height of half a turn) in "
                "pixels"
            )
        values = {**values, "fl_x": w / 2, "fl_y": h}
    fl_x, fl_y = _positive(values, "fl_x", name), _positive({"fl_y": values["fl_x"], **values}, "fl_y", name)
    if 2 * fl_x < (1 - PANORAMA_TOLERANCE) * w or fl_y < (1 - PANORAMA_TOLERANCE) * h:
        raise InputError(
            f"{name}: a panorama of {w:g} x {h:g} pixels with fl_x {fl_x:g} and fl_y {fl_y:g} shows more than a whole "
            f"sphere; a whole one has fl_x {w / 2:g} and fl_y {h:g}"
        )
    return values


def _other_lens(values: dict[str, Any], pinhole: dict[str, float], size: tuple[int, int], name: str) -> Lens | None:
    """The lens, if its model is one that OpenCV lacks.

    Args:
        values: As for `resolve_intrinsics`.
        pinhole: Focal lengths and principal point for photos of `size`.
        size: The photo's width and height.
        name: The photo's name, for messages.
    """
    model = values.get("camera_model")
    if model not in PARAMETERS:
        return None
    keys = PARAMETERS[model].split()
    return Lens(
        model, tuple(pinhole[key] if key in pinhole else _number(values, key, name, 0.0) for key in keys), *size
    )


def _distortion(
    values: dict[str, Any], camera_type: CameraType, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`Intrinsics.distortion` and `Intrinsics.denominator`."""
    if values.get("camera_model") in PARAMETERS or camera_type == CameraType.EQUIRECTANGULAR:
        return (0.0,) * 6, (0.0,) * 3
    if "distortion_params" in values:
        params = values["distortion_params"]
        if not isinstance(params, list) or len(params) != 6:
            raise InputError(f"{name}: distortion_params must be the six numbers k1, k2, k3, k4, p1, p2")
        values = {**values, **dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), params, strict=True))}
    k1, k2, k3, k4, k5, k6, p1, p2 = (
        _number(values, key, name, 0.0) for key in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    )
    if camera_type == CameraType.FISHEYE:
        return (k1, k2, k3, k4, p1, p2), (0.0, 0.0, 0.0)
    if k4 and not (k5 or k6) and values.get("camera_model") != "FULL_OPENCV":
        raise InputError(
            f"{name} has k4, which Nerfstudio (coefficient of r^8) and OpenCV (in the denominator) define differently: "
            'give "camera_model": "FULL_OPENCV" if it is OpenCV\'s, or calibrate with the OPENCV model'
        )
    return (k1, k2, k3, 0.0, p1, p2), (k4, k5, k6)


def _number(values: dict[str, Any], key: str, name: str, default: float) -> float:
    try:
        number = float(values.get(key, default))
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name}: {key} is {values[key]!r}, but must be a finite number")
    return number


def _positive(values: dict[str, Any], key: str, name: str) -> float:
    number = _number(values, key, name, 0.0)
    if number <= 0:
        raise InputError(f"{name}: {key} is {values[key]!r}, but must be positive")
    return number
