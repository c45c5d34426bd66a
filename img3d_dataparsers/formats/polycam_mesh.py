# SPDX-License-Identifier: Apache-2.0
"""Coloured points of the textured mesh in a Polycam export: the corners of its triangles.

The mesh is a binary glTF 2.0 (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html) with its texture in it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError
from img3d_base.foreign_files import parse_json, read_bytes
from img3d_dataparsers.formats.capture_files import thinned
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints

MAX_BYTES = 1 << 28
"""Of the file; Polycam's have up to 50 MB."""
MAX_CORNERS, MAX_TEXTURE_PIXELS, MAX_NODES = 1 << 22, 1 << 26, 10_000
"""Of the whole mesh, whose parts may share numbers and textures: a small file may name them a million times."""
TEXTURE_FORMATS = ("JPEG", "PNG")
"""glTF's."""
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
TRIANGLES = 4
DAMAGED = (
    *(AttributeError, LookupError, OSError, OverflowError, SyntaxError, TypeError, ValueError, struct.error),
    Image.DecompressionBombError,
)
"""What a scene leads to that is not as the specification says."""


def mesh_points(path: Path) -> SeedPoints:
    """The corners of a mesh's triangles, each place once and at most `MAX_SCAN_POINTS`, with its texture's colours.

    Raises:
        InputError: the mesh cannot be read, has no triangles or no texture of its own.
    """
    try:
        corners = list(_Scene(path).corners())
    except DAMAGED as error:
        raise InputError(f"{path} is not a mesh with a texture in it ({error or type(error).__name__})") from error
    except MemoryError as error:
        raise InputError(f"{path} has a mesh that is too large for this computer's memory") from error
    if not corners:
        raise InputError(f"{path} has no triangles")
    xyz, rgb = (np.concatenate(arrays) for arrays in zip(*corners, strict=True))
    _, first = np.unique(xyz, axis=0, return_index=True)
    return thinned((xyz[first], rgb[first]))


