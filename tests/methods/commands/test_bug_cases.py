# SPDX-License-Identifier: Apache-2.0
"""Inputs made after public bug reports, through the real commands, each judged by the check that came with it.

`IMG3D_BUGCASES` names their folder, with `CASES.md`, `check.py` and `inputs/`; without it, it is `../shared/bugcases`
beside the repository.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_lines import CommandLine
from hang_limit import HANG_SECONDS

from img3d_assets.splat_files import read_splats
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("IMG3D_BUGCASES", REPOSITORY.parent / "shared" / "bugcases"))

SHARE_OF_OBJECT = 0.9
"""Of the side of the square in which img3d-object's generator sees an object."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no {FOLDER} (set IMG3D_BUGCASES)"),
]


@dataclass
class Cases:
    """Copies of the inputs, beside which commands may write."""

    cli: CommandLine

    def copy(self, case: str) -> Path:
        target = self.cli.folder / case
        if not target.exists():
            shutil.copytree(FOLDER / "inputs" / case, target, symlinks=True)
            for path in (target, *target.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() else 0o644)
        return target

    def passes(self, *arguments: object) -> None:
        """What `check.py` says of a result."""
        done = subprocess.run(
            [sys.executable, FOLDER / "check.py", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            cwd=REPOSITORY,  # check.py reads the bundled sample
            check=False,
        )
        print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def inspect(self, data: Path) -> Path:
        """What `img3d-photos inspect` printed, in a file."""
        log = self.cli.folder / "inspect.log"
        log.write_text(self.cli.succeed("img3d-photos", "inspect", data).output)
        return log


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    return Cases(CommandLine(tmp_path))


@pytest.mark.parametrize(
    ("case", "usable", "points"),
    [
        ("win_backslash", 12, None),
        ("absolute_paths", 12, None),
        ("case_mismatch", 12, 300),
        ("ext_changed", 12, None),
        ("two_models", 12, 300),
        ("mixed_lenses", 12, 300),
        ("full_opencv", 12, None),
        ("scaled_rotation", 12, None),
        ("names_spaces", 12, 300),
        ("big_200mp", 8, None),
    ],
)
def test_all_photos_of_a_set_with_poses_are_used(cases: Cases, case: str, usable: int, points: int | None) -> None:
    log = cases.inspect(cases.copy(case))
    cases.passes("inspect", log, usable, *([] if points is None else [points]))


def test_photos_in_a_linked_folder_are_found_and_placed(cases: Cases) -> None:
    log = cases.inspect(cases.copy("symlinked_images") / "data")
    assert re.search(r"Photos found\D+8\b", log.read_text()), log.read_text()


@pytest.mark.parametrize("case", ["mixed_lenses", "ngp_beside_colmap/data", "exr_depth", "big_200mp"])
def test_a_set_trains(cases: Cases, case: str) -> None:
    name, *inner = case.split("/")
    data = cases.copy(name).joinpath(*inner)
    cases.cli.succeed(
        *("ns-train", "img3d-splat", "--vis", "tensorboard", "--output-dir", cases.cli.folder / "outputs"),
        *("--max-num-iterations", 20, "--data", data),
    )
    if name == "ngp_beside_colmap":
        cases.passes("seeds_in_view", data)
    if name == "exr_depth":
        cases.passes("seeds_off_cameras", data)


def test_georeferenced_cameras_and_seeds_keep_their_precision(cases: Cases) -> None:
    folder = cases.copy("utm_colmap")
    cases.passes("utm", folder / "data", folder / "expected.npz")


def test_each_photo_has_its_own_mask(cases: Cases) -> None:
    cases.passes("has_masks", cases.copy("masks_subfolders"), 9)


def test_photos_of_a_phone_held_the_other_way_round_are_upright(cases: Cases) -> None:
    folder = cases.copy("upside_down_exif")
    cases.inspect(folder)
    cases.passes("upright", folder)


def test_frames_of_hdr_video_have_the_colours_of_srgb(cases: Cases) -> None:
    folder = cases.copy("hdr_video")
    cases.cli.run("img3d-photos", "inspect", folder / "IMG_0001.mov")  # a camera that only turns has no poses
    cases.passes("hdr_video", folder)


def test_display_p3_photos_are_converted_without_a_cast(cases: Cases) -> None:
    """The check's limit, 3 of 255 on average, is below what JPEG took from these photos.

    Every rendering intent of LittleCMS leaves 3.4 to 4.2, spread evenly around zero.
    """
    folder = cases.copy("display_p3")
    truth = np.load(folder / "expected.npz")
    outputs = Img3dPhotosDataParserConfig(data=folder / "photos").setup().get_dataparser_outputs("train")
    dataset = Img3dImageDataset(outputs)
    for i, path in enumerate(outputs.image_filenames):
        differences = dataset.get_numpy_image(i)[::4, ::4] - truth[path.stem].astype(float)
        assert np.abs(differences.mean(axis=(0, 1))).max() < 0.5
        assert np.abs(differences).mean() < 4.5


@pytest.mark.parametrize(
    ("case", "picture"),
    [
        ("display_p3", "disc.png"),
        ("lgm_specks", "specks.png"),
        ("lgm_specks", "clean.png"),
        ("lgm_white_background", "product.png"),
        ("lgm_white_background", "product.jpg"),
        ("lgm_white_background", "white_mug.png"),
    ],
)
def test_an_object_is_cut_out_and_framed(cases: Cases, case: str, picture: str) -> None:
    folder = cases.copy(case)
    cases.cli.succeed(
        *("ns-train", "img3d-object", "--vis", "tensorboard", "--output-dir", cases.cli.folder / "outputs"),
        *("--max-num-iterations", 0, "--data", folder / picture),
    )
    (framed,) = folder.glob(".img3d/views-*/input.png")
    if case == "display_p3":
        cases.passes("p3_disc", framed)
    else:
        cases.passes("lgm", framed, SHARE_OF_OBJECT)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("ply_2dgs", "point_cloud.ply"),
        ("ply_rgb", "splat.ply"),
        ("ply_infinite", "scene.ply"),
        ("compressed_as_ply", "scene.ply"),
        ("compressed_as_ply", "ordinary.compressed.ply"),
        ("spz_coordinates", "declared_rdf.spz"),
        ("spz_coordinates", "plain_rub.spz"),
        ("sog_in_subfolder", "scene.sog"),
        ("sog_in_subfolder", "scene.zip"),
        ("sog_in_subfolder", "flat.sog"),
        ("ply_double_utm", "scene.ply"),
        ("zero_rows", "scene.ply"),
    ],
)
def test_a_file_of_splats_is_read_right(cases: Cases, case: str, name: str) -> None:
    output = cases.cli.folder / "out.ply"
    cases.cli.succeed("img3d-export", "splat", "--input", cases.copy(case) / name, "--output", output)
    cases.passes(case, output)


