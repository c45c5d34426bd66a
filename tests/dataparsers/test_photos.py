# SPDX-License-Identifier: Apache-2.0
"""What img3d-photos makes of data sets that are all right: every format, split, size and option."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.specs import img3d_photos


def parse(data: Path, split: str = "train", **options: Any) -> DataparserOutputs:
    options = {"triangulate_points": False, **options}  # the photos are too small for that, which would cost a warning
    return Img3dPhotosDataParserConfig(data=data, **options).setup().get_dataparser_outputs(split)


def edit(folder: Path, change: Callable[[dict[str, Any]], None], name: str = "transforms.json") -> None:
    meta = json.loads((folder / name).read_text())
    change(meta)
    (folder / name).write_text(json.dumps(meta))


def names(outputs: DataparserOutputs) -> list[str]:
    return [path.name for path in outputs.image_filenames]


def as_nerf_synthetic(scene: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """The tiny scene in NeRF-synthetic's format: RGBA, no suffixes, one angle for the intrinsics."""
    meta = json.loads((scene / "transforms.json").read_text())
    folder = scene.parent / "synthetic"
    for k, split in enumerate(splits):
        (folder / split).mkdir(parents=True)
        frames = []
        for i, frame in enumerate(meta["frames"][k::3]):
            Image.open(scene / frame["file_path"]).convert("RGBA").save(folder / split / f"r_{i}.png")
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": frame["transform_matrix"]})
        angle = 2 * math.atan(0.5 * meta["w"] / meta["fl_x"])
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return folder


def as_colmap(scene: Path, sparse: str = "sparse/0") -> Path:
    """The tiny scene as COLMAP's text files, by the definition of its format (world-to-camera, OpenCV axes)."""
    from scipy.spatial.transform import Rotation

    meta = json.loads((scene / "transforms.json").read_text())
    folder = scene.parent / "colmap_scene"
    (folder / sparse).mkdir(parents=True)
    shutil.copytree(scene / "images", folder / "images")
    (folder / sparse / "cameras.txt").write_text("# cameras\n1 OPENCV 64 48 60 60 32 24 0.01 0 0 0\n")
    lines = []
    for i, frame in enumerate(meta["frames"]):
        opencv = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        world_to_camera = np.linalg.inv(opencv)
        x, y, z, w = Rotation.from_matrix(world_to_camera[:3, :3]).as_quat()
        numbers = " ".join(repr(float(value)) for value in (w, x, y, z, *world_to_camera[:3, 3]))
        # COLMAP numbers photos in the order in which it registered them, not by name.
        lines.append(f"{100 - i} {numbers} 1 {Path(frame['file_path']).name}\n\n")
    (folder / sparse / "images.txt").write_text("".join(lines))
    (folder / sparse / "points3D.txt").write_text("1 0.5 0.25 1.0 255 0 10 0.1 1 0\n2 -0.5 0.0 0.5 0 128 0 0.1 1 0\n")
    return folder


def projected(outputs: DataparserOutputs, point: np.ndarray) -> np.ndarray:
    """Where a point of the original capture falls in each photo; independent of the normalisation."""
    x = outputs.dataparser_transform.double().numpy() @ np.append(point, 1.0) * outputs.dataparser_scale
    cameras = outputs.cameras
    c2w = cameras.camera_to_worlds.double().numpy()
    local = np.einsum("nji,nj->ni", c2w[:, :, :3], x - c2w[:, :, 3])
    u = cameras.fx[:, 0].numpy() * local[:, 0] / -local[:, 2] + cameras.cx[:, 0].numpy()
    v = cameras.fy[:, 0].numpy() * -local[:, 1] / -local[:, 2] + cameras.cy[:, 0].numpy()
    return np.stack([u, v], axis=-1)


