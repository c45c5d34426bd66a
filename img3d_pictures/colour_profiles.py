# SPDX-License-Identifier: Apache-2.0
"""Conversion of picture files to sRGB by their ICC profile or, without one, by their colour tags.

iPhones embed Display P3 profiles, cameras Adobe RGB, files for print CMYK. A damaged profile is ignored, as in viewers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from img3d_pictures.encodings import Encoding
from img3d_pictures.opening import DAMAGED_EXIF

ADOBE_RGB_INTEROPERABILITY = "R03"
"""EXIF interoperability index for Adobe RGB, which cameras write instead of a profile (DCF 2.0, "optional colour
space")."""
MAX_SRGB_DIFFERENCE = 2
"""Levels, of 255, by which a profile may differ from sRGB and still be treated as sRGB."""
LINEAR_TOLERANCE = 0.05
"""Largest difference to 1 of the gamma of linear pictures. Other gammas are ignored, as in most programs: many are
wrong, and the usual one (1 / 2.2) is nearly sRGB."""
MODES: dict[str, Literal["RGB", "L", "CMYK"]] = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode for each ICC colour space that photos use."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class IccConversion:
    """The transform of an ICC profile to sRGB."""

    mode: Literal["RGB", "L", "CMYK"]
    transform: ImageCms.ImageCmsTransform

    def to_srgb(self, pixels: Pixels) -> Pixels:
        """Converts `[H, W, 3]`, or `[H, W, 4]` of CMYK, to `[H, W, 3]`; with a grey profile, only channel 0 is used."""
        size = (pixels.shape[1], pixels.shape[0])
        channels = pixels[..., 0] if self.mode == "L" else pixels
        image = Image.frombytes(self.mode, size, np.ascontiguousarray(channels).tobytes())
        converted = self.transform.apply(image)
        return np.array(converted, dtype=np.uint8)


def conversion_to_srgb(image: Image.Image) -> IccConversion | Encoding | None:
    """The conversion of a picture's colours to sRGB; None if they are sRGB already, or not specified."""
    profile = image.info.get("icc_profile")
    if profile:
        conversion = icc_conversion(bytes(profile))
        needs_cmyk = conversion is not None and conversion.mode == "CMYK"
        return None if needs_cmyk != (image.mode == "CMYK") else conversion
    encoding = _tagged(image)
    return None if encoding.is_srgb else encoding


@lru_cache(maxsize=16)
def icc_conversion(profile: bytes) -> IccConversion | None:
    """The conversion of an ICC profile; None if it is that of sRGB, damaged, or of a colour space that photos lack."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        mode = MODES.get(profile[16:20].decode("latin-1").strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    conversion = IccConversion(mode, transform)
    return None if mode != "CMYK" and _changes_nothing(conversion) else conversion


def _changes_nothing(conversion: IccConversion) -> bool:
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    probe = np.repeat(grid[..., :1], 3, axis=-1) if conversion.mode == "L" else grid
    return bool(np.abs(conversion.to_srgb(probe).astype(int) - probe).max() <= MAX_SRGB_DIFFERENCE)


def _tagged(image: Image.Image) -> Encoding:
    """The encoding by HEIC's nclx box, by PNG's gamma if that is 1 (linear light), or by EXIF."""
    nclx = image.info.get("nclx_profile")
    if isinstance(nclx, dict):
        return Encoding.of_codes(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    if "srgb" not in image.info and abs(float(image.info.get("gamma", 0)) - 1) < LINEAR_TOLERANCE:
        return Encoding(transfer="linear")
    try:
        interoperability = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)
    except DAMAGED_EXIF:
        return Encoding()
    is_adobe = str(interoperability).strip("\0 ") == ADOBE_RGB_INTEROPERABILITY
    return Encoding("adobe-rgb", "adobe-rgb") if is_adobe else Encoding()
