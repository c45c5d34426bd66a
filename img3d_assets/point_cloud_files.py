# SPDX-License-Identifier: Apache-2.0
"""Point clouds as files: PLY (with plyfile), PCD, XYZ (text), LAS (with laspy).

Open3D writes the first two as well, but PLYs of twice the size, PCDs only under names that end so, which a file has not
until it is whole, and neither notices a full disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from img3d_assets.point_cloud import PointCloud
from img3d_assets.precision import needs_double_precision
from img3d_base import output_files
from img3d_base.output_files import written_whole

LAS_STEPS = 1e9
"""Steps of coordinates over the extent of a cloud: a LAS file has integers of 32 bits."""


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
    """Version 0.7, binary, colours as PCL packs them: blue, green, red, nothing, in the place of one float.

    Coordinates have single precision: Open3D reads others as zeros.
    """
    names = ["x", "y", "z", "normal_x", "normal_y", "normal_z", "rgb"]
    header = ["VERSION 0.7", f"FIELDS {' '.join(names)}", "SIZE 4 4 4 4 4 4 4", "TYPE F F F F F F F"]
    header += ["COUNT 1 1 1 1 1 1 1", f"WIDTH {len(cloud)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0"]
    header += [f"POINTS {len(cloud)}", "DATA binary", ""]
    table = np.concatenate([cloud.points, cloud.normals, np.zeros((len(cloud), 1))], axis=1, dtype="<f4")
    table.view(np.uint8)[:, 24:27] = _bytes(cloud)[:, ::-1]
    path.write_bytes("\n".join(header).encode() + table.tobytes())


def _xyz(cloud: PointCloud, path: Path) -> None:
    """One point a line: x y z, red green blue of 255, normal."""
    table = np.concatenate([cloud.points, _bytes(cloud), cloud.normals], axis=1)
    np.savetxt(path, table, fmt=["%.6f"] * 3 + ["%d"] * 3 + ["%.4f"] * 3)


def _las(cloud: PointCloud, path: Path) -> None:
    """Version 1.2, which every program reads; normals as further dimensions, as CloudCompare has them."""
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
"""By the ending of the file."""
SINGLE_PRECISION = ".pcd"
"""The format that cannot hold coordinates far from the origin."""


def check_output(path: Path, force: bool) -> None:
    """Raises InputError where the file may not be written, before anything that takes long."""
    output_files.check_output(path, tuple(WRITERS), "a point cloud", force)


def write_point_cloud(cloud: PointCloud, path: Path) -> None:
    """Writes the file whole, or not at all, in the format of its ending.

    Raises:
        InputError: It cannot be written.
    """
    with written_whole(path) as temporary:
        WRITERS[path.suffix.lower()](cloud, temporary)


def _bytes(cloud: PointCloud) -> np.ndarray:
    return np.round(cloud.colors * 255).astype(np.uint8)
