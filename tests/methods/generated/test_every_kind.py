# SPDX-License-Identifier: Apache-2.0
"""A row of each kind of input and asset is a method whose run holds that asset."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from object_image import write_object_image
from torch import Tensor

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import Generator, Gives, InputView, Takes, rows
from img3d_methods.generated.generated_views import INPUT, write_views
from img3d_methods.generated.mesh_dataparser import read_arrays, write_arrays
from img3d_methods.generated.methods import method_of
from img3d_methods.mesh.trainer import Img3dMeshTrainerConfig
from img3d_methods.representation import representation_of, trained_steps

CALLS: list[Any] = []


def load(name: str) -> Callable[..., Gaussians | Mesh]:
    """A generator of something as high as wide, and twice as deep; it notes what it was given."""

    def make(source: Any, seed: int = 0, bridge: str = "") -> Gaussians | Mesh:
        CALLS.append(source)
        return gaussians() if "gaussians" in name else box()

    return make


def box() -> Mesh:
    made = trimesh.creation.box((1.0, 1.0, 2.0))
    vertices = np.asarray(made.vertices, np.float32)
    uvs, texture = vertices[:, :2] + 0.5, np.random.default_rng(0).integers(0, 255, (5, 4, 3), np.uint8)
    return Mesh(vertices, np.asarray(made.faces), np.full((8, 3), 0.5, np.float32), uvs, texture, up="y")


def gaussians() -> Gaussians:
    rng = np.random.default_rng(0)
    return Gaussians(
        means=(rng.uniform(-0.5, 0.5, (400, 3)) * [0.5, 0.5, 1.0]).astype(np.float32),
        quats=np.tile(np.array([[1, 0, 0, 0]], np.float32), (400, 1)),
        log_scales=np.full((400, 3), np.log(0.03), np.float32),
        opacities=np.full(400, 3, np.float32),
        sh_dc=rng.normal(size=(400, 3)).astype(np.float32),
        sh_rest=np.zeros((400, 0, 3), np.float32),
        up="y",
    )


def views_folder(folder: Path, with_image: bool = False) -> Path:
    """Four posed views of nothing in particular, from a generator that nobody knows."""
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    poses = orbit_camera_to_worlds((0, 90, 180, 270), (0,) * 4, 1.5)
    write_views(PosedViews(pictures, poses, 49.1), torch.ones(4, 32, 32), "", folder)
    if not with_image:
        (folder / INPUT).unlink()
    return folder


@pytest.fixture
def config_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Takes, Gives], Any]:
    """The configuration of the method of a toy generator, as ns-train gets it."""
    CALLS.clear()

    def make(takes: Takes, gives: Gives) -> Any:
        name = f"toy-{gives.lower()}"
        kinds = ("squares",) if takes == "views" else ()
        camera = InputView(0.2, 49.1, 1.5) if takes == "image" else None
        toy = Generator(name, takes, gives, "a toy", load=f"{__name__}:load", views=kinds, input=camera)
        monkeypatch.setitem(rows(), name, toy)
        method = method_of(name)
        assert method is not None and method.config.method_name == f"img3d-{name}"
        assert method.config.machine.device_type == Img3dMeshTrainerConfig().machine.device_type, "our defaults"
        config: Any = copy.deepcopy(method.config)
        config.vis = "tensorboard"
        parser = config.pipeline.datamanager.dataparser
        parser.cache_dir = tmp_path / "cache"
        if gives == "Mesh":
            parser.num_views, parser.view_size = 2, 40
        return config

    return make


def asset_of(config: Any, data: Path) -> Gaussians | Mesh:
    """What a run holds at its beginning."""
    config.pipeline.datamanager.data = data
    config.print_to_terminal()
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    if hasattr(pipeline, "generate"):
        pipeline.generate()
    asset = representation_of(pipeline.model).asset()
    assert isinstance(asset, Gaussians | Mesh)
    rendered = pipeline.model.eval().get_outputs_for_camera(pipeline.datamanager.train_dataset.cameras[0:1])
    assert rendered["accumulation"].max() > 0.5
    return asset


@pytest.mark.parametrize("gives", ["Gaussians", "Mesh"])
@pytest.mark.parametrize("takes", ["image", "text", "views"])
def test_its_run_holds_what_it_makes(
    config_for: Callable[[Takes, Gives], Any], tmp_path: Path, takes: Takes, gives: Gives
) -> None:
    config = config_for(takes, gives)
    data = tmp_path
    if takes == "text":
        config.pipeline.prompt = " a long box "
    else:
        data = write_object_image(tmp_path / "a.png") if takes == "image" else views_folder(tmp_path / "views")
    made = asset_of(config, data)
    assert type(made).__name__ == gives
    points = made.vertices if isinstance(made, Mesh) else made.means
    extent = np.ptp(points, axis=0)
    np.testing.assert_allclose(extent / extent[2], [1, 2, 1] if isinstance(made, Mesh) else [2, 1, 1], rtol=0.1)
    for given in CALLS:
        if takes == "text":
            assert given.strip() == "a long box"
        else:
            assert isinstance(given, Tensor if takes == "image" else PosedViews)
    if isinstance(made, Mesh):
        assert trained_steps(config, 0) == 0
        np.testing.assert_array_equal(made.texture, box().texture)
        asset_of(config, data)
        assert len(CALLS) == 1, "the second time it comes from the cache"


def said_by(config: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    config.pipeline.datamanager.data = data
    with pytest.raises(SystemExit):
        config.print_to_terminal()
    return " ".join(capsys.readouterr().out.split())


def test_what_is_missing_or_too_much_costs_one_line(
    config_for: Callable[[Takes, Gives], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, image, views = (config_for(takes, "Mesh") for takes in ("text", "image", "views"))
    rows()["toy-mesh"] = Generator("toy-mesh", "text", "Mesh", "a toy", load=f"{__name__}:load")
    assert "takes a text: say what to make with --pipeline.prompt" in said_by(text, tmp_path, capsys)
    rows()["toy-mesh"] = Generator("toy-mesh", "image", "Mesh", "a toy", load=f"{__name__}:load")
    image.pipeline.prompt = "a box"
    assert "--pipeline.prompt is for generators that take a text" in said_by(image, tmp_path, capsys)
    image.pipeline.prompt = ""
    assert "holds only views" in said_by(image, views_folder(tmp_path / "views"), capsys)
    (tmp_path / "views" / "transforms.json").write_text('{"frames": [{"file_path": "../a.png"}], "w": 4}')
    rows()["toy-mesh"] = Generator("toy-mesh", "views", "Mesh", "a toy", views=("squares",), load=f"{__name__}:load")
    assert "names may not lead out of its folder" in said_by(views, tmp_path / "views", capsys)
    (tmp_path / "views" / "transforms.json").write_text('{"frames": []}')
    assert "is not a folder of square views" in said_by(views, tmp_path / "views", capsys)


def test_damaged_meshes_are_made_anew(
    config_for: Callable[[Takes, Gives], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for("text", "Mesh")
    config.pipeline.prompt = "a box"
    asset_of(config, tmp_path)
    (kept,) = (tmp_path / "cache").glob("mesh-toy-mesh-*.npz")
    kept.write_bytes(kept.read_bytes()[:200])
    asset_of(config, tmp_path)
    assert len(CALLS) == 2 and "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("textured", [True, False])
def test_kept_meshes_are_exact(tmp_path: Path, textured: bool) -> None:
    mesh = box()
    if not textured:
        mesh.uvs = mesh.texture = mesh.up = None
    write_arrays(mesh, tmp_path / "mesh.npz")
    again = read_arrays(tmp_path / "mesh.npz")
    for name, value in vars(mesh).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        assert getattr(getattr(again, name), "dtype", None) == getattr(value, "dtype", None)
