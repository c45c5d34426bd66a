# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-remote`: a run that holds what a service made. The services are fakes on this machine."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_lines import CommandLine
from fake_service import KEY, SIGNATURE, FakeService
from fakes import FakeMeshy, FakeTripo
from PIL import Image
from shops import FAKES, PATHS

from img3d_assets.gaussian_frames import in_original_frame
from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_assets.splat_files import write_splats
from img3d_generators.services import client
from img3d_generators.services.registry import services
from img3d_methods.generated.remote import RECORD
from img3d_methods.mesh.dataparser import RADIUS
from img3d_methods.representation import representation_of, trained_steps
from img3d_methods.specs import img3d_remote


def address(name: str, fake: FakeService) -> tuple[str, str]:
    """The environment variable of a service's address, and the fake's."""
    return f"IMG3D_{name.upper()}_URL", fake.url + PATHS.get(name, "")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "chair.png"
    path.parent.mkdir()
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(path)
    return path


@pytest.fixture
def config_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """The configuration of a run, as ns-train gets it."""
    patient = client.Pace
    monkeypatch.setattr(client, "Pace", lambda: patient(sleep=lambda seconds: None))

    def make(service: str, data: Path, **options: Any) -> Any:
        config: Any = copy.deepcopy(img3d_remote.config)
        config.output_dir, config.vis, config.timestamp = tmp_path / "outputs", "tensorboard", "now"
        config.pipeline.datamanager.data = data
        config.pipeline.service, config.pipeline.yes = service, True
        for name, value in options.items():
            setattr(config.pipeline, name, value)
        parser = config.pipeline.datamanager.dataparser
        parser.num_views, parser.view_size = 2, 40
        return config

    yield make


