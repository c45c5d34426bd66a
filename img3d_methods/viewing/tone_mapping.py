# SPDX-License-Identifier: Apache-2.0
"""Colours that survive the tone mapping of viser's page.

The page draws glTF with three.js's `ACESFilmicToneMapping`, which is fitted to ACES (Stephen Hill's curve, BakingLab)
and has no switch. It dims white to 77 % and greys saturated colours; its inverse cancels that.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from img3d_assets.color_values import srgb_of_linear

EXPOSURE = 1 / 0.6
"""What three.js multiplies linear colours by."""
INPUT = np.array([[0.59719, 0.35458, 0.04823], [0.07600, 0.90834, 0.01566], [0.02840, 0.13383, 0.83777]])
OUTPUT = np.array([[1.60475, -0.53108, -0.07367], [-0.10208, 1.10813, -0.00605], [-0.00327, -0.07276, 1.07602]])
"""From sRGB's primaries to those of the curve, and back: row-major, for column vectors."""
NUMERATOR = (1.0, 0.0245786, -0.000090537)
DENOMINATOR = (0.983729, 0.4329510, 0.238081)
"""Coefficients of the curve, a quotient of polynomials of degree 2, highest power first."""
MAX_LINEAR = 4.0
"""Largest value of `before_tone_mapping`: exact white would take 15, and leave too few of a texture's 256 levels."""

DIMMED = np.linspace(1.0, 0.3, 8)
"""Factors by which colours that the page cannot show are tried."""


def tone_mapped(linear: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    """What the page shows for linear colours, as linear colours in [0, 1]."""
    values = EXPOSURE * linear @ INPUT.T
    return (np.polyval(NUMERATOR, values) / np.polyval(DENOMINATOR, values) @ OUTPUT.T).clip(0, 1)


def before_tone_mapping(linear: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Linear colours in [0, `MAX_LINEAR`] for which the page shows these.

    It cannot show colours that are both bright and saturated. Of these the nearest of `DIMMED` is shown.

    Args:
        linear: In [0, 1].
    """
    inverse = _inverse(linear)
    result = inverse.clip(0, MAX_LINEAR)
    beyond = (inverse < -1e-6).any(axis=1)
    if beyond.any():
        wanted = linear[beyond]
        candidates = np.stack([_inverse(dimmed * wanted).clip(0, MAX_LINEAR) for dimmed in DIMMED])
        errors = np.square(srgb_of_linear(tone_mapped(candidates)) - srgb_of_linear(wanted)).sum(axis=2)
        result[beyond] = candidates[errors.argmin(axis=0), np.arange(len(wanted))]
    return result


def _inverse(linear: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    curve = linear @ np.linalg.inv(OUTPUT).T
    a, b, c = (n - d * curve for n, d in zip(NUMERATOR, DENOMINATOR, strict=True))
    # The other root is negative. Above the asymptote, 1 / DENOMINATOR[0], no value is large enough.
    roots = (-b + np.sqrt(np.maximum(b * b - 4 * a * c, 0))) / (2 * np.maximum(a, 1e-3))
    return roots @ np.linalg.inv(INPUT).T / EXPOSURE
