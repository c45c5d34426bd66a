# SPDX-License-Identifier: Apache-2.0
"""Segmentation of the object in a picture by colour alone: exact on a plain background, approximate on any other.

A plain background has a constant colour, or one that varies smoothly, as on a lit backdrop. Pixels of that colour are
background if they are connected with the picture's border, so that a mug keeps its white inside. Enclosed parts of that
colour, such as the hole of a handle, are background too unless the background is white or black, as objects often are
themselves. On other backgrounds the object is what GrabCut (Rother et al., "GrabCut: Interactive Foreground Extraction
using Iterated Graph Cuts", 2004) separates from the border.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

BORDER = 0.02
"""Width of the border from which the background's colour is estimated, as a share of the picture's shorter side."""
MIN_OF_BORDER = 0.75
"""Share of the border that a plain background must cover; the object may touch the rest."""
MIN_DIFFERENCE, MAX_DIFFERENCE = 5.0, 24.0
"""Bounds, in levels of 255, of the tolerance: how far a background pixel may be from the plain colour. Within them it
follows the noise."""
MIN_FROM_COLOURED = 16.0
"""The lower bound for backgrounds that are neither white nor black: objects rarely have their colour, JPEG halos do."""
NOISE_FACTOR = 4.0
"""The tolerance as a multiple of the median difference of the border's pixels."""
GRABCUT_SIZE = 400
"""Longest side in pixels of GrabCut's input: its time grows with the number of pixels."""
GRABCUT_ROUNDS = 5
GRABCUT_BORDER = 0.05
"""Width of the border that is assumed to be background, as a share of the shorter side."""
NEARLY_BLACK, NEARLY_WHITE = 40, 215
"""Levels beyond which a background counts as black or white: enclosed parts of its colour belong to the object."""
HALO, HALO_WIDTH = 0.08, 17
"""JPEG leaves halos around edges: this share of the edge's contrast, within blocks of 8 or 16 pixels."""
SPECK = 0.01
"""Share of the largest part's area below which a part is removed."""

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class ObjectByColour:
    """A `background.Session` that segments by colour, without a network."""

    def predict(self, img: Image.Image) -> Sequence[Image.Image]:
        """A list with the object's mask in an RGB picture, as rembg returns it."""
        rgb = np.asarray(img.convert("RGB"))
        cut = cut_from_plain(rgb)
        return [Image.fromarray((cut_by_grabcut(rgb) if cut is None else cut)[..., 3])]


def cut_from_plain(rgb: Pixels) -> Pixels | None:
    """Cuts out the object from a plain background, and removes the background's colour from its edges.

    Args:
        rgb: `[H, W, 3]`.

    Returns:
        `[H, W, 4]` with the object's coverage as alpha, not premultiplied; None where the background is not plain.
    """
    background = plain_background(rgb)
    if background is None:
        return None
    model, tolerance = background
    difference = rgb - model
    distance = np.abs(difference).max(axis=-1)
    halo = HALO * cv2.dilate(distance, np.ones((HALO_WIDTH, HALO_WIDTH), np.uint8))
    is_background = _connected_with_border(distance <= np.maximum(tolerance, halo))
    if not _is_white_or_black(model.mean(axis=(0, 1))):
        is_background |= _holes(distance, tolerance, is_background)
    is_object = without_specks(~is_background)
    # An edge pixel mixes background and object: its alpha is its difference relative to that of the object beside it.
    near = is_object & ~_eroded(is_object, 2)
    contrast = cv2.dilate(np.where(is_object, distance, 0), np.ones((5, 5), np.uint8))
    alpha = np.where(near, distance / np.maximum(contrast, tolerance), is_object.astype(np.float32)).clip(0, 1)
    colour = model + difference / np.maximum(alpha, 0.2)[..., None]
    return np.concatenate([colour, 255 * alpha[..., None]], axis=-1).round().clip(0, 255).astype(np.uint8)


