# SPDX-License-Identifier: Apache-2.0
"""Reading the container of glTF 2.0: its JSON, its arrays, and the nodes that place meshes.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html. Our own reader, because available ones trust the sizes that a
file claims.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError
from img3d_base.foreign_files import check_claim, inside, parse_json, read_bytes, shown

MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942
COMPONENTS = {5120: np.dtype("i1"), 5121: np.dtype("u1"), 5122: np.dtype("<i2"), 5123: np.dtype("<u2"),
              5125: np.dtype("<u4"), 5126: np.dtype("<f4")}  # fmt: skip
"""NumPy dtypes of glTF's component types."""
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
MAX_NODES, MAX_ROWS = 100_000, 100_000_000


def read_gltf(path: Path) -> GltfArrays:
    """Opens a .glb or .gltf file.

    Raises:
        InputError: It is not a glTF file, or its JSON is damaged.
    """
    contents = read_bytes(path)
    if contents[:4] == MAGIC:
        scene, numbers = _chunks(contents, path)
    else:
        scene, numbers = parse_json(contents, str(path), max_bytes=len(contents)), b""
    if not isinstance(scene, dict) or "asset" not in scene:
        raise InputError(f"{path} is not a glTF file")
    return GltfArrays(scene, path, numbers, len(contents))


class GltfArrays:
    """The JSON and the arrays of a glTF file."""

    def __init__(self, scene: dict[str, Any], path: Path, numbers: bytes, size: int) -> None:
        self.scene, self.path, self.numbers = scene, path, numbers
        self.size = size
        """Bytes of the file and of the files it names that have been read so far."""
        self._buffers: dict[int, bytes] = {}

    def stored(self, accessor: dict[str, Any]) -> npt.NDArray[Any]:
        """The values `[N, C]` of an accessor, as they are stored.

        Raises:
            InputError: The data is missing or compressed.
        """
        component, width, count = COMPONENTS[accessor["componentType"]], WIDTHS[accessor["type"]], accessor["count"]
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_ROWS:
            raise InputError(f"{self.path} is damaged: it has an array of {shown(count)} rows")
        if "sparse" in accessor or "bufferView" not in accessor:
            raise InputError(f"{self.path} has sparse or compressed arrays, which are not supported: export it without")
        view = self.scene["bufferViews"][accessor["bufferView"]]
        compressed = [name for name in view.get("extensions", {}) if "compression" in name]
        if compressed:
            raise InputError(
                f"{self.path} needs the extension {shown(compressed[0])}, which is not supported: export it without"
            )
        data = self.buffer(view["buffer"])
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", component.itemsize * width)
        if min(start, stride - component.itemsize * width) < 0:
            raise InputError(f"{self.path} is damaged: an array has offset {start:,} and stride {stride:,}")
        end = start + stride * (count - 1) + component.itemsize * width
        check_claim(end, len(data), f"{self.path}: an array of {count:,}")
        return np.ndarray((count, width), component, data, start, (stride, component.itemsize))

    def values(self, accessor: dict[str, Any]) -> Float32[np.ndarray, "N C"]:
        """The values of an accessor as float32; normalised integers are mapped to [0, 1] or [-1, 1]."""
        values = self.stored(accessor)
        if accessor.get("normalized"):
            values = np.maximum(values / np.float32(np.iinfo(values.dtype).max), -1)
        return values.astype(np.float32)

    def view(self, index: int, what: str) -> memoryview:
        """The bytes of a buffer view.

        Args:
            index: Index of the buffer view.
            what: A description of the bytes, for messages.

        Raises:
            InputError: The bytes are missing.
        """
        view = self.scene["bufferViews"][index]
        start, length, data = view.get("byteOffset", 0), view["byteLength"], self.buffer(view["buffer"])
        check_claim(length, len(data) - check_claim(start, len(data), what), what)
        return memoryview(data)[start : start + length]

    def buffer(self, index: int) -> bytes:
        """The bytes of a buffer."""
        if index not in self._buffers:
            uri = self.scene["buffers"][index].get("uri")
            self._buffers[index] = self.numbers if uri is None else self.resource(uri)
        return self._buffers[index]

    def resource(self, uri: str) -> bytes:
        """The contents of a URI: data within it, or a file beside this one.

        Raises:
            InputError: There is no such file, or it is elsewhere.
        """
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2])
            except binascii.Error as error:
                raise InputError(f"{self.path} is damaged: embedded data is not base64") from error
        contents = read_bytes(inside(self.path, uri, percent_encoded=True))
        self.size += len(contents)
        return contents

    def placed_meshes(self) -> Iterator[tuple[int, Float[np.ndarray, "4 4"]]]:
        """Yields the index of each mesh in the scene and its matrix to world coordinates.

        Raises:
            InputError: There are too many nodes, or one has two parents.
        """
        nodes = self.scene.get("nodes", [])
        if len(nodes) > MAX_NODES:
            raise InputError(f"{self.path} has {len(nodes):,} nodes: at most {MAX_NODES:,} are read")
        if self.scene.get("scenes"):
            roots = self.scene["scenes"][self.scene.get("scene", 0)].get("nodes", [])
        else:  # allowed: the nodes belong to no scene
            roots = sorted(set(range(len(nodes))) - {child for node in nodes for child in node.get("children", [])})
        waiting = [(i, np.eye(4)) for i in dict.fromkeys(roots)]
        found = {i for i, _ in waiting}
        while waiting:
            i, above = waiting.pop()
            matrix = above @ _matrix(nodes[i])
            if "mesh" in nodes[i]:
                yield nodes[i]["mesh"], matrix
            for child in nodes[i].get("children", []):
                if child in found:
                    raise InputError(f"{self.path} is damaged: its node {child} has two parents")
                found.add(child)
                waiting.append((child, matrix))


def _chunks(contents: bytes, path: Path) -> tuple[Any, bytes]:
    """The JSON and the binary chunk of a .glb file."""
    if len(contents) < 20:
        raise InputError(f"{path} is cut off")
    length, kind = struct.unpack_from("<2I", contents, 12)
    if kind != JSON_CHUNK:
        raise InputError(f"{path} is damaged: its first chunk is not JSON")
    check_claim(length, len(contents) - 20, f"{path}: its JSON")
    start = 20 + length
    numbers = b""
    if len(contents) >= start + 8:
        numbers = contents[start + 8 : start + 8 + struct.unpack_from("<I", contents, start)[0]]
    return parse_json(contents[20:start], f"the JSON in {path}"), numbers


def _matrix(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix() * node.get("scale", [1, 1, 1])
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix
