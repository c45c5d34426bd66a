# SPDX-License-Identifier: Apache-2.0
"""Plain photos get poses: the right ones, once, whatever happens on the way, and with one clear line if they can't."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from alignment import camera_errors
from filelock import FileLock
from hang_limit import HANG_SECONDS
from PIL import Image, ImageOps
from scipy.spatial import cKDTree

from img3d_base.errors import InputError
from img3d_dataparsers.formats.strecha import read_strecha
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.inputs import read_posed_photos
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.posed_photos import FloatArray, PosedPhotos
from img3d_dataparsers.sfm import matching
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.solve import Solution, alone, posed_photos, solve

# Where tolerances come from. Poses: the documentation promises a hundredth of the extent. Pixels: features are located
# within a fraction of a pixel, and wrong poses or intrinsics miss by many. Equal runs: bundle adjustment adds in the
# order in which threads finish, and stops at relative changes of the cost of 1e-6.
SAME_POSES = 1e-4
STILL_LIFE = Path(__file__).resolve().parents[2] / "sample" / "still_life"
NUM_PHOTOS = 12


def still_life_names() -> list[str]:
    return sorted(path.name for path in (STILL_LIFE / "images").iterdir())


def true_poses(names: list[str]) -> FloatArray:
    frames = json.loads((STILL_LIFE / "transforms.json").read_text())["frames"]
    by_name = {Path(frame["file_path"]).name: frame["transform_matrix"] for frame in frames}
    return np.array([by_name[name] for name in names])


def neighbours(count: int) -> list[str]:
    """Names of photos that look at the still life from one side, nearest to the first one."""
    names = still_life_names()
    origins = true_poses(names)[:, :3, 3]
    return [names[i] for i in np.argsort(np.linalg.norm(origins - origins[0], axis=1))[:count]]


def poses_of(posed: PosedPhotos) -> dict[str, FloatArray]:
    return {frame.image_path.name: np.asarray(frame.camera_to_world) for frame in posed.frames}


def assert_right(posed: PosedPhotos, names: list[str], of_extent: float = 0.01) -> None:
    found = poses_of(posed)
    assert sorted(found) == sorted(names)
    true = true_poses(names)
    errors, angles = camera_errors(np.stack([found[name] for name in names]), true)
    extent = np.linalg.norm(np.ptp(true[:, :3, 3], axis=0))
    assert errors.max() < of_extent * extent
    assert angles.max() < 0.5


@pytest.fixture(autouse=True)
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    return tmp_path / "user_cache" / "img3d"


def put_photos(folder: Path, names: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in names:
        shutil.copy(STILL_LIFE / "images" / name, folder / "images" / name)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of its own with 12 photos of the still life."""
    return put_photos(tmp_path / "my photos", neighbours(NUM_PHOTOS))


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Solution:
    """The 12 photos, solved; not to be changed."""
    return solve(put_photos(tmp_path_factory.mktemp("solved") / "photos", neighbours(NUM_PHOTOS)), None)


@pytest.fixture
def copy_solved(solved: Solution, tmp_path: Path) -> Path:
    """The 12 photos with their solution in `.img3d`."""
    return Path(shutil.copytree(solved.photo_set.folder, tmp_path / "copy"))