class TestFormats:
    def test_nerfstudio_folder_or_json(self, tiny_scene: Path) -> None:
        from_folder, from_json = parse(tiny_scene), parse(tiny_scene / "transforms.json")
        assert len(from_folder.image_filenames) == 14
        assert from_folder.image_filenames == from_json.image_filenames
        assert from_folder.cameras.metadata == {}, "ns-export cameras writes into it"
        assert from_folder.alpha_color is None

    def test_photos_behind_links_that_are_text(self, copy_scene: Callable[[], Path], tiny_scene: Path) -> None:
        """As git leaves links on Windows. Methods that open the photos themselves are given files that are photos."""
        folder = copy_scene()
        (folder / "images").rename(folder.parent / "photos")
        (folder / "images").write_text("../photos")
        linked, plain = InputDataset(parse(folder)), InputDataset(parse(tiny_scene))
        for index in (0, 3):
            np.testing.assert_array_equal(linked.get_numpy_image(index), plain.get_numpy_image(index))

    def test_instant_ngp_leaves_out_suffixes_and_gives_angles(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()

        def to_instant_ngp(meta: dict[str, Any]) -> None:
            meta["camera_angle_x"] = 2 * math.atan(0.5 * 64 / 60)
            for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"):
                del meta[key]
            for frame in meta["frames"]:
                frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

        edit(scene, to_instant_ngp)
        cameras = parse(scene).cameras
        assert cameras.fx[0].item() == pytest.approx(60)
        assert cameras.fy[0].item() == pytest.approx(60)
        assert (cameras.width[0].item(), cameras.height[0].item()) == (64, 48)
        assert (cameras.cx[0].item(), cameras.cy[0].item()) == (32, 24)

    def test_fisheye(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update(camera_model="OPENCV_FISHEYE", k1=0.1, k4=0.01))
        cameras = parse(scene).cameras
        assert (cameras.camera_type == CameraType.FISHEYE.value).all()
        assert cameras.distortion_params[0].tolist() == pytest.approx([0.1, 0, 0, 0.01, 0, 0])

    def test_distortion_is_kept(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update(k1=0.1, k2=-0.02, p1=0.001, p2=0.002))
        params = parse(scene).cameras.distortion_params
        assert params[3].tolist() == pytest.approx([0.1, -0.02, 0, 0, 0.001, 0.002])

    def test_nerf_synthetic(self, copy_scene: Callable[[], Path]) -> None:
        folder = as_nerf_synthetic(copy_scene())
        train, val, test = (parse(folder, split) for split in ("train", "val", "test"))
        assert [len(outputs.image_filenames) for outputs in (train, val, test)] == [6, 5, 5]
        assert train.alpha_color is not None and train.alpha_color.tolist() == [1, 1, 1]
        assert train.metadata["alpha_color"].tolist() == [1, 1, 1]
        assert train.dataparser_scale == 1.0
        assert torch.equal(train.dataparser_transform, torch.eye(4)[:3]), "its world is already normalised"
        meta = json.loads((folder / "transforms_test.json").read_text())
        expected = torch.tensor([frame["transform_matrix"] for frame in meta["frames"]])[:, :3]
        torch.testing.assert_close(test.cameras.camera_to_worlds, expected)
        assert train.cameras.fx[0].item() == pytest.approx(60, rel=1e-6)

    def test_nerf_synthetic_without_validation_photos_uses_the_test_photos(
        self, copy_scene: Callable[[], Path]
    ) -> None:
        folder = as_nerf_synthetic(copy_scene())
        shutil.rmtree(folder / "val")
        assert names(parse(folder, "val")) == names(parse(folder, "test"))
        (folder / "transforms_val.json").unlink()
        assert names(parse(folder, "val")) == names(parse(folder, "test"))

    @pytest.mark.parametrize("sparse", ["sparse/0", "colmap/sparse/0", "sparse"])
    def test_colmap(self, copy_scene: Callable[[], Path], tiny_scene: Path, sparse: str) -> None:
        colmap = parse(as_colmap(copy_scene(), sparse))
        nerfstudio = parse(tiny_scene)
        assert names(colmap) == names(nerfstudio), "sorted by name, whatever COLMAP's numbering"
        for point in ([0.2, 0.1, 0.4], [-0.3, 0.5, 0.0]):
            np.testing.assert_allclose(
                projected(colmap, np.array(point)), projected(nerfstudio, np.array(point)), rtol=0, atol=1e-9
            )
        assert colmap.cameras.distortion_params[0, 0].item() == pytest.approx(0.01)
        assert colmap.cameras.metadata == {}

    def test_colmap_points_seed_the_training(self, copy_scene: Callable[[], Path]) -> None:
        outputs = parse(as_colmap(copy_scene()))
        xyz, rgb = outputs.metadata["points3D_xyz"], outputs.metadata["points3D_rgb"]
        original = np.array([[0.5, 0.25, 1.0], [-0.5, 0.0, 0.5]])
        transform = outputs.dataparser_transform.double().numpy()
        expected = (original @ transform[:, :3].T + transform[:, 3]) * outputs.dataparser_scale
        np.testing.assert_allclose(xyz.numpy(), expected, rtol=0, atol=1e-7)  # float32
        assert rgb.tolist() == [[255, 0, 10], [0, 128, 0]] and rgb.dtype == torch.uint8
        assert "points3D_xyz" not in parse(outputs.image_filenames[0].parents[1], load_3D_points=False).metadata

    def test_ply_points_seed_the_training(self, copy_scene: Callable[[], Path]) -> None:
        from plyfile import PlyData, PlyElement

        scene = copy_scene()
        kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
        vertices = np.array([(0.1, 0.2, 0.3, 9, 8, 7), (np.nan, 0, 0, 1, 1, 1)], dtype=kinds)
        PlyData([PlyElement.describe(vertices, "vertex")]).write(str(scene / "sparse_pc.ply"))
        edit(scene, lambda meta: meta.update(ply_file_path="sparse_pc.ply"))
        outputs = parse(scene)
        transform = outputs.dataparser_transform.double().numpy()
        expected = (transform @ [0.1, 0.2, 0.3, 1.0]) * outputs.dataparser_scale
        np.testing.assert_allclose(outputs.metadata["points3D_xyz"].numpy(), expected[None], rtol=0, atol=1e-7)
        assert outputs.metadata["points3D_rgb"].tolist() == [[9, 8, 7]]
        assert "points3D_xyz" not in parse(scene, "val").metadata

    def test_ply_points_are_before_the_applied_scale(self, copy_scene: Callable[[], Path]) -> None:
        """The file's poses are of the capture, transformed and then scaled; its points are transformed, as Nerfstudio's
        own parser reads them."""
        from plyfile import PlyData, PlyElement

        scene = copy_scene()
        points = np.array([[0.1, 0.2, 0.3], [-1.0, 0.5, 2.0]])
        vertices = np.array([tuple(xyz) for xyz in points], dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
        PlyData([PlyElement.describe(vertices, "vertex")]).write(str(scene / "sparse_pc.ply"))

        def scaled(meta: dict[str, Any]) -> None:
            for frame in meta["frames"]:
                for row in frame["transform_matrix"][:3]:
                    row[3] *= 40.0
            applied = [[0.0, 0, 1, 3], [1, 0, 0, -2], [0, 1, 0, 0.5]]
            meta.update(ply_file_path="sparse_pc.ply", applied_scale=40.0, applied_transform=applied)

        edit(scene, scaled)
        seen, before = parse(scene), parse(copy_scene())
        # The scene is the same but for its unit, and normalised alike.
        np.testing.assert_allclose(seen.cameras.camera_to_worlds, before.cameras.camera_to_worlds, rtol=0, atol=1e-7)
        transform = before.dataparser_transform.double().numpy()
        expected = (points @ transform[:, :3].T + transform[:, 3]) * before.dataparser_scale
        np.testing.assert_allclose(seen.metadata["points3D_xyz"].numpy(), expected, rtol=0, atol=1e-7)

        options: dict[str, Any] = dict(orientation_method="none", center_method="none")
        upstream = NerfstudioDataParserConfig(data=scene, load_3D_points=True, **options).setup()
        theirs = upstream.get_dataparser_outputs("train").metadata["points3D_xyz"]
        np.testing.assert_allclose(parse(scene, **options).metadata["points3D_xyz"], theirs, rtol=0, atol=1e-7)


class TestSplits:
    def test_every_eighth_photo_is_held_out(self, tiny_scene: Path) -> None:
        assert names(parse(tiny_scene, "val")) == names(parse(tiny_scene, "test")) == ["000.png", "008.png"]
        train = names(parse(tiny_scene))
        assert train == sorted(train) and len(train) == 14 and not {"000.png", "008.png"} & set(train)

    def test_interval_and_mode_can_be_chosen(self, tiny_scene: Path) -> None:
        assert names(parse(tiny_scene, "val", eval_interval=5)) == ["000.png", "005.png", "010.png", "015.png"]
        assert len(names(parse(tiny_scene, "val", eval_mode="all"))) == 16
        assert len(names(parse(tiny_scene, "val", eval_mode="fraction", train_split_fraction=0.75))) == 4

    def test_lists_in_the_json_win(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        edit(
            scene,
            lambda meta: meta.update(
                train_filenames=["images/001.png", "images/003.png"],
                val_filenames=["images/002.png"],
                test_filenames=["images/004.png", "images/005.png"],
            ),
        )
        assert names(parse(scene)) == ["001.png", "003.png"]
        assert names(parse(scene, "val")) == ["002.png"]
        assert names(parse(scene, "test")) == ["004.png", "005.png"]

    def test_a_lone_test_list_is_held_out_for_validation_too(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update(test_filenames=["images/004.png", "images/005.png"]))
        assert names(parse(scene, "val")) == ["004.png", "005.png"]
        assert len(names(parse(scene))) == 14 and "004.png" not in names(parse(scene))

    def test_a_lone_train_list_leaves_the_rest_for_evaluation(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update(train_filenames=[f"images/{i:03d}.png" for i in range(12)]))
        assert names(parse(scene, "val")) == ["012.png", "013.png", "014.png", "015.png"]

    @pytest.mark.parametrize("prefix", ["", "images/"])
    def test_lists_as_files(self, copy_scene: Callable[[], Path], prefix: str) -> None:
        scene = copy_scene()
        (scene / "test_list.txt").write_text(f"{prefix}002.png\n{prefix}005.png\n")
        assert names(parse(scene, "val")) == ["002.png", "005.png"]
        assert len(names(parse(scene, "train"))) == 14 and "002.png" not in names(parse(scene, "train"))

    def test_a_list_that_names_a_missing_photo(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        (scene / "test_list.txt").write_text("002.png\n099.png\n")
        with pytest.raises(InputError, match="names 1 missing photo: 099.png"):
            parse(scene, "val")

    def test_poses_are_normalised_alike_in_all_splits(self, tiny_scene: Path) -> None:
        train, val = parse(tiny_scene), parse(tiny_scene, "val")
        assert torch.equal(train.dataparser_transform, val.dataparser_transform)
        assert train.dataparser_scale == val.dataparser_scale


class TestSizes:
    def test_small_photos_keep_their_size(self, tiny_scene: Path) -> None:
        cameras = parse(tiny_scene).cameras
        assert (cameras.width[0].item(), cameras.height[0].item(), cameras.fx[0].item()) == (64, 48, 60)

    def test_longest_side(self, tiny_scene: Path) -> None:
        cameras = parse(tiny_scene, max_image_size=32).cameras
        assert (cameras.width[0].item(), cameras.height[0].item()) == (32, 24)
        assert (cameras.fx[0].item(), cameras.cx[0].item(), cameras.cy[0].item()) == (30, 16, 12)

    @pytest.mark.parametrize("factor", [2.0, 3.0, 1.7])
    def test_any_factor_scales_intrinsics_exactly_as_the_photo(self, tiny_scene: Path, factor: float) -> None:
        cameras = parse(tiny_scene, downscale_factor=factor, max_image_size=8).cameras
        width, height = round(64 / factor), round(48 / factor)
        assert (cameras.width[0].item(), cameras.height[0].item()) == (width, height)
        assert cameras.fx[0].item() == pytest.approx(60 * width / 64)
        assert cameras.fy[0].item() == pytest.approx(60 * height / 48)
        assert cameras.cx[0].item() == pytest.approx(width / 2)
        assert cameras.cy[0].item() == pytest.approx(height / 2)

    def test_photos_of_different_sizes_with_their_own_intrinsics(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        Image.new("RGB", (30, 50)).save(scene / "images/003.png")

        def own_intrinsics(meta: dict[str, Any]) -> None:
            meta["frames"][3].update(w=30, h=50, fl_x=40, fl_y=41, cx=14, cy=26)

        edit(scene, own_intrinsics)
        outputs = parse(scene)
        i = names(outputs).index("003.png")
        camera = outputs.cameras[i]
        assert [camera.width.item(), camera.height.item()] == [30, 50]
        assert [camera.fx.item(), camera.fy.item(), camera.cx.item(), camera.cy.item()] == [40, 41, 14, 26]
        assert outputs.cameras.width[i - 1].item() == 64

    def test_photos_stored_at_another_scale_than_their_camera(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        for path in (scene / "images").iterdir():
            with Image.open(path) as image:
                image.resize((32, 24)).save(path)
        cameras = parse(scene).cameras
        assert (cameras.width[0].item(), cameras.fx[0].item(), cameras.cx[0].item()) == (32, 30, 16)

    def test_photo_turned_by_its_exif_tag_only_where_the_camera_is_turned_too(
        self, copy_scene: Callable[[], Path]
    ) -> None:
        scene = copy_scene()
        exif = Image.Exif()
        exif[0x0112] = 6
        for i in (1, 2):
            Image.new("RGB", (48, 64)).save(scene / f"images/{i:03d}.png", exif=exif)  # stored upright: turn
        Image.new("RGB", (64, 48)).save(scene / "images/003.png", exif=exif)  # stored as the camera: leave
        assert {"001.png", "002.png", "003.png"} <= set(names(parse(scene)))


class TestMasks:
    @pytest.mark.parametrize("name", ["masks/{stem}.png", "masks/{stem}.png.png"])
    def test_masks_folder_beside_the_photos(self, copy_scene: Callable[[], Path], name: str) -> None:
        scene = copy_scene()
        (scene / "masks").mkdir()
        for i in range(16):
            Image.new("L", (64, 48), 255).save(scene / name.format(stem=f"{i:03d}"))
        masks = parse(scene).mask_filenames
        assert masks is not None and masks[0] == scene / name.format(stem="001")

    def test_masks_named_in_the_json_may_be_missing_for_some_photos(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        (scene / "m.png").write_bytes((scene / "images/000.png").read_bytes())
        edit(scene, lambda meta: meta["frames"][2].update(mask_path="m.png"))
        assert parse(scene).mask_filenames == [None, scene / "m.png", *[None] * 12]

    def test_no_masks(self, tiny_scene: Path) -> None:
        assert parse(tiny_scene).mask_filenames is None


class TestCommandLine:
    def test_entry_point_object(self) -> None:
        assert isinstance(img3d_photos, DataParserSpecification)
        assert isinstance(img3d_photos.config, Img3dPhotosDataParserConfig)

    def test_every_option_parses(self) -> None:
        config = tyro.cli(
            tyro.conf.FlagConversionOff[Img3dPhotosDataParserConfig],
            args="--data x --max-image-size None --downscale-factor 4 --scale-factor 2 --scene-scale 3 "
            "--orientation-method none --center-method focus --auto-scale-poses False --eval-mode fraction "
            "--eval-interval 4 --train-split-fraction 0.5 --load-3D-points False".split(),
        )
        assert config.data == Path("x") and config.max_image_size is None and config.downscale_factor == 4.0
        assert config.auto_scale_poses is False and config.eval_mode == "fraction"

    def test_size_limit_depends_on_the_machine_and_is_recorded(self) -> None:
        limit = Img3dPhotosDataParserConfig().max_image_size
        assert limit == (1600 if torch.cuda.is_available() else 800)
