# SPDX-License-Identifier: Apache-2.0
"""glTF 2.0 with Khronos' KHR_gaussian_splatting: 32-bit floats, exact; programs that do not know it show points.

https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting as of the release
candidate of 2026, in which scales are linear. Ours: the container is a JSON text and one block of bytes, which is all
that pygltflib would take over, and trimesh does not keep such attributes.

Its axes are x left, y up, z forward; those of 3DGS are x right, y down, z forward.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from img3d_assets.axes import TO_Y_UP
from img3d_assets.color_values import linear_of_srgb
from img3d_assets.quantised import bytes_of, logits
from img3d_exporters.frames import rotated
from img3d_methods.splats import SH_COEFFICIENTS, Splats

EXTENSION = "KHR_gaussian_splatting"
MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
COMPONENTS = {5120: np.dtype("i1"), 5121: np.dtype("u1"), 5122: np.dtype("<i2"), 5123: np.dtype("<u2"),
              5126: np.dtype("<f4")}  # fmt: skip
"""NumPy's names for glTF's numbers."""
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
SMALLEST_SCALE = 1e-30


def write_glb(splats: Splats, file: BinaryIO) -> None:
    """The binary container: header, JSON, numbers."""
    scene, numbers = _scene(splats)
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    file.write(struct.pack("<3I", MAGIC, 2, 12 + 8 + len(text) + 8 + len(numbers)))
    file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
    file.write(struct.pack("<2I", len(numbers), BINARY_CHUNK))
    file.write(numbers)


def write_gltf(splats: Splats, file: BinaryIO) -> None:
    """The text form, the numbers inside it: one file again, by a third larger."""
    scene, numbers = _scene(splats)
    scene["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(numbers).decode()
    file.write(json.dumps(scene).encode())


def _scene(splats: Splats) -> tuple[dict[str, Any], bytes]:
    """The JSON, and its only buffer."""
    splats = rotated(splats, TO_Y_UP["-y"])
    quats = splats.quats / np.linalg.norm(splats.quats.astype(np.float64), axis=1, keepdims=True)
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
        numbers += values.tobytes()  # of 4 bytes a Gaussian, or a multiple: aligned as glTF wants it
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


def read(path: Path) -> Splats:
    """The Gaussians of all meshes of the file's scene that have the extension, where its nodes put them.

    Raises:
        ValueError: It is another kind of file, cut off, or without Gaussians; or what json raises.
    """
    contents = path.read_bytes()
    if contents[:4] == struct.pack("<I", MAGIC):
        scene, numbers = _chunks(contents)
    else:
        scene, numbers = json.loads(contents), b""
    if not isinstance(scene, dict) or "asset" not in scene:
        raise ValueError("it is no glTF file")
    reader = _Reader(scene, path.parent, numbers)
    parts = [
        _placed(reader.splats(primitive), matrix)
        for mesh, matrix in _placed_meshes(scene)
        for primitive in scene["meshes"][mesh]["primitives"]
        if EXTENSION in primitive.get("extensions", {})
    ]
    if not parts:
        raise ValueError(f"it holds no Gaussians: no mesh of its scene has {EXTENSION}")
    degree = min(part.sh_degree for part in parts)
    for part in parts:
        part.sh_rest = part.sh_rest[:, : SH_COEFFICIENTS[degree]]
    return rotated(Splats.joined(parts), TO_Y_UP["-y"].T)


class _Reader:
    """A file's arrays of numbers."""

    def __init__(self, scene: dict[str, Any], folder: Path, numbers: bytes) -> None:
        self.scene, self.folder, self.numbers = scene, folder, numbers

    def splats(self, primitive: dict[str, Any]) -> Splats:
        """In the axes of the file."""
        if primitive["extensions"][EXTENSION].get("extensions"):
            raise ValueError("its Gaussians are compressed in a way that is not known")
        attributes = primitive["attributes"]

        def values(name: str) -> Float32[np.ndarray, "N C"]:
            if name not in attributes:
                raise ValueError(f"its Gaussians have no {name}")
            return self.values(attributes[name])

        names = [name for name in _harmonics(3) if name in attributes]
        count = max(count for count in SH_COEFFICIENTS.values() if count <= len(names))
        means = values("POSITION")
        rest = [values(name) for name in names[:count]]
        return Splats(
            means,
            values(f"{EXTENSION}:ROTATION")[:, [3, 0, 1, 2]],
            np.log(np.maximum(values(f"{EXTENSION}:SCALE"), SMALLEST_SCALE)),
            logits(values(f"{EXTENSION}:OPACITY")[:, 0]).astype(np.float32),
            values(f"{EXTENSION}:SH_DEGREE_0_COEF_0"),
            np.stack(rest, axis=1) if rest else np.zeros((len(means), 0, 3), np.float32),
        )

    def values(self, index: int) -> Float32[np.ndarray, "N C"]:
        """An accessor's numbers."""
        accessor = self.scene["accessors"][index]
        component, width, count = COMPONENTS[accessor["componentType"]], WIDTHS[accessor["type"]], accessor["count"]
        view = self.scene["bufferViews"][accessor["bufferView"]]
        data = self._buffer(view["buffer"])
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", component.itemsize * width)
        if count < 1 or start + stride * (count - 1) + component.itemsize * width > len(data):
            raise ValueError(f"it is cut off or damaged: array {index} does not fit in its {len(data)} bytes")
        values = np.ndarray((count, width), component, data, start, (stride, component.itemsize))
        if accessor.get("normalized"):
            values = np.maximum(values / np.iinfo(component).max, -1)
        return values.astype(np.float32)

    def _buffer(self, index: int) -> bytes:
        uri = self.scene["buffers"][index].get("uri")
        if uri is None:
            return self.numbers
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        return (self.folder / unquote(uri)).read_bytes()


