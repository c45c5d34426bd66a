# SPDX-License-Identifier: Apache-2.0
"""glTF 2.0 with Khronos' KHR_gaussian_splatting: exact 32-bit floats; programs without the extension show points.

https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting as of the release candidate
of 2026, in which scales are linear. Our own code: pygltflib would only handle the JSON and the binary block, and
trimesh drops such attributes. PlayCanvas's splat-transform (as of 3.7.0) writes this format but does not read it, not
even its own files: give it .ply, .sog or .compressed.ply.

Its axes are x left, y up, z forward; those of 3DGS are x right, y down, z forward.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32

from img3d_assets.axes import TO_Y_UP
from img3d_assets.color_values import linear_of_srgb, srgb_of_linear
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_assets.gltf_arrays import BINARY_CHUNK, COMPONENTS, JSON_CHUNK, MAGIC, WIDTHS, GltfArrays, read_gltf
from img3d_assets.quantised import bytes_of, logits, unit_quats
from img3d_assets.splat_formats import spz
from img3d_assets.splat_formats.counts import check_count, check_packed
from img3d_base.errors import InputError
from img3d_base.foreign_files import shown
from img3d_kernels.spherical_harmonics import rgb_to_sh

EXTENSION = "KHR_gaussian_splatting"
SPZ_EXTENSIONS = (
    "KHR_gaussian_splatting_compression_spz_2",
    "KHR_gaussian_splatting_compression_spz",
    "KHR_spz_gaussian_splats_compression",
    "KHR_spz_compression",
)
"""The drafts of extensions for SPZ inside glTF, the latest first: nested in `EXTENSION`, beside it or instead of it."""
MAX_PARTS = 1000
"""Largest number of placed primitives with Gaussians; real files have one or a few."""
LINEAR = "lin_rec709_display"
"""The extension's linear colour space; the other one is that of 3DGS."""


def write_glb(splats: Gaussians, file: BinaryIO) -> None:
    """Writes the binary form: header, JSON chunk, binary chunk."""
    scene, numbers = _scene(splats)
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    file.write(struct.pack("<4s2I", MAGIC, 2, 12 + 8 + len(text) + 8 + len(numbers)))
    file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
    file.write(struct.pack("<2I", len(numbers), BINARY_CHUNK))
    file.write(numbers)


def write_gltf(splats: Gaussians, file: BinaryIO) -> None:
    """Writes the text form as a single file with embedded data, a third larger."""
    scene, numbers = _scene(splats)
    scene["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(numbers).decode()
    file.write(json.dumps(scene).encode())


def _scene(splats: Gaussians) -> tuple[dict[str, Any], bytes]:
    """The JSON and its only buffer."""
    splats = rotated(splats, TO_Y_UP["-y"])
    quats = unit_quats(splats.quats)
    alphas = splats.alphas()
    attributes: dict[str, npt.NDArray[Any]] = {
        "POSITION": splats.means,
        "COLOR_0": bytes_of(np.concatenate([linear_of_srgb(splats.colors()), alphas[:, None]], axis=1)),
        f"{EXTENSION}:ROTATION": quats[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": np.exp(splats.log_scales.clip(-80, 80)),
        f"{EXTENSION}:OPACITY": alphas[:, None],
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": splats.sh_dc,
    }
    attributes |= {name: splats.sh_rest[:, i] for i, name in enumerate(_harmonics(splats.sh_degree))}
    numbers = bytearray()
    views, accessors = [], []
    for name, values in attributes.items():
        component = 5121 if values.dtype == np.uint8 else 5126
        values = np.ascontiguousarray(values, COMPONENTS[component])
        views.append({"buffer": 0, "byteOffset": len(numbers), "byteLength": values.nbytes, "target": 34962})
        numbers += values.tobytes()  # a multiple of 4 bytes per Gaussian: aligned as glTF requires
        kind = next(kind for kind, width in WIDTHS.items() if width == values.shape[1])
        accessor = {"bufferView": len(accessors), "componentType": component, "count": len(splats), "type": kind}
        if component == 5121:
            accessor["normalized"] = True
        if name == "POSITION":
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        accessors.append(accessor)
    primitive = {
        "attributes": {name: i for i, name in enumerate(attributes)},
        "mode": 0,
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    scene = {
        "asset": {"version": "2.0", "generator": "img3d"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": len(numbers)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    return scene, bytes(numbers)


def read(path: Path) -> Gaussians:
    """Reads the Gaussians of all meshes in the file's scene, transformed by its nodes.

    Raises:
        InputError: It is not a glTF file, cut off or damaged, without Gaussians, or in an unsupported compression.
    """
    arrays = read_gltf(path)
    reader, scene = _Reader(arrays), arrays.scene
    primitives: dict[int, list[dict[str, Any]]] = {}
    placed: list[tuple[dict[str, Any], Float[np.ndarray, "4 4"]]] = []
    for mesh, matrix in arrays.placed_meshes():
        if mesh not in primitives:
            primitives[mesh] = [each for each in scene["meshes"][mesh]["primitives"] if _is_splats(each)]
        placed += [(primitive, matrix) for primitive in primitives[mesh]]
        if len(placed) > MAX_PARTS:
            raise InputError(f"{path} has more than {MAX_PARTS:,} parts of Gaussians in it: it is damaged")
    if not placed:
        raise InputError(f"{path} holds no Gaussians: no mesh of its scene has {EXTENSION}")
    degree = max(reader.sh_degree(primitive) for primitive, _ in placed)
    check_packed(sum(reader.count(primitive) for primitive, _ in placed), degree, arrays.size, path)
    parts = [_placed(reader.splats(primitive), matrix, path) for primitive, matrix in placed]
    degree = min(part.sh_degree for part in parts)
    for part in parts:
        part.sh_rest = part.sh_rest[:, : SH_COEFFICIENTS[degree]]
        part.antialiased = all(each.antialiased for each in parts)
    splats = Gaussians.joined(parts)
    return rotated(splats.at(splats.means), TO_Y_UP["-y"].T)


def _is_splats(primitive: dict[str, Any]) -> bool:
    extensions = primitive.get("extensions", {})
    return EXTENSION in extensions or any(name in extensions for name in SPZ_EXTENSIONS)


class _Reader:
    """The Gaussians of a file's primitives."""

    def __init__(self, arrays: GltfArrays) -> None:
        self.arrays, self.scene, self.path = arrays, arrays.scene, arrays.path

    def count(self, primitive: dict[str, Any]) -> int:
        """The number of Gaussians that a primitive claims to have."""
        packed = self._spz(primitive)
        if packed is not None:
            return spz.count_of(packed, self.path)
        self.arrays.buffer(self.scene["bufferViews"][self._accessor(primitive, "POSITION")["bufferView"]]["buffer"])
        return check_count(self._accessor(primitive, "POSITION")["count"], self.path)

    def sh_degree(self, primitive: dict[str, Any]) -> int:
        """Degree of a primitive's harmonics; an upper bound if they are compressed."""
        if self._spz(primitive) is not None:
            return 3
        present = sum(name in primitive["attributes"] for name in _harmonics(3))
        return max(degree for degree, count in SH_COEFFICIENTS.items() if count <= present)

    def splats(self, primitive: dict[str, Any]) -> Gaussians:
        """A primitive's Gaussians, in the axes of the file."""
        packed = self._spz(primitive)
        if packed is not None:
            # The draft prescribes half a turn about y; Cesium, for which most such files are made, does not apply it.
            splats, axes = spz.splats_as_stored(packed, self.path)
            return rotated(splats, TO_Y_UP["-y"] @ spz.TO_3DGS_AXES[axes]) if axes else splats
        num = self.count(primitive)

        def values(name: str, width: int = 3) -> Float32[np.ndarray, "N C"]:
            found = self.arrays.values(self._accessor(primitive, name))
            if found.shape != (num, width):
                raise InputError(
                    f"{self.path} has {len(found):,} times {found.shape[1]} numbers {name} for {num:,} Gaussians"
                )
            return found

        rest = [values(name) for name in _harmonics(self.sh_degree(primitive))]
        with np.errstate(divide="ignore", invalid="ignore"):  # log of 0: flat; of negative numbers: dropped later
            log_scales = np.log(values(f"{EXTENSION}:SCALE"))
        splats = Gaussians(
            values("POSITION"),
            values(f"{EXTENSION}:ROTATION", 4)[:, [3, 0, 1, 2]],
            log_scales,
            logits(values(f"{EXTENSION}:OPACITY", 1)[:, 0]).astype(np.float32),
            values(f"{EXTENSION}:SH_DEGREE_0_COEF_0"),
            np.stack(rest, axis=1) if rest else np.zeros((num, 0, 3), np.float32),
        )
        linear = primitive["extensions"][EXTENSION].get("colorSpace") == LINEAR
        return _with_srgb_colors(splats) if linear else splats

    def _spz(self, primitive: dict[str, Any]) -> memoryview | None:
        """The SPZ data that holds a primitive's Gaussians; None if they are not compressed."""
        within = primitive["extensions"].get(EXTENSION, {}).get("extensions", {})
        extensions = primitive["extensions"] | within
        for name in SPZ_EXTENSIONS:
            if name in extensions:
                return self.arrays.view(extensions[name]["bufferView"], f"{self.path}: its compressed Gaussians")
        if within:
            raise InputError(
                f"{self.path} has its Gaussians in {shown(next(iter(within)))}, which is not supported: "
                "export it without compression, or as .ply or .spz"
            )
        return None

    def _accessor(self, primitive: dict[str, Any], name: str) -> dict[str, Any]:
        if name not in primitive["attributes"]:
            raise InputError(f"{self.path} has Gaussians without {name}")
        return self.scene["accessors"][primitive["attributes"][name]]


def _placed(splats: Gaussians, matrix: Float[np.ndarray, "4 4"], path: Path) -> Gaussians:
    """Transforms Gaussians by a matrix of rotation (or reflection), translation and uniform scale.

    Returns:
        The Gaussians with `means` in double precision, until all parts are joined.

    Raises:
        InputError: The matrix stretches or shears.
    """
    scale = float(np.cbrt(abs(np.linalg.det(matrix[:3, :3]))))
    if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, scale**2 * np.eye(3), atol=1e-4 * scale**2) or scale == 0:
        raise InputError(
            f"{path} stretches or shears its Gaussians, which is not supported: apply the node's scale first"
        )
    means = splats.means.astype(np.float64)
    if not np.array_equal(matrix, np.eye(4)):
        splats = rotated(splats, matrix[:3, :3] / scale)
        splats.log_scales = splats.log_scales + np.float32(np.log(scale))
        means = means @ matrix[:3, :3].T + matrix[:3, 3]
    splats.means = means
    return splats


def _harmonics(degree: int) -> list[str]:
    return [f"{EXTENSION}:SH_DEGREE_{each}_COEF_{i}" for each in range(1, degree + 1) for i in range(2 * each + 1)]


def _with_srgb_colors(splats: Gaussians) -> Gaussians:
    """Converts linear colours to sRGB to first order: view-dependent coefficients are scaled by the curve's slope."""
    linear = splats.colors().clip(0, 1)
    slope = np.where(linear <= 0.0031308, 12.92, 1.055 / 2.4 * np.maximum(linear, 0.0031308) ** (1 / 2.4 - 1))
    encoded = srgb_of_linear(linear)
    return replace(
        splats,
        sh_dc=rgb_to_sh(encoded).astype(np.float32),
        sh_rest=(splats.sh_rest * slope[:, None]).astype(np.float32),
    )