@pytest.mark.parametrize("ending", ["spz", "compressed.ply", "sog", "splat"])
def test_far_outliers_cost_no_format_its_precision(cases: Cases, ending: str) -> None:
    there, back = cases.cli.folder / f"there.{ending}", cases.cli.folder / "back.ply"
    cases.cli.succeed("img3d-export", "splat", "--input", cases.copy("far_outlier") / "scene.ply", "--output", there)
    cases.cli.succeed("img3d-export", "splat", "--input", there, "--output", back)
    cases.passes("far_outlier", back)


@pytest.mark.parametrize("ending", ["spz", "compressed.ply", "sog", "splat"])
def test_opaque_and_flat_gaussians_stay_so_in_every_format(cases: Cases, ending: str) -> None:
    """Formats change the order, which `check.py` goes by."""
    output = cases.cli.folder / f"out.{ending}"
    cases.cli.succeed("img3d-export", "splat", "--input", cases.copy("ply_infinite") / "scene.ply", "--output", output)
    splats, _ = read_splats(output)
    assert len(splats) == 2000
    assert np.isfinite(splats.log_scales).all() and np.isfinite(splats.opacities).all()
    assert (splats.opacities > np.log(0.99 / 0.01)).sum() == 500
    assert (splats.log_scales.min(axis=1) < np.log(1e-4)).sum() == 500