class TestPoses:
    def test_photos_get_the_poses_they_were_taken_from(self, solved: Solution) -> None:
        assert_right(posed_photos(solved), neighbours(NUM_PHOTOS))
        assert solved.report.mean_reprojection_error < 0.5

    def test_triangulated_points_are_seeds_as_well(self, copy_solved: Path, solved: Solution) -> None:
        def seeds(triangulate_points: bool) -> FloatArray:
            config = Img3dPhotosDataParserConfig(
                data=copy_solved, eval_mode="all", triangulate_points=triangulate_points
            )
            return config.setup().get_dataparser_outputs().metadata["points3D_xyz"].double().numpy()

        own, all_of_them = seeds(False), seeds(True)
        assert len(own) == solved.report.points
        assert len(all_of_them) > 1.5 * len(own)
        apart = cKDTree(own).query(all_of_them[len(own) :])[0]
        assert np.median(apart) < 0.02 * np.ptp(own, axis=0).max(), "on the same surfaces"

    def test_the_scene_is_upright_with_the_table_at_zero(self, solved: Solution) -> None:
        """Photos from one side only: their own up, on average, is askew by 20 degrees."""
        posed, names = posed_photos(solved), neighbours(NUM_PHOTOS)
        assert posed.up_source is not None and "ground plane" in posed.up_source
        found = poses_of(posed)
        tilt = [found[name][2, :3] - true[2, :3] for name, true in zip(names, true_poses(names), strict=True)]
        assert np.abs(tilt).max() < np.sin(np.radians(0.5))
        seeds = posed.read_seed_points()
        assert seeds is not None
        assert (np.abs(seeds[0][:, 2]) < 0.02 * np.ptp(seeds[0][:, 2])).mean() > 0.2

    def test_intrinsics_are_found(self, solved: Solution) -> None:
        intrinsics = posed_photos(solved).frames[0].intrinsics
        assert intrinsics["fl_x"] == pytest.approx(440, rel=0.02)
        assert (intrinsics["cx"], intrinsics["cy"]) == pytest.approx((200, 150), abs=6)
        assert (intrinsics["w"], intrinsics["h"]) == (400, 300)

    def test_points_project_to_the_features_they_were_made_of(self, solved: Solution) -> None:
        posed = posed_photos(solved)
        points = posed.read_seed_points()
        assert points is not None and len(points[0]) == solved.report.points > 300
        errors = reprojection_errors(posed, solved)
        assert np.mean(errors) == pytest.approx(solved.report.mean_reprojection_error, rel=0.1)
        assert points[1].std(axis=0).min() > 10, "coloured as the photos are"

    def test_same_photos_same_poses(self, solved: Solution, photos: Path) -> None:
        again, first = poses_of(posed_photos(solve(photos, None))), poses_of(posed_photos(solved))
        for name, pose in first.items():
            np.testing.assert_allclose(again[name], pose, atol=SAME_POSES)

    def test_exif_orientation_turns_the_camera_with_the_photo(self, solved: Solution, photos: Path) -> None:
        """Held sideways or upside down, a phone stores the same pixels and says so: one camera, poses turned."""
        for i, path in enumerate(sorted((photos / "images").iterdir())):
            with Image.open(path) as image:
                exif = image.getexif()
                exif[0x0112] = (1, 6, 8, 3)[i % 4]
                image.save(path, exif=exif, quality=95)
        solution = solve(photos, None)
        posed = posed_photos(solution)
        assert solution.report.cameras == 1 and solution.report.registered == NUM_PHOTOS
        sizes = {(frame.intrinsics["w"], frame.intrinsics["h"]) for frame in posed.frames}
        assert sizes == {(400, 300), (300, 400)}
        assert np.mean(reprojection_errors(posed, solution)) < 0.6
        outputs = Img3dPhotosDataParserConfig(data=photos, eval_mode="all").setup().get_dataparser_outputs()
        assert sorted(outputs.cameras.width[:, 0].tolist()) == [300] * 6 + [400] * 6
        dataset = Img3dImageDataset(outputs)
        for i, path in enumerate(outputs.image_filenames):
            shown = dataset.get_numpy_image(i).astype(float)
            with Image.open(path) as image:
                seen = np.asarray(ImageOps.exif_transpose(image).resize(shown.shape[1::-1]), dtype=float)
            assert np.abs(shown - seen).mean() < 0.5 * np.abs(shown[::-1, ::-1] - seen).mean()

    def test_black_of_the_mask_has_no_points(self, photos: Path) -> None:
        (photos / "masks").mkdir()
        mask = np.full((300, 400), 255, dtype=np.uint8)
        mask[:, 220:] = 0
        for path in (photos / "images").iterdir():
            Image.fromarray(mask).save(photos / "masks" / f"{path.name}.png")
        model = pycolmap.Reconstruction(solve(photos, None).folder)
        x = np.concatenate([[p.xy[0] for p in image.points2D] for image in model.images.values()])
        assert len(x) > 1000 and x.max() < 222

    @pytest.mark.long
    def test_the_whole_sample_registers_within_a_hundredth_of_its_extent(self, tmp_path: Path) -> None:
        posed = read_posed_photos(put_photos(tmp_path / "sample", still_life_names()), "train")
        assert_right(posed, still_life_names())

    @pytest.mark.long
    def test_fountain_within_5_mm_and_a_tenth_of_a_degree(self, data_dir: Path, tmp_path: Path) -> None:
        solution = solve(data_dir / "fountain_p11" / "images", tmp_path)
        found = poses_of(posed_photos(solution))
        true = poses_of(read_strecha(data_dir / "fountain_p11"))
        assert sorted(found) == sorted(true) and len(true) == 11
        errors, angles = camera_errors(np.stack([found[n] for n in true]), np.stack(list(true.values())))
        assert errors.mean() <= 0.005 and angles.mean() <= 0.1

    @pytest.mark.long
    def test_all_of_the_fox_registers(self, data_dir: Path, tmp_path: Path) -> None:
        report = solve(data_dir / "fox" / "images", tmp_path).report
        assert report.registered == 50 and not report.unregistered
        assert report.mean_reprojection_error <= 0.8