class _Scene:
    """A binary glTF file in memory. Its methods raise `DAMAGED` where it is not as it should be."""

    def __init__(self, path: Path):
        contents = read_bytes(path, MAX_BYTES)
        magic, version, _ = struct.unpack_from("<4sII", contents)
        if magic != b"glTF" or version != 2:
            raise ValueError("it is no binary glTF 2.0")
        chunks: dict[bytes, memoryview] = {}
        at = 12
        while at < len(contents):
            length, kind = struct.unpack_from("<I4s", contents, at)
            if length > len(contents) - at - 8:
                raise ValueError("it is cut off")
            chunks.setdefault(kind, memoryview(contents)[at + 8 : at + 8 + length])
            at += 8 + length
        self._json = parse_json(bytes(chunks[b"JSON"]), str(path))
        self._binary = chunks.get(b"BIN\0", memoryview(b""))
        self._textures: dict[int, npt.NDArray[np.uint8]] = {}

    def corners(self) -> Iterator[tuple[FloatArray, npt.NDArray[np.uint8]]]:
        """Positions `[C, 3]` in the scene and colours `[C, 3]` of the corners of each part of the mesh."""
        count = 0
        for mesh, to_scene in self._meshes():
            for part in self._json["meshes"][mesh]["primitives"]:
                if part.get("mode", TRIANGLES) != TRIANGLES:
                    continue
                xyz = self._numbers(part["attributes"]["POSITION"])
                uv = self._numbers(part["attributes"]["TEXCOORD_0"])
                indices = self._numbers(part["indices"])[:, 0] if "indices" in part else np.arange(len(xyz))
                count += 1 + len(xyz) + len(uv) + len(indices)
                if count > 3 * MAX_CORNERS:
                    raise ValueError(f"it has more than {MAX_CORNERS:,} corners")
                xyz, uv, indices = xyz.astype(np.float64), uv.astype(np.float64), indices.astype(np.int64)
                texture = self._texture(part["material"])
                height, width = texture.shape[:2]
                # Textures repeat beyond [0, 1]; v counts from the upper edge.
                uv = np.where(np.isfinite(uv), uv, 0.0)[indices]
                columns = (uv[:, 0] % 1 * width).astype(np.int64).clip(0, width - 1)
                rows = (uv[:, 1] % 1 * height).astype(np.int64).clip(0, height - 1)
                yield xyz[indices] @ to_scene[:3, :3].T + to_scene[:3, 3], texture[rows, columns]

    def _meshes(self) -> Iterator[tuple[int, FloatArray]]:
        """The mesh of each node that has one, and `[4, 4]` from its coordinates to the scene's."""
        nodes = self._json["nodes"]
        if len(nodes) > MAX_NODES:
            raise ValueError(f"it has more than {MAX_NODES:,} nodes")
        below = {child for node in nodes for child in node.get("children", [])}
        waiting = [(i, np.eye(4)) for i in range(len(nodes)) if i not in below]
        seen: set[int] = set()
        while waiting:
            i, above = waiting.pop()
            if i in seen:
                raise ValueError("a node of it has two parents")
            seen.add(i)
            to_scene = above @ _transform(nodes[i])
            if "mesh" in nodes[i]:
                yield nodes[i]["mesh"], to_scene
            waiting += [(child, to_scene) for child in nodes[i].get("children", [])]

    def _numbers(self, index: int) -> npt.NDArray[Any]:
        """An accessor's numbers, `[count, width]`, in the buffer itself."""
        accessor = self._json["accessors"][index]
        if "bufferView" not in accessor or "sparse" in accessor:
            raise ValueError("its geometry is compressed")
        view = self._view(accessor["bufferView"])
        dtype, width = np.dtype(COMPONENTS[accessor["componentType"]]), WIDTHS[accessor["type"]]
        stride = self._json["bufferViews"][accessor["bufferView"]].get("byteStride", width * dtype.itemsize)
        if not width * dtype.itemsize <= stride <= 252 or accessor["count"] < 0:
            raise ValueError("a stride or a count in it is out of range")
        # NumPy checks that all of it lies in the buffer.
        shape, strides = (accessor["count"], width), (stride, dtype.itemsize)
        return np.ndarray(shape, dtype, view, accessor.get("byteOffset", 0), strides)

    def _view(self, index: int) -> memoryview:
        view = self._json["bufferViews"][index]
        start, length = view.get("byteOffset", 0), view["byteLength"]
        if view["buffer"] != 0 or "uri" in self._json["buffers"][0]:
            raise ValueError("its numbers lie in another file")
        if start < 0 or not 0 <= length <= len(self._binary) - start:
            raise ValueError("it is cut off")
        return self._binary[start : start + length]

    def _texture(self, material: int) -> npt.NDArray[np.uint8]:
        """The picture `[H, W, 3]` of a material's base colour."""
        texture = self._json["materials"][material]["pbrMetallicRoughness"]["baseColorTexture"]["index"]
        source = self._json["textures"][texture]["source"]
        if source not in self._textures:
            picture_bytes = io.BytesIO(self._view(self._json["images"][source]["bufferView"]))
            with Image.open(picture_bytes, formats=TEXTURE_FORMATS) as picture:
                pixels = picture.width * picture.height
                if pixels + sum(known.size // 3 for known in self._textures.values()) > MAX_TEXTURE_PIXELS:
                    raise ValueError(f"its textures have more than {MAX_TEXTURE_PIXELS:,} pixels")
                self._textures[source] = np.asarray(picture.convert("RGB"))
        return self._textures[source]


def _transform(node: dict[str, Any]) -> FloatArray:
    """`[4, 4]` from a node's coordinates to those of the node above."""
    if "matrix" in node:
        return np.asarray(node["matrix"], dtype=np.float64).reshape(4, 4).T
    transform = np.eye(4)
    rotation = Rotation.from_quat(node.get("rotation", [0.0, 0.0, 0.0, 1.0])).as_matrix()
    transform[:3, :3] = rotation * np.asarray(node.get("scale", [1.0, 1.0, 1.0]), dtype=np.float64)
    transform[:3, 3] = node.get("translation", [0.0, 0.0, 0.0])
    return transform
