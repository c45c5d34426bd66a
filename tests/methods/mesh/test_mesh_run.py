# SPDX-License-Identifier: Apache-2.0
"""A mesh file as a run: its views, its model's outputs and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import OrientedBox
from PIL import Image

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import write_mesh
from img3d_assets.mesh_geometry import in_frame
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_base.errors import InputError
from img3d_methods.mesh.dataparser import RADIUS, Img3dMeshDataParserConfig, in_world
from img3d_methods.mesh.model import Img3dMeshModel, Img3dMeshModelConfig
from img3d_methods.viewing.ray_bundles import FAR

SIZE = 40
BOX = trimesh.creation.box((1.0, 2.0, 3.0)).apply_translation((10.0, 0, 0))


def box() -> Mesh:
    """Far from the origin, red but for what is above, which is blue."""
    vertices = np.asarray(BOX.vertices)
    colors = np.where(vertices[:, 2:] > 0, [0.0, 0, 1], [1.0, 0, 0]).astype(np.float32)
    return Mesh(vertices, np.asarray(BOX.faces), colors)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataparserOutputs:
    path = tmp_path_factory.mktemp("mesh") / "box.glb"
    write_mesh(box(), path, "z")
    config = Img3dMeshDataParserConfig(data=path, num_views=4, view_size=SIZE)
    return config.setup().get_dataparser_outputs("train")


@pytest.fixture(scope="module")
def model(data: DataparserOutputs) -> Img3dMeshModel:
    made = Img3dMeshModelConfig().setup(scene_box=data.scene_box, num_train_data=4, metadata=data.metadata)
    made.eval()
    return made


def test_the_world_is_upright_and_in_view(data: DataparserOutputs) -> None:
    mesh = data.metadata["mesh"]
    assert np.allclose(np.linalg.norm(mesh.vertices, axis=1), RADIUS, atol=1e-6)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0) / np.ptp(mesh.vertices[:, 0]), [1, 2, 3], rtol=1e-5)
    above = mesh.vertices[:, 2] > 0
    assert (mesh.colors[above] == [0, 0, 1]).all() and (mesh.colors[~above] == [1, 0, 0]).all()


def test_the_file_has_its_own_axes_and_units(data: DataparserOutputs) -> None:
    back = in_frame(data.metadata["mesh"], data.dataparser_transform.numpy(), data.dataparser_scale)
    low = back.vertices.min(axis=0)
    np.testing.assert_allclose(low, [9.5, -1.5, -1.0], atol=1e-5)  # y is up in a GLB


def test_seed_points_lie_on_the_mesh(data: DataparserOutputs) -> None:
    half = np.ptp(data.metadata["mesh"].vertices, axis=0) / 2
    outermost = (data.metadata["points3D_xyz"].abs().numpy() / half).max(axis=1)
    np.testing.assert_allclose(outermost, 1, atol=1e-4)


def test_renders_are_the_views(data: DataparserOutputs, model: Img3dMeshModel) -> None:
    for i, path in enumerate(data.image_filenames):
        with Image.open(path) as image:
            view = torch.from_numpy(np.array(image))
        assert view.shape == (SIZE, SIZE, 4) and 0.1 < (view[..., 3] == 255).float().mean() < 0.9
        outputs = model.get_outputs_for_camera(data.cameras[i : i + 1])
        metrics, images = model.get_image_metrics_and_images(outputs, {"image": view})
        assert metrics["psnr"] > 45 and images["img"].shape == (SIZE, 2 * SIZE, 3)
        torch.testing.assert_close(outputs["accumulation"][..., 0], view[..., 3] / 255, atol=0.01, rtol=0)


def test_rays_see_what_cameras_see(data: DataparserOutputs, model: Img3dMeshModel) -> None:
    camera = data.cameras[0:1]
    seen = model.get_outputs_for_camera(camera)
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    outputs = model.get_outputs_for_camera_ray_bundle(rays)
    inside, outside = seen["accumulation"][..., 0] == 1, seen["accumulation"][..., 0] == 0
    torch.testing.assert_close(outputs["depth"][inside], seen["depth"][inside], atol=0.02, rtol=0)
    assert (outputs["depth"][outside] == FAR).all() and (seen["depth"] < 2).all()
    ends = (rays.origins + rays.directions * outputs["depth"])[inside]
    half = torch.from_numpy(np.ptp(data.metadata["mesh"].vertices, axis=0) / 2)
    torch.testing.assert_close((ends.abs() / half).amax(dim=1), torch.ones(len(ends)), atol=1e-3, rtol=0)
    front = (2 * outputs["normals"] - 1)[inside]
    assert ((front * rays.directions[inside]).sum(dim=1) < 0).all()
    flat = model.get_outputs_for_camera_ray_bundle(rays.flatten().reshape((-1, 1)))
    torch.testing.assert_close(flat["rgb"].view(SIZE, SIZE, 3), outputs["rgb"])


def test_other_lenses_are_rendered(data: DataparserOutputs, model: Img3dMeshModel) -> None:
    for kind in (CameraType.FISHEYE, CameraType.EQUIRECTANGULAR):
        camera = replace(data.cameras[0:1], camera_type=torch.full((1, 1), kind.value))
        outputs = model.get_outputs_for_camera(camera)
        assert outputs["rgb"].shape == (SIZE, SIZE, 3) and 0 < outputs["accumulation"].mean() < 1


def test_a_crop_box_cuts_the_mesh(data: DataparserOutputs, model: Img3dMeshModel) -> None:
    lower = OrientedBox(R=torch.eye(3), T=torch.tensor([0.0, 0, -1]), S=torch.tensor([2.0, 2, 2]))
    outputs = model.get_outputs_for_camera(data.cameras[0:1], obb_box=lower)
    shown = outputs["accumulation"][..., 0]
    assert shown[: SIZE // 2 - 1].sum() == 0 and shown[SIZE // 2 + 2].sum() > 0


def test_a_checkpoint_holds_the_mesh(data: DataparserOutputs, model: Img3dMeshModel) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    mesh = replace(data.metadata["mesh"], uvs=np.zeros((8, 2), np.float32), texture=texture)
    first, second = (Img3dMeshModelConfig().setup(scene_box=data.scene_box, num_train_data=1) for _ in range(2))
    first.set_mesh(mesh)
    second.load_state_dict(first.state_dict())
    loaded = second.asset()
    for name in ("vertices", "faces", "colors", "uvs", "texture"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(mesh, name))
    second.load_state_dict(model.state_dict())
    assert second.asset().texture is None and len(second.asset().faces) == 12


def test_points_are_spread_over_the_area() -> None:
    cloud = points_on_mesh(box(), 6000)
    on_top = np.isclose(cloud.points[:, 2], 1.5)
    assert on_top.mean() == pytest.approx(2 / 22, abs=0.015)
    np.testing.assert_allclose(cloud.normals[on_top], np.tile([0, 0, 1], (on_top.sum(), 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_views": 0}, "num-views"), ({"view_size": 5}, "view-size"), ({"data": Path("none.glb")}, "none.glb")],
)
def test_bad_options_cost_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Img3dMeshDataParserConfig(**{"data": tmp_path, **changes}).setup().get_dataparser_outputs("train")


def test_a_mesh_in_one_place_has_no_extent() -> None:
    with pytest.raises(InputError, match="no extent"):
        in_world(replace(box(), vertices=np.zeros((8, 3))), "z", "auto")
