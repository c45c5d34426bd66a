# SPDX-License-Identifier: Apache-2.0
"""How far cameras are from the true ones, whatever coordinates they were solved in."""

from __future__ import annotations

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray


def camera_errors(camera_to_worlds: FloatArray, true: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Errors after the similarity transform that aligns the camera centres best (Umeyama 1991).

    Args:
        camera_to_worlds: `[N, 4, 4]`.
        true: `[N, 4, 4]`, the same camera axes.

    Returns:
        distances of the centres in true units `[N]`, and angles of the rotations in degrees `[N]`.
    """
    found, wanted = camera_to_worlds[:, :3, 3], true[:, :3, 3]
    found, wanted = found - found.mean(axis=0), wanted - wanted.mean(axis=0)
    u, singular, vh = np.linalg.svd(wanted.T @ found)
    reflection = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vh))])
    rotation = u @ reflection @ vh
    scale = (singular * np.diag(reflection)).sum() / (found**2).sum()
    cosines = (np.einsum("nij,nij->n", rotation @ camera_to_worlds[:, :3, :3], true[:, :3, :3]) - 1) / 2
    return np.linalg.norm(scale * found @ rotation.T - wanted, axis=1), np.degrees(np.arccos(cosines.clip(-1, 1)))
