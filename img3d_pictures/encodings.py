# SPDX-License-Identifier: Apache-2.0
"""Colour encodings (primaries and transfer functions) and their conversion to sRGB.

The code points are those of ITU-T H.273, which videos and HEIC files carry. Colours outside sRGB's gamut are clipped.
HDR (HLG and PQ of ITU-R BT.2100) is tone-mapped: light up to `KNEE` is unchanged, highlights are compressed into the
rest of the range. HLG is decoded to scene light, as ITU-R BT.2408 allows: a display's rendering intent (its "system
gamma") is not a property of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

PrimariesName = Literal["bt709", "bt2020", "display-p3", "adobe-rgb"]
TransferName = Literal["srgb", "linear", "hlg", "pq", "adobe-rgb"]

PRIMARIES: dict[PrimariesName, tuple[tuple[float, float], ...]] = {
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe-rgb": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
"""Chromaticities x, y (CIE 1931) of red, green and blue; the white point of all is D65."""
D65 = (0.3127, 0.3290)
PRIMARIES_CODES: dict[int, PrimariesName] = {9: "bt2020", 11: "display-p3", 12: "display-p3"}
"""H.273's code points of the primaries that differ visibly from sRGB's; all others are taken for sRGB's."""
TRANSFER_CODES: dict[int, TransferName] = {8: "linear", 16: "pq", 18: "hlg"}
"""H.273's code points of transfer functions. BT.709's is decoded as sRGB's, as displays do."""

HLG_WHITE = 0.75
"""HLG signal of diffuse white (BT.2408)."""
PQ_WHITE = 203.0
"""Luminance of diffuse white in PQ, in cd/m² (BT.2408)."""
PQ_PEAK = 1000.0
"""Luminance in cd/m² at which PQ is clipped; films are mastered for this peak."""
KNEE = 0.75
"""Light, relative to diffuse white, below which tone mapping is the identity."""
ROWS = 128
"""Number of rows converted at a time, to bound the memory."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Encoding:
    """Primaries and transfer function of a picture."""

    primaries: PrimariesName = "bt709"
    transfer: TransferName = "srgb"

    @staticmethod
    def of_codes(primaries: int, transfer: int) -> Encoding:
        """The encoding of H.273's code points (ColourPrimaries, TransferCharacteristics); unknown ones are sRGB's."""
        return Encoding(PRIMARIES_CODES.get(primaries, "bt709"), TRANSFER_CODES.get(transfer, "srgb"))

    @property
    def is_srgb(self) -> bool:
        """Whether there is nothing to convert."""
        return self == SRGB

    @property
    def is_hdr(self) -> bool:
        """Whether it has highlights brighter than sRGB's white."""
        return self.transfer in ("hlg", "pq")

    def to_srgb(self, pixels: Pixels) -> npt.NDArray[np.uint8]:
        """Converts a picture `[H, W, 3]` of 8 or 16 bits, full range, to 8-bit sRGB."""
        light_of = _light_of_levels(self.transfer, int(np.iinfo(pixels.dtype).max) + 1)
        peak = float(light_of[-1])
        matrix = to_bt709(self.primaries)
        result = np.empty(pixels.shape, dtype=np.uint8)
        for top in range(0, len(pixels), ROWS):
            light = light_of[pixels[top : top + ROWS]]
            if self.is_hdr:
                light *= tone_gain(light.max(axis=-1, keepdims=True), peak)
            result[top : top + ROWS] = srgb_of_light(light @ matrix.T)
        return result


SRGB = Encoding()


def srgb_of_light(light: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """8-bit sRGB levels of linear light of any shape, 1 for white; values are clipped to [0, 1], NaN is black."""
    steps = np.nan_to_num(light, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) * 65535 + 0.5
    return _srgb_levels()[steps.astype(np.uint16)]


def tone_gain(brightest: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Tone mapping as a factor for a pixel's light, from its brightest channel: 1 up to `KNEE`; maps `peak` to 1.

    Above the knee it is Reinhard's curve with a white point (Reinhard et al., "Photographic Tone Reproduction for
    Digital Images", 2002), which continues the straight part with the same slope. One factor for all channels preserves
    the hue.
    """
    over = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    largest = (peak - KNEE) / (1 - KNEE)
    mapped = KNEE + (1 - KNEE) * over * (1 + over / largest**2) / (1 + over)
    return np.where(brightest > KNEE, mapped / np.maximum(brightest, KNEE), 1).astype(np.float32)


def linear_light(signal: FloatArray, transfer: TransferName) -> FloatArray:
    """Linear light of a signal in [0, 1], relative to diffuse white."""
    if transfer == "linear":
        return signal
    if transfer == "adobe-rgb":
        return signal ** (563 / 256)
    if transfer == "hlg":
        return _hlg_light(signal) / float(_hlg_light(np.array(HLG_WHITE)))
    if transfer == "pq":
        m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        absolute = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
        return np.minimum(absolute, PQ_PEAK) / PQ_WHITE
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1


def srgb_signal(light: FloatArray) -> FloatArray:
    """sRGB values of linear light in [0, 1], the inverse of `linear_light` (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _hlg_light(signal: FloatArray) -> FloatArray:
    """The inverse of HLG's OETF (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


@cache
def _light_of_levels(transfer: TransferName, count: int) -> npt.NDArray[np.float32]:
    return linear_light(np.linspace(0, 1, count), transfer).astype(np.float32)


@cache
def _srgb_levels() -> npt.NDArray[np.uint8]:
    """The sRGB level for each of 65536 equal steps of linear light in [0, 1]."""
    light = np.linspace(0, 1, 65536)
    return np.round(255 * srgb_signal(light)).astype(np.uint8)


@cache
def to_bt709(primaries: PrimariesName) -> npt.NDArray[np.float32]:
    """`[3, 3]`: linear light in these primaries to linear light in BT.709's primaries, which are sRGB's."""
    return (np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: PrimariesName) -> FloatArray:
    """`[3, 3]`: linear light to CIE XYZ; white maps to D65."""

    def xyz(x: float, y: float) -> FloatArray:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(*chromaticity) for chromaticity in PRIMARIES[primaries]], axis=1)
    return columns * np.linalg.solve(columns, xyz(*D65))
