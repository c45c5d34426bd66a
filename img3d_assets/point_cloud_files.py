# SPDX-License-Identifier: Apache-2.0
"""Writing point clouds as PLY (with plyfile), PCD, XYZ (text) and LAS (with laspy).

Open3D writes the first two as well, but its PLYs are twice as large, it writes PCD only under names with that ending,
which temporary files lack, and it does not notice a full disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from img3d_assets.point_cloud import PointCloud
from img3d_assets.precision import needs_double_precision
from img3d_assets.quantised import bytes_of
from img3d_base import output_files
from img3d_base.output_files import written_whole

LAS_STEPS = 1e9
"""Number of coordinate steps over a cloud's extent: LAS stores 32-bit integers."""


def _ply(cloud: PointCloud, path: Path) -> None:
    import plyfile

    kind = "<f8" if needs_double_precision(cloud.points) else "<f4"
    columns = [*(("xyz"[i], kind, cloud.points[:, i]) for i in range(3))]
    columns += [(f"n{'xyz'[i]}", "<f4", cloud.normals[:, i]) for i in range(3)]
    columns += [(name, "u1", _bytes(cloud)[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    vertices = np.empty(len(cloud), [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<").write(path)


def _pcd(cloud: PointCloud, path: Path) -> None:
    """Writes version 0.7, binary; colours as PCL packs them: the bytes blue, green, red, 0 in place of a float.

    Coordinates are float32: Open3D reads others as zeros.
    """
    names = ["x", "y", "z", "normal_x", "normal_y", "normal_z", "rgb"]
    header = ["VERSION 0.7", f"FIELDS {' '.join(names)}", "SIZE 4 4 4 4 4 4 4", "TYPE F F F F F F F"]
    header += ["COUNT 1 1 1 1 1 1 1", f"WIDTH {len(cloud)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0"]
    header += [f"POINTS {len(cloud)}", "DATA binary", ""]
    table = np.concatenate([cloud.points, cloud.normals, np.zeros((len(cloud), 1))], axis=1, dtype="<f4")
    table.view(np.uint8)[:, 24:27] = _bytes(cloud)[:, ::-1]
    path.write_bytes("\n".join(header).encode() + table.tobytes())


def _xyz(cloud: PointCloud, path: Path) -> None:
    """Writes one point per line: x y z, red green blue in [0, 255], normal."""
    table = np.concatenate([cloud.points, _bytes(cloud), cloud.normals], axis=1)
    np.savetxt(path, table, fmt=["%.6f"] * 3 + ["%d"] * 3 + ["%.4f"] * 3)


def _las(cloud: PointCloud, path: Path) -> None:
    """Writes version 1.2, which every program reads; normals as extra dimensions, as CloudCompare does."""
    import laspy

    header = laspy.LasHeader(point_format=2, version="1.2")
    extent = max(float(np.ptp(cloud.points, axis=0).max()), 1e-6)
    header.scales = np.full(3, 10.0 ** np.ceil(np.log10(extent / LAS_STEPS)))
    header.offsets = np.floor(cloud.points.min(axis=0))
    names = ("NormalX", "NormalY", "NormalZ")
    header.add_extra_dims([laspy.ExtraBytesParams(name, "f4") for name in names])
    las = laspy.LasData(header)
    las.x, las.y, las.z = cloud.points.T
    las.red, las.green, las.blue = _bytes(cloud).astype(np.uint16).T * 257  # bytes as 16 bits
    for i, name in enumerate(names):
        las[name] = cloud.normals[:, i]
    with path.open("wb") as file:
        las.write(file)


WRITERS: dict[str, Callable[[PointCloud, Path], None]] = {".ply": _ply, ".pcd": _pcd, ".xyz": _xyz, ".las": _las}
"""Writers by file ending."""
SINGLE_PRECISION = ".pcd"
"""The format whose coordinates are float32, hence imprecise far from the origin."""


def check_output(path: Path, force: bool) -> None:
    """Raises InputError if the file may not be written; to be called before any long work."""
    output_files.check_output(path, tuple(WRITERS), "a point cloud", force)


def write_point_cloud(cloud: PointCloud, path: Path) -> None:
    """Writes a point cloud atomically in the format of the file's ending.

    Raises:
        InputError: It cannot be written.
    """
    with written_whole(path) as temporary:
        WRITERS[path.suffix.lower()](cloud, temporary)


def _bytes(cloud: PointCloud) -> UInt8[np.ndarray, "N 3"]:
    return bytes_of(cloud.colors)
