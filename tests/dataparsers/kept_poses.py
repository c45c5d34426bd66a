# SPDX-License-Identifier: Apache-2.0
"""Photos with poses that are kept beside them as if they had been solved for, without solving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from known_scene import cameras_of, points_of
from PIL import Image
from scipy.spatial.transform import Rotation

from img3d_dataparsers.sfm.photo_set import find_photos
from img3d_dataparsers.sfm.report import Report
from img3d_dataparsers.sfm.solve import _key
from img3d_dataparsers.sfm.viewpoints import Viewpoints

COUNT = 5
FILES = ("cameras.bin", "images.bin", "points3D.bin", "report.json")


def write_kept(folder: Path) -> Path:
    """Writes photos that are all different, and the solution; returns the folder that keeps it."""
    import pycolmap

    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    for i in range(COUNT):
        noise = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        noise.resize((128, 96)).save(folder / "images" / f"{i}.png")
    kept = folder / ".img3d" / f"sfm-{_key(find_photos(folder))}"
    kept.mkdir(parents=True)
    cameras = cameras_of(rng, COUNT, square_pixels=True)
    lens = f"RADIAL 128 96 {2 * cameras[0].fx!r} 64.5 47.5 0.01 0.001"
    (kept / "cameras.txt").write_text(f"1 {lens}\n")
    lines = []
    for i, camera in enumerate(cameras):
        x, y, z, w = Rotation.from_matrix(camera.rotation).as_quat().tolist()
        lines.append(f"{i + 1} {w!r} {x!r} {y!r} {z!r} {' '.join(map(repr, camera.translation.tolist()))} 1 ")
        lines[-1] += f"images/{i}.png\n\n"
    (kept / "images.txt").write_text("".join(lines))
    points = points_of(rng)
    (kept / "points3D.txt").write_text(
        "".join(f"{i + 1} {x!r} {y!r} {z!r} {i} 20 30 0.5\n" for i, (x, y, z) in enumerate(points.tolist()))
    )
    model = pycolmap.Reconstruction(kept)
    for path in list(kept.iterdir()):
        path.unlink()
    model.write_binary(kept)
    report = Report(
        left_out={},
        unregistered={},
        gaps=[],
        registered=COUNT,
        cameras=1,
        points=len(points),
        mean_reprojection_error=0.5,
        mean_track_length=3.0,
        points_per_photo=20.0,
        parallax=20.0,
        longest_side=128,
        weakest=["images/1.png"],
        viewpoints=Viewpoints(100.0, "images/0.png", "images/1.png", 5.0, 50.0),
        coverage=0.5,
        mapper="global",
        seconds={"features": 1.0},
    )
    (kept / "report.json").write_text(report.to_json())
    return kept
