# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-instantmesh` and `img3d-instantmesh-nerf`, from six given views: runs of a mesh and of a field."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from small_instantmesh import write_small

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.posed_views import PosedViews
from img3d_generators.rows import WHITE_VIEWS
from img3d_generators.weights import weight_files
from img3d_methods.generated.generated_views import write_views
from img3d_methods.representation import representation_of


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small weights."""
    torch.set_num_threads(1)
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(weight_files, "_has_size", lambda path, file: path.is_file())
    for head in ("mesh", "nerf"):
        write_small(tmp_path / "weights", f"instantmesh-{head}-base", monkeypatch)
    return tmp_path / "weights"


def run_of(method: str, folder: Path, generator: str = WHITE_VIEWS, rig: str = "v1.2") -> Any:
    """The configuration of a run on noise that a generator of views has made."""
    torch.manual_seed(1)
    cameras = ZERO123PLUS_RIGS[rig]
    views = PosedViews(torch.rand(6, 3, 40, 40), cameras.camera_to_worlds(), cameras.fov)
    if not folder.exists():
        write_views(views, torch.ones(4, 40, 40), generator, folder)
    config: Any = copy.deepcopy(all_methods[method])
    config.vis, config.pipeline.datamanager.data = "tensorboard", folder
    parser = config.pipeline.datamanager.dataparser
    parser.num_views, parser.view_size = 3, 32
    return config


def asset_of(config: Any) -> Any:
    """What a run holds."""
    config.pipeline.choose()
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    return representation_of(pipeline.model).asset()


def test_a_mesh_of_six_views_of_four_and_with_a_texture(weights: Path, tmp_path: Path) -> None:
    config = run_of("img3d-instantmesh", tmp_path / "views")
    mesh = asset_of(config)
    assert isinstance(mesh, Mesh) and len(mesh.faces) > 100 and mesh.texture is None
    assert config.pipeline.network == "instantmesh-mesh-base"
    config = run_of("img3d-instantmesh", tmp_path / "views")
    config.pipeline.views, config.pipeline.texture_size = 4, 64
    other = asset_of(config)
    assert other.texture is not None and other.texture.shape == (64, 64, 3)
    assert len(other.faces) != len(mesh.faces)


def test_a_field_of_six_views(weights: Path, tmp_path: Path) -> None:
    config = run_of("img3d-instantmesh-nerf", tmp_path / "views")
    config.pipeline.model.occupancy_resolution = 16
    field = asset_of(config)
    assert isinstance(field, TriplaneField) and field.up == "z"
    assert config.pipeline.network == "instantmesh-nerf-base"
    config.pipeline.texture_size = 64
    with pytest.raises(InputError, match="instantmesh-nerf has no option texture_size; it has views"):
        config.pipeline.choose()


def test_views_by_other_cameras_are_refused(weights: Path, tmp_path: Path) -> None:
    config = run_of("img3d-instantmesh", tmp_path / "views", "zero123plus-v1.1", "v1.1")
    with pytest.raises(InputError, match="does not take the views of zero123plus-v1.1: .* lgm-big"):
        config.pipeline.choose()


def test_without_weights_one_line_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(InputError, match="needs weights .* fetch instantmesh-mesh-large .1.51 GB, Apache-2.0.$"):
        run_of("img3d-instantmesh", tmp_path / "views").pipeline.choose()
    config = run_of("img3d-instantmesh", tmp_path / "views")
    config.pipeline.datamanager.data = tmp_path / "photo.png"
    with pytest.raises(InputError, match=f"fetch {WHITE_VIEWS} .*, and img3d-weights fetch instantmesh-mesh-large"):
        config.pipeline.choose()