def reprojection_errors(posed: PosedPhotos, solution: Solution) -> list[float]:
    """Distances in pixels between features and where the frames' cameras see their points."""
    features = {
        photo.name: matching.features_of_photo(photo, matching.MAX_FEATURES_OF_FEW)
        for photo in solution.photo_set.photos
    }
    model, errors = pycolmap.Reconstruction(solution.folder), []
    seeds = posed.read_seed_points()
    assert seeds is not None
    places = dict(zip(sorted(model.points3D), seeds[0], strict=True))
    for frame in posed.frames:
        image = model.find_image_with_name(frame.name)
        seen = [(i, p.point3D_id) for i, p in enumerate(image.points2D) if p.has_point3D()]
        xyz = np.array([places[j] for _, j in seen])
        pose = np.asarray(frame.camera_to_world)
        right, up, back = ((xyz - pose[:3, 3]) @ pose[:3, :3]).T
        assert (back < 0).all()
        x, y = right / -back, up / back
        r2 = x**2 + y**2
        bend = 1 + frame.intrinsics["k1"] * r2 + frame.intrinsics["k2"] * r2**2
        u = frame.intrinsics["fl_x"] * x * bend + frame.intrinsics["cx"]
        v = frame.intrinsics["fl_y"] * y * bend + frame.intrinsics["cy"]
        wanted = features[frame.name].xy[[i for i, _ in seen]]
        errors.extend(np.linalg.norm(np.stack([u, v], axis=1) - wanted, axis=1).tolist())
    return errors


def kept_in(folder: Path) -> list[Path]:
    """What solving has left in a folder of photos, but for the files of its locks, which stay."""
    return [path for path in (folder / ".img3d").glob("*") if path.suffix != ".lock"]