@pytest.mark.parametrize("name", FAKES)
def test_a_run_holds_the_mesh_that_a_service_made(
    config_for: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    picture: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    with FAKES[name]().serving() as fake:
        monkeypatch.setenv(*address(name, fake))
        monkeypatch.setenv(services()[name].keys[0], KEY)
        config = config_for(name, picture)
        config.set_experiment_name()
        config.print_to_terminal()
        config.save_config()
        assert fake.jobs == 1
    trainer = config.setup(local_rank=0, world_size=1)  # the service is gone: nothing more is asked
    trainer.setup()
    made = representation_of(trainer.pipeline.model).asset()
    assert isinstance(made, Mesh) and trained_steps(config, 0) == 0
    extent = np.ptp(made.vertices, axis=0)
    np.testing.assert_allclose(extent / extent[0], [1, 2, 1], rtol=1e-4)
    made.save(tmp_path / "chair.glb")
    assert len(read_mesh(tmp_path / "chair.glb")[0].faces) == 12

    folder = config.get_base_dir()
    record = json.loads((folder / RECORD).read_text())
    row = services()[name]
    assert record["service"] == name and record["terms"] == row.terms and record["answer"]
    cost = {"meshy": 30, "tripo": 30}.get(name)
    assert record["cost_in_credits"] == cost and record["list_price"] == row.price
    again = yaml.load((folder / "config.yml").read_text(), Loader=yaml.Loader)
    assert again.pipeline.yes is False and again.pipeline.service == name
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert folder / RECORD in written and len(written) > 5
    for path in written:
        content = path.read_bytes()
        assert KEY.encode() not in content and SIGNATURE.encode() not in content, path
    if name == "rodin":
        assert "key-of-the-job" not in (folder / RECORD).read_text()
    printed = "".join(capfd.readouterr())
    assert KEY not in printed and SIGNATURE not in printed and "key-of-the-job" not in printed


def test_a_run_holds_the_gaussians_that_tripo_made(
    config_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture: Path
) -> None:
    rng = np.random.default_rng(0)
    count, middle = 300, np.array([3.0, -1.0, 2.0])
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    made = Gaussians(
        means=(middle + 4 * directions).astype(np.float32),
        quats=rng.normal(size=(count, 4)).astype(np.float32),
        log_scales=np.full((count, 3), np.log(0.15), np.float32),
        opacities=np.full(count, 3, np.float32),
        sh_dc=(directions * 1.5).astype(np.float32),
        sh_rest=(0.2 * rng.normal(size=(count, 3, 3))).astype(np.float32),
    )
    write_splats(made, tmp_path / "made.ply", None)
    with FakeTripo(output="splat_url").serving() as fake:
        fake.files = {"/files/asset.ply": (tmp_path / "made.ply").read_bytes()}
        monkeypatch.setenv(*address("tripo", fake))
        monkeypatch.setenv("TRIPO_API_KEY", KEY)
        config = config_for("tripo", picture, gives="Gaussians")
        config.set_experiment_name()
        config.print_to_terminal()
        config.save_config()
    config = yaml.load((config.get_base_dir() / "config.yml").read_text(), Loader=yaml.Loader)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    assert json.loads((config.get_base_dir() / RECORD).read_text())["cost_in_credits"] == 30
    assert trained_steps(config, 0) == 0 and list(trainer.checkpoint_dir.glob("*.ckpt"))

    held, dataset = representation_of(trainer.pipeline.model).asset(), trainer.pipeline.datamanager.train_dataset
    assert isinstance(held, Gaussians) and held.sh_degree == 1
    np.testing.assert_allclose(np.abs(held.means).max(axis=0), RADIUS, rtol=0.1)
    outputs = dataset._dataparser_outputs
    back = in_original_frame(held, outputs.dataparser_transform.numpy(), outputs.dataparser_scale)
    for name in ("means", "log_scales", "opacities", "sh_dc", "sh_rest"):
        np.testing.assert_allclose(getattr(back, name), getattr(made, name), atol=2e-4, err_msg=name)
    given = dataset[1]["image"]
    shown = trainer.pipeline.model.eval().get_outputs_for_camera(dataset.cameras[1:2])["rgb"]
    torch.testing.assert_close(shown.cpu(), given, atol=0.02, rtol=0)
    assert 0.3 < (given < 0.97).any(dim=-1).float().mean() < 0.9, "the object nearly fills its views"


def test_texts_name_their_runs(config_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeMeshy().serving() as fake:
        monkeypatch.setenv(*address("meshy", fake))
        monkeypatch.setenv("MESHY_API_KEY", KEY)
        config = config_for("meshy", Path(), prompt="a red chair")
        config.set_experiment_name()
        config.print_to_terminal()
    assert config.experiment_name == "a-red-chair" and fake.jobs == 2
    assert config.pipeline.datamanager.dataparser.file.parent == tmp_path / ".img3d"


def test_a_folder_is_several_pictures_unless_one_is_chosen(
    config_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, picture: Path
) -> None:
    Image.fromarray(np.full((80, 80, 3), 20, np.uint8)).save(picture.with_name("other.png"))
    with FakeMeshy().serving() as fake:
        monkeypatch.setenv(*address("meshy", fake))
        monkeypatch.setenv("MESHY_API_KEY", KEY)
        config_for("meshy", picture.parent).print_to_terminal()
        assert len(fake.sent("POST", "/openapi/v1/multi-image-to-3d")[0].json["image_urls"]) == 2
        config = config_for("meshy", picture.parent)
        config.pipeline.datamanager.dataparser.index = 1
        config.print_to_terminal()
        assert len(fake.sent("POST", "/openapi/v1/image-to-3d")) == 1


@pytest.mark.parametrize(
    ("service", "options", "message"),
    [
        ("", {}, "Which service; there are: meshy, csm, tripo, stability, fal, rodin"),
        ("luma", {}, "There is no service 'luma'"),
        ("meshy", {}, "Meshy needs a key: set the environment variable MESHY_API_KEY"),
        ("meshy", {"settings": ("x=1",)}, "Meshy has no setting 'x=1'"),
        ("stability", {"prompt": "a chair"}, "Stability AI takes a picture, not a text"),
    ],
)
def test_what_is_wrong_costs_one_line(
    config_for: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    picture: Path,
    service: str,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.delenv("MESHY_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SystemExit):
        config_for(service, picture, **options).print_to_terminal()
    assert f"Error: img3d-remote: {message}" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "outputs").exists()


def test_a_run_whose_mesh_is_gone_says_so(
    config_for: Callable[..., Any], capsys: pytest.CaptureFixture[str], picture: Path
) -> None:
    config = config_for("meshy", picture)
    config.pipeline.datamanager.dataparser.file = picture.with_name("gone.glb")
    with pytest.raises(SystemExit):
        config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    assert "the mesh that the service made is not at" in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
@pytest.mark.parametrize("name", FAKES)
def test_from_the_command_to_an_exported_glb(tmp_path: Path, picture: Path, name: str) -> None:
    cli = CommandLine(tmp_path)
    with FAKES[name]().serving() as fake:
        cli.env |= dict([address(name, fake)]) | {services()[name].keys[0]: KEY, "NO_PROXY": "127.0.0.1"}
        options = ("--output-dir", "outputs", "--timestamp", "now", "--vis", "tensorboard")
        train = ("ns-train", "img3d-remote", "--data", picture, "--pipeline.service", name, *options)
        small = ("img3d-remote", "--num-views", "2", "--view-size", "64")
        refused = cli.run(*train, *small)
        assert refused.code == 1 and "nothing was sent: there is no terminal" in refused.output and fake.jobs == 0
        trained = cli.succeed(*train, "--pipeline.yes", "True", *small)
        assert fake.jobs == 1 and f"To {services()[name].title} (127.0.0.1:" in trained.output
    config = tmp_path / "outputs" / "chair" / "img3d-remote" / "now" / "config.yml"
    exported = cli.succeed("img3d-export", "mesh", "--load-config", config, "--output", "chair.glb")
    assert len(read_mesh(tmp_path / "chair.glb")[0].faces) == 12
    for output in (refused.output, trained.output, exported.output):
        assert KEY not in output and SIGNATURE not in output
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