def plain_background(rgb: Pixels) -> tuple[Floats, float] | None:
    """Estimates a plain background: its colour at every pixel `[H, W, 3]`, and the tolerance in levels.

    The colour is a constant or a quadratic polynomial in the pixel's position, fitted robustly to the border.

    Returns:
        None if the border is not plain.
    """
    height, width = rgb.shape[:2]
    margin = max(2, round(BORDER * min(height, width)))
    is_border = np.ones((height, width), dtype=bool)
    is_border[margin:-margin, margin:-margin] = False
    y, x = np.nonzero(is_border)
    some = slice(None, None, max(1, len(x) // 20_000))
    terms, colours = _terms(x[some], y[some], width, height), rgb[is_border][some].astype(np.float64)
    constant = np.zeros((terms.shape[1], 3))
    constant[0] = np.median(colours, axis=0)
    for coefficients in (constant, _fitted(terms, colours, constant)):
        distance = np.abs(colours - terms @ coefficients).max(axis=1)
        noise = float(np.median(distance))
        colour = coefficients[0]
        least = MIN_DIFFERENCE if _is_white_or_black(colour) else MIN_FROM_COLOURED
        tolerance = float(np.clip(NOISE_FACTOR * noise, least, MAX_DIFFERENCE))
        if (distance <= tolerance).mean() >= MIN_OF_BORDER:
            return _everywhere(coefficients, width, height), tolerance
    return None


def _is_white_or_black(colour: npt.NDArray[np.floating]) -> bool:
    return bool(colour.min() > NEARLY_WHITE or colour.max() < NEARLY_BLACK)


def _terms(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], width: int, height: int) -> npt.NDArray[np.float64]:
    """The terms `[N, 6]` of a quadratic polynomial at pixels x, y `[N]`."""
    u, v = 2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _everywhere(coefficients: npt.NDArray[np.float64], width: int, height: int) -> Floats:
    """The polynomial at every pixel, `[H, W, 3]`."""
    c = coefficients.astype(np.float32)[:, None, None]
    u = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    v = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    return (c[0] + c[1] * u + c[3] * u * u) + (c[2] + c[4] * u + c[5] * v) * v


def _fitted(
    terms: npt.NDArray[np.float64], colours: npt.NDArray[np.float64], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Coefficients `[6, 3]` fitted to the colours by least squares, iteratively without the outliers."""
    coefficients = start
    for _ in range(5):
        distance = np.abs(colours - terms @ coefficients).max(axis=1)
        kept = distance <= np.quantile(distance, MIN_OF_BORDER)
        coefficients = np.linalg.lstsq(terms[kept], colours[kept], rcond=None)[0]
    return coefficients


def _connected_with_border(is_background: Mask) -> Mask:
    """The part of a mask that is connected with the picture's border; gaps of one or two pixels do not connect."""
    padded = np.pad(is_background, 1, constant_values=True)
    wide = _eroded(padded, 1)
    _, labels = cv2.connectedComponents(np.pad(wide, 1, constant_values=True).astype(np.uint8), connectivity=4)
    outside = labels[1:-1, 1:-1] == labels[0, 0]
    grown = cv2.dilate(outside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return (grown & padded)[1:-1, 1:-1]


def _holes(distance: Floats, tolerance: float, is_background: Mask) -> Mask:
    """Parts enclosed by the object that have the background's colour and are not small."""
    enclosed = (distance <= tolerance) & ~is_background
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(enclosed.astype(np.uint8), connectivity=4)
    least = SPECK * (~is_background).sum()
    holes = [
        label
        for label in range(1, count)
        if statistics[label, cv2.CC_STAT_AREA] >= least and np.median(distance[labels == label]) <= tolerance / 2
    ]
    return np.isin(labels, holes)


def _eroded(mask: Mask, times: int) -> Mask:
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=times) > 0


def without_specks(mask: Mask) -> Mask:
    """A mask without the parts that are much smaller than its largest part."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # label 0 is the outside of the mask
    return np.isin(labels, np.arange(count)[areas >= max(1, SPECK * areas.max())])


def cut_by_grabcut(rgb: Pixels) -> Pixels:
    """Cuts out the object from any background, as far as its colours differ from those at the border.

    Returns:
        `[H, W, 4]`; alpha is 0 everywhere if nothing differs.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, GRABCUT_SIZE / max(height, width))
    small = cv2.resize(rgb, (max(8, round(scale * width)), max(8, round(scale * height))), interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    margin = max(2, round(GRABCUT_BORDER * min(rows, columns)))
    mask = np.full((rows, columns), cv2.GC_BGD, np.uint8)
    mask[margin:-margin, margin:-margin] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(
            np.ascontiguousarray(small[..., ::-1]), mask, (0, 0, 0, 0), *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK
        )
        is_object = without_specks((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    except cv2.error:  # one of the two classes is empty
        is_object = np.zeros((rows, columns), dtype=bool)
    soft = cv2.GaussianBlur(is_object.astype(np.float32), (0, 0), 0.7)
    alpha = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return np.concatenate([rgb, np.round(255 * alpha[..., None]).astype(np.uint8)], axis=-1)