@pytest.fixture
def no_solving(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, solving anew fails."""
    monkeypatch.setattr("img3d_dataparsers.sfm.solve.features_of", must_not_run)


class TestKeeping:
    def test_the_second_run_reads_what_the_first_one_kept(
        self, copy_solved: Path, solved: Solution, capsys: pytest.CaptureFixture[str], no_solving: None
    ) -> None:
        again = poses_of(posed_photos(solve(copy_solved, None)))
        assert "from the cache" in capsys.readouterr().out
        for name, pose in poses_of(posed_photos(solved)).items():
            np.testing.assert_array_equal(again[name], pose)

    def test_only_the_result_is_kept(self, copy_solved: Path) -> None:
        (kept,) = kept_in(copy_solved)
        assert {path.name for path in kept.iterdir()} >= {"cameras.bin", "images.bin", "points3D.bin", "report.json"}
        assert not list(kept.glob("*.db")) and not list(kept.glob("*.npz"))

    @pytest.mark.parametrize("change", ["a photo more", "another photo", "a mask"])
    def test_other_photos_are_solved_anew(self, copy_solved: Path, change: str, no_solving: None) -> None:
        extra = neighbours(NUM_PHOTOS + 1)[-1]
        first = sorted((copy_solved / "images").iterdir())[0]
        if change == "a photo more":
            shutil.copy(STILL_LIFE / "images" / extra, copy_solved / "images" / extra)
        elif change == "another photo":
            shutil.copy(STILL_LIFE / "images" / extra, first)
        else:
            (copy_solved / "masks").mkdir()
            Image.new("L", (400, 300), 255).save(copy_solved / "masks" / f"{first.name}.png")
        with pytest.raises(AssertionError, match="must not run"):
            solve(copy_solved, None)

    def test_a_read_only_folder_is_solved_in_the_user_s_cache(
        self, copy_solved: Path, user_cache: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (kept,) = kept_in(copy_solved)
        user_cache.mkdir(parents=True)
        shutil.move(kept, user_cache / kept.name)
        shutil.rmtree(copy_solved / ".img3d")
        copy_solved.chmod(0o555)
        solve(copy_solved, None)
        copy_solved.chmod(0o755)
        assert f"from the cache {user_cache}" in capsys.readouterr().out

    def test_cache_dir_says_where(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matching, "MAX_FEATURES_OF_FEW", 600)
        solve(photos, tmp_path / "elsewhere")
        assert len(list((tmp_path / "elsewhere").glob("sfm-*/report.json"))) == 1
        assert not (photos / ".img3d").exists()

    def test_an_interrupted_run_goes_on_where_it_was(
        self, photos: Path, solved: Solution, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        real, calls = matching.match, 0

        def interrupted(*args: object) -> npt.NDArray[np.int64]:
            nonlocal calls
            calls += 1
            if calls > 40:
                raise KeyboardInterrupt
            return real(*args)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(matching, "match", interrupted)
        with pytest.raises(KeyboardInterrupt):
            solve(photos, None)
        assert not list((photos / ".img3d").glob("sfm-*/report.json"))

        def counted(*args: object) -> npt.NDArray[np.int64]:
            nonlocal calls
            calls += 1
            return real(*args)  # pyright: ignore[reportArgumentType]

        calls = 0
        monkeypatch.setattr(matching, "match", counted)
        monkeypatch.setattr(matching, "find_features", must_not_run)
        capsys.readouterr()
        again = poses_of(posed_photos(solve(photos, None)))
        assert "Resuming the solving" in capsys.readouterr().out
        assert calls == NUM_PHOTOS * (NUM_PHOTOS - 1) / 2 - 40
        for name, pose in poses_of(posed_photos(solved)).items():
            np.testing.assert_allclose(again[name], pose, atol=SAME_POSES)

    def test_one_solver_at_a_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when the second gets the lock in the moment in which the first lets it go, and a third comes later."""
        lock_path, inside, may_leave = tmp_path / "poses.lock", [0, 0], threading.Event()
        second_is_in = threading.Event()
        release = FileLock.release

        def second() -> None:
            with alone(lock_path):
                second_is_in.set()
                inside[0] += 1
                may_leave.wait(HANG_SECONDS)
                inside[0] -= 1

        def third() -> None:
            with alone(lock_path):
                inside[1] = inside[0]

        def release_and_let_the_second_in(lock: FileLock, *args: object, **kwargs: object) -> None:
            release(lock, *args, **kwargs)  # pyright: ignore[reportArgumentType]
            second_is_in.wait(HANG_SECONDS)

        threads = [threading.Thread(target=second), threading.Thread(target=third)]
        with alone(lock_path):
            threads[0].start()
            time.sleep(0.2)  # it waits
            monkeypatch.setattr(FileLock, "release", release_and_let_the_second_in)
        monkeypatch.setattr(FileLock, "release", release)
        threads[1].start()
        threads[1].join(0.5)
        assert threads[1].is_alive(), "the third waits for the second"
        may_leave.set()
        for thread in threads:
            thread.join(HANG_SECONDS)
        assert inside == [0, 0]

    @pytest.mark.slow
    def test_a_killed_command_goes_on_and_ctrl_c_leaves_no_process(self, tmp_path: Path) -> None:
        photos = put_photos(tmp_path / "photos", neighbours(8))
        command = [sys.executable, "-m", "img3d_dataparsers.inspect_command", "inspect", str(photos)]
        for stop in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            wait_for(lambda: bool(list((photos / ".img3d").glob("sfm-*.work/models-*"))))
            process.send_signal(stop)
            output = process.communicate(timeout=HANG_SECONDS)[0]
            assert process.returncode != 0 and "Traceback" not in output
            wait_for(lambda: not is_mapping(photos))
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert result.returncode == 0, result.stdout
        assert "Resuming the solving" in result.stdout and "8 of 8 photos registered" in result.stdout


def is_mapping(photos: Path) -> bool:
    """Whether a process solves for the cameras of these photos; other tests may run beside."""
    processes = subprocess.check_output(["ps", "axww", "-o", "command"], text=True).splitlines()
    return any("sfm.mapping" in command and str(photos) in command for command in processes)


def must_not_run(*args: object, **kwargs: object) -> None:
    raise AssertionError("must not run")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of its own; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def turning_camera(count: int) -> list[npt.NDArray[np.uint8]]:
    """Photos `[240, 320, 3]` of a wall by a camera that stays where it is."""
    rng = np.random.default_rng(0)
    height, width = 900, 1200
    sizes = [(30, 40), (60, 80), (120, 160)]
    noise = sum(cv2.resize(rng.normal(size=(*n, 3)).astype(np.float32), (width, height)) for n in sizes)
    wall = np.clip(128 + 35 * np.asarray(noise), 0, 255).astype(np.uint8)
    in_wall = np.array([[1000.0, 0, width / 2], [0, 1000, height / 2], [0, 0, 1]])
    in_photo = np.array([[440.0, 0, 160], [0, 440, 120], [0, 0, 1]])
    photos = []
    for i in range(count):
        turn = cv2.Rodrigues(np.array([0.12 * np.sin(2 * i), 0.2 * np.cos(i), 0.03 * i]))[0]
        homography = in_photo @ turn @ np.linalg.inv(in_wall)
        photos.append(cv2.warpPerspective(wall, homography, (320, 240)).astype(np.uint8))
    return photos


def error_of(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        solve(folder, None)
    message = str(error.value)
    assert "\n" not in message
    assert not kept_in(folder)
    return message


class TestBadInput:
    def test_two_photos(self, tmp_path: Path) -> None:
        assert "holds 2 photos, at least 3 are needed" in error_of(put_photos(tmp_path / "two", neighbours(2)))

    def test_forty_copies_of_one_photo(self, tmp_path: Path) -> None:
        folder = put_photos(tmp_path / "copies", neighbours(1))
        (original,) = (folder / "images").iterdir()
        for i in range(39):
            shutil.copy(original, folder / "images" / f"copy{i}.jpg")
        message = error_of(folder)
        assert "1 usable photo," in message and "a copy of" in message

    def test_photos_from_one_place(self, tmp_path: Path) -> None:
        """Saved anew, copies are different files."""
        (tmp_path / "saved" / "images").mkdir(parents=True)
        with Image.open(STILL_LIFE / "images" / neighbours(1)[0]) as image:
            for quality in range(88, 96):
                image.save(tmp_path / "saved" / "images" / f"{quality}.jpg", quality=quality)
        assert "all taken from one place" in error_of(tmp_path / "saved")

    def test_a_camera_that_only_turns(self, tmp_path: Path) -> None:
        """Photos that homographies lead from one to the other: mappers place them all, on nothing."""
        folder = tmp_path / "turning"
        folder.mkdir()
        for i, photo in enumerate(turning_camera(6)):
            Image.fromarray(photo).save(folder / f"{i}.png")
        message = error_of(folder)
        assert "the 6 photos fit together, but were all taken from one place" in message
        assert "a step to the side" in message

    def test_photos_too_far_apart(self, tmp_path: Path) -> None:
        """Three of them get poses, by a single point."""
        names = [f"00{i:02d}.jpg" for i in (1, 9, 16, 22, 38, 54, 64, 68)]
        message = error_of(put_photos(tmp_path / "far", names))
        assert "of the 8 photos could be placed" in message and "Take more photos in between" in message

    def test_forty_photos_of_a_white_wall(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        (tmp_path / "wall").mkdir()
        for i in range(40):
            pixels = (rng.normal(size=(300, 400, 3)) + 235).round().astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "wall" / f"{i}.jpg")
        assert "too little detail" in error_of(tmp_path / "wall")

    def test_photos_of_two_places(self, tmp_path: Path) -> None:
        folder = put_photos(tmp_path / "two places", neighbours(8))
        rng = np.random.default_rng(0)
        noise = sum(
            np.asarray(
                Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize(
                    (1000, 1000), Image.Resampling.BICUBIC
                )
            )
            for n in (40, 80, 160)
        )
        wall = Image.fromarray((128 + 45 * noise).clip(0, 255).astype(np.uint8)).convert("RGB")
        for i in range(8):
            wall.crop((20 * i, 10 * i, 20 * i + 400, 10 * i + 300)).save(folder / "images" / f"wall{i}.png")
        message = error_of(folder)
        assert "show two places: 8 of 16 (images/" in message
        assert "a folder of its own" in message

    def test_damaged_photos_are_left_out(
        self, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(matching, "MAX_FEATURES_OF_FEW", 600)
        first, second, *_ = sorted((photos / "images").iterdir())
        first.write_bytes(first.read_bytes()[:2000])
        second.write_bytes(b"")
        (photos / "images" / "héllo wörld 日本.jpg").write_bytes(
            (STILL_LIFE / "images" / neighbours(NUM_PHOTOS + 1)[-1]).read_bytes()
        )
        report = solve(photos, None).report
        damaged = "damaged or cannot be read"
        assert report.left_out == {f"images/{first.name}": damaged, f"images/{second.name}": "empty"}
        assert report.registered == NUM_PHOTOS - 1
        output = capsys.readouterr().out
        assert f"Warning: 1 of 13 photos left out (images/{first.name}): damaged or cannot be read" in output
        assert "11 of 11 photos registered" in output

    def test_a_full_disk(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(matching, "save_arrays", full)
        with pytest.raises(InputError, match="is full: free some space or choose another place with --cache-dir"):
            solve(photos, None)
        assert not list((photos / ".img3d").rglob("*.tmp")) and not list((photos / ".img3d").rglob("*.npz"))

    @pytest.mark.slow
    def test_a_disk_that_fills_at_any_moment(self, photos: Path, small_disk: Path) -> None:
        """On a real one, that is full while features are kept, in the database, and when the poses are written."""
        stages = []
        for megabytes in (1, 2, 3, 4, 5):
            subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(small_disk)], check=True)
            try:
                solve(photos, small_disk)
                break
            except InputError as error:  # which the command prints as its one line
                assert "free some space or choose another place with --cache-dir" in str(error)
                assert "\n" not in str(error)
            assert not list(small_disk.glob("sfm-*/report.json"))
            stages.append(len(list(small_disk.rglob("*.npz"))))
        assert min(stages) < NUM_PHOTOS == max(stages)
        subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
        assert solve(photos, small_disk).report.registered == NUM_PHOTOS

    def test_nowhere_to_write(self, photos: Path, user_cache: Path) -> None:
        (photos / ".img3d").touch()
        user_cache.parent.touch()
        with pytest.raises(InputError, match="cannot be written; --cache-dir DIR says where"):
            solve(photos, None)

    def test_a_mapper_that_crashes(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(matching, "MAX_FEATURES_OF_FEW", 600)
        monkeypatch.setattr("img3d_dataparsers.sfm.solve.MAPPING", [sys.executable, "-c", "import os; os.abort()"])
        with pytest.raises(InputError, match="solving for cameras failed.*mapping.log"):
            solve(photos, None)


class TestCommand:
    def test_inspect_prints_a_table_and_advice(self, copy_solved: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "img3d_dataparsers.inspect_command", "inspect", str(copy_solved)],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )
        assert result.returncode == 0
        lines = result.stdout.splitlines()
        for figure in ("12 of 12 (100%), by 1 camera", "Reprojection error", "Parallax", "Coverage", "Overlap"):
            (line,) = [line for line in lines if figure in line]
            assert "good" in line
        for said in (
            "its ground plane",
            "unknown; to set it, end the ns-train command with img3d-photos --camera-distance",
            "What to do next",
            "- Take more photos: 12 are few",
        ):
            assert said in result.stdout

    def test_inspect_says_what_is_wrong_in_one_line(self, tmp_path: Path) -> None:
        put_photos(tmp_path / "two", neighbours(2))
        result = subprocess.run(
            [sys.executable, "-m", "img3d_dataparsers.inspect_command", "inspect", str(tmp_path / "two")],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )
        assert result.returncode == 1
        assert result.stdout.startswith("Error: ") and result.stdout.count("\n") == 1
        assert "Traceback" not in result.stderr
