# SPDX-License-Identifier: Apache-2.0
"""Quantisation in splat formats: fractions as integers, opacities as bytes, quaternions as their smallest three."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Integer, UInt8, UInt32

OTHERS = np.array([[j for j in range(4) if j != i] for i in range(4)])
"""Row i: the indices of a quaternion's components other than i."""
MIN_ALPHA = 1e-6
"""Opacities are clamped to this distance from 0 and 1, whose logits are infinite."""


def levels(fractions: Float[np.ndarray, "..."], bits: int = 8) -> UInt32[np.ndarray, "..."]:
    """Quantises values in [0, 1] to integers of `bits` bits; values outside are clipped."""
    largest = 2**bits - 1
    return np.clip(np.floor(np.asarray(fractions, np.float64) * largest + 0.5), 0, largest).astype(np.uint32)


def logits(alphas: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Logits of opacities, clamped by `MIN_ALPHA`."""
    alphas = np.clip(np.asarray(alphas, np.float64), MIN_ALPHA, 1 - MIN_ALPHA)
    return np.log(alphas / (1 - alphas))


LOGITS_OF_BYTES = logits(np.arange(256) / 255).astype(np.float32)
"""Logits of opacities that are stored as bytes."""


def bytes_of(fractions: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Quantises values in [0, 1] to bytes; values outside are clipped."""
    return levels(fractions).astype(np.uint8)


def unit_quats(quats: Float[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 4"]:
    """Quaternions of length 1; in double precision, whose squares neither overflow nor vanish."""
    quats = quats.astype(np.float64)
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def smallest_three(quats: Float[np.ndarray, "N 4"]) -> tuple[Integer[np.ndarray, "N"], Float[np.ndarray, "N 3"]]:
    """The index of each quaternion's largest component, and the other three in order, in ±1/√2.

    The largest component follows from the others: the norm is 1, and the sign is free because -q is the same rotation.
    """
    quats = unit_quats(quats)
    largest = np.abs(quats).argmax(axis=1)
    sign = np.where(np.take_along_axis(quats, largest[:, None], axis=1) < 0, -1.0, 1.0)
    return largest, np.take_along_axis(quats * sign, OTHERS[largest], axis=1)


def from_smallest_three(largest: Integer[np.ndarray, "N"], rest: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions, the inverse of `smallest_three`."""
    quats = np.empty((len(rest), 4))
    np.put_along_axis(quats, OTHERS[largest], rest, axis=1)
    left = np.sqrt(np.maximum(0, 1 - (rest**2).sum(axis=1, keepdims=True)))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), left, axis=1)
    return quats