def _chunks(contents: bytes) -> tuple[Any, bytes]:
    """The JSON and the numbers of the binary container."""
    if len(contents) < 20:
        raise ValueError("it is cut off")
    length, kind = struct.unpack_from("<2I", contents, 12)
    if kind != JSON_CHUNK:
        raise ValueError("it is damaged: its first part is no JSON")
    start = 20 + length
    numbers = b""
    if len(contents) >= start + 8:
        numbers = contents[start + 8 : start + 8 + struct.unpack_from("<I", contents, start)[0]]
    return json.loads(contents[20:start]), numbers


def _placed_meshes(scene: dict[str, Any]) -> list[tuple[int, Float[np.ndarray, "4 4"]]]:
    """Each mesh of the scene and the matrix that puts it there."""
    nodes, found, visits = scene.get("nodes", []), [], 0
    waiting = [(i, np.eye(4)) for i in scene["scenes"][scene.get("scene", 0)].get("nodes", [])]
    while waiting:
        i, above = waiting.pop()
        visits += 1
        if visits > len(nodes):
            raise ValueError("it is damaged: its nodes go round in a circle")
        matrix = above @ _matrix(nodes[i])
        if "mesh" in nodes[i]:
            found.append((nodes[i]["mesh"], matrix))
        waiting += [(child, matrix) for child in nodes[i].get("children", [])]
    return found


def _matrix(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix() * node.get("scale", [1, 1, 1])
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _placed(splats: Splats, matrix: Float[np.ndarray, "4 4"]) -> Splats:
    """Moved by a matrix of rotation, translation and one scale: others have no meaning for Gaussians."""
    scale = float(np.cbrt(abs(np.linalg.det(matrix[:3, :3]))))
    if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, scale**2 * np.eye(3), atol=1e-4 * scale**2) or scale == 0:
        raise ValueError("it stretches or shears its Gaussians")
    if not np.array_equal(matrix, np.eye(4)):
        splats = rotated(splats, matrix[:3, :3] / scale)
        splats.means = (splats.means * scale + matrix[:3, 3]).astype(np.float32)
        splats.log_scales = splats.log_scales + np.float32(np.log(scale))
    return splats


def _harmonics(degree: int) -> list[str]:
    return [f"{EXTENSION}:SH_DEGREE_{each}_COEF_{i}" for each in range(1, degree + 1) for i in range(2 * each + 1)]
