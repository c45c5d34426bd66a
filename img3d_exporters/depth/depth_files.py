# SPDX-License-Identifier: Apache-2.0
"""Writes depth and normal maps in the formats of other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt16
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, write_workspace
from img3d_kernels.stereo.source_views import choose_sources
from img3d_kernels.stereo.views import rays
from img3d_pictures.exr import exr_bytes

DepthFormat = Literal["png", "exr", "npy", "colmap"]
CAMERAS = "cameras.json"
MILLIMETRES = 1000.0
COARSE = 2000
"""Fewer steps up to the farthest depth are too coarse."""
TO_OPENGL = np.array([1, -1, -1], np.float32)
"""From OpenCV's camera axes to those of normal maps: x right, y up, z backward."""
MAX_SOURCES = 8
POINTS_OF_EACH = 500
"""Number of points of each photo that tell which photos overlap."""


def write_depth_maps(photos: Sequence[DensePhoto], folder: Path, kind: DepthFormat, png_scale: float | None) -> str:
    """Writes the files into a folder.

    `depth/NAME` and `normals/NAME` with the format's ending, and `cameras.json`; for "colmap" a dense workspace, with
    which COLMAP goes on.

    Args:
        photos: The photos with what was found for them.
        folder: Exists and is empty.
        kind: The format.
        png_scale: Values of a PNG per unit of depth; None chooses.

    Returns:
        What was written, in a few words.

    Raises:
        InputError: No photo has any depth, or it does not fit a PNG.
    """
    farthest = max([0.0, *(float(photo.found.depth.max()) for photo in photos)])
    if farthest <= 0:
        raise InputError("No photo has any depth: there is nothing to write.")
    if kind == "colmap":
        write_workspace(folder, photos, _sources(photos))
        return f"{len(photos)} depth and normal maps as a dense workspace of COLMAP"
    scale = _scale(farthest, png_scale) if kind == "png" else None
    for photo in photos:
        depth, normals = photo.found.depth.numpy(), photo.found.normals.numpy() * TO_OPENGL
        for name, values in (("depth", depth), ("normals", normals)):
            path = (folder / name / photo.name).with_suffix(f".{kind}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, values, scale)
    (folder / CAMERAS).write_text(json.dumps(_cameras(photos, kind, scale), indent=1), encoding="utf-8")
    steps = "" if scale is None else f", {scale:g} steps per unit of depth"
    return f"{len(photos)} depth and normal maps{steps}"


def _scale(farthest: float, given: float | None) -> float:
    """Steps per unit: as given; thousandths if they suit the depths; else the largest power of ten that fits."""
    if given is not None:
        if not given > 0 or given * farthest > np.iinfo(np.uint16).max:
            raise InputError(
                f"--png-scale is {given:g}: it has to be above 0 and at most {np.iinfo(np.uint16).max / farthest:g}, "
                f"as the farthest depth is {farthest:g}."
            )
        return given
    if COARSE <= MILLIMETRES * farthest <= np.iinfo(np.uint16).max:
        return MILLIMETRES
    return float(10.0 ** np.floor(np.log10(np.iinfo(np.uint16).max / farthest)))


def _write(path: Path, values: Float32[np.ndarray, "H W *C"], scale: float | None) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".exr":
        path.write_bytes(exr_bytes(values))
    elif values.ndim == 2:
        assert scale is not None
        steps: UInt16[np.ndarray, "H W"] = np.round(values * scale).astype(np.uint16)
        encoded, content = cv2.imencode(".png", steps)
        assert encoded
        path.write_bytes(content.tobytes())
    else:
        known = (values != 0).any(axis=2, keepdims=True)
        Image.fromarray(np.where(known, np.round((values + 1) * 127.5), 0).astype(np.uint8)).save(path)


def _cameras(photos: Sequence[DensePhoto], kind: DepthFormat, scale: float | None) -> dict[str, Any]:
    frames = []
    for photo in photos:
        K = photo.view.K.double()
        pose = np.linalg.inv(photo.view.viewmat.double().numpy()) @ np.diag([1.0, -1.0, -1.0, 1.0])
        name = Path(photo.name).with_suffix(f".{kind}").as_posix()
        frames.append(
            {
                "depth": f"depth/{name}",
                "normals": f"normals/{name}",
                "w": photo.view.size[1],
                "h": photo.view.size[0],
                **{"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])},
                "transform_matrix": pose.tolist(),
            }
        )
    return {
        "depth": "distance along the optical axis; 0 where unknown",
        "normals": "towards the camera, in its axes: x right, y up, z backward; 0 where unknown"
        + ("; [-1, 1] is mapped to [0, 255]" if kind == "png" else ""),
        "values_per_unit": 1.0 if scale is None else scale,
        "frames": frames,
    }


def _sources(photos: Sequence[DensePhoto]) -> list[list[int]]:
    """The photos that each is best compared with, by points of all depth maps."""
    points = []
    for photo in photos:
        known = (photo.found.depth > 0).nonzero()
        rows, columns = known[:: max(len(known) // POINTS_OF_EACH, 1)].unbind(dim=1)
        in_camera = rays(photo.view.K, *photo.view.size)[rows, columns] * photo.found.depth[rows, columns, None]
        pose = np.linalg.inv(photo.view.viewmat.double().numpy())
        points.append(in_camera.double().numpy() @ pose[:3, :3].T + pose[:3, 3])
    return choose_sources([photo.view for photo in photos], torch.from_numpy(np.concatenate(points)), MAX_SOURCES)
