# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat` of a run reads its checkpoint: neither photos nor poses, which may be gone."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from export_commands import failing_export, run_export
from gaussian_scenes import small_model

from img3d_assets.gaussians import gaussians_of_parameters
from img3d_assets.splat_files import read_splats
from img3d_base.errors import InputError
from img3d_exporters.splats.run_splats import read_original_frame, read_run_splats
from img3d_methods.specs import img3d_nerf, img3d_splat
from img3d_methods.splat.model import Img3dSplatModel

TRANSFORM = [[0.0, 1.0, 0.0, 2.0], [-1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, -3.0]]


@pytest.fixture(scope="module")
def model() -> Img3dSplatModel:
    return small_model(num_points=50)


def write_run(folder: Path, state: dict[str, Any], method: Any = img3d_splat, **options: Any) -> Path:
    """A run whose data are gone."""
    config = deepcopy(method.config)
    config.experiment_name, config.timestamp, config.output_dir = "scene", "run", folder
    config.pipeline.datamanager.data = folder / "gone"
    vars(config.pipeline.model).update(options)
    path = config.get_base_dir() / "config.yml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.dump(config))
    config.get_checkpoint_dir().mkdir()
    torch.save(state, config.get_checkpoint_dir() / "step-000000099.ckpt")
    (path.parent / "dataparser_transforms.json").write_text(json.dumps({"transform": TRANSFORM, "scale": 0.5}))
    return path


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    pipeline = {f"_model.{name}": value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    return {"step": 99, "pipeline": pipeline, "lr": np.float64(0.1)}  # as Nerfstudio's own schedulers leave it


@pytest.fixture
def run(model: Img3dSplatModel, tmp_path: Path) -> Path:
    return write_run(tmp_path, state_of(model))


def test_the_gaussians_are_the_models(run: Path, model: Img3dSplatModel) -> None:
    expected = gaussians_of_parameters(dict(model.gauss_params.items()), model.config.sh_degree)
    for path in (run, run.parent):
        splats = read_run_splats(path)
        for name in ("means", "quats", "log_scales", "opacities", "sh_dc", "sh_rest"):
            assert np.array_equal(getattr(splats, name), getattr(expected, name))
        assert not splats.antialiased


def test_how_they_are_drawn_is_kept(model: Img3dSplatModel, tmp_path: Path) -> None:
    run = write_run(tmp_path, state_of(model), rasterize_mode="antialiased", sh_degree=0)
    splats = read_run_splats(run)
    assert splats.antialiased and splats.sh_degree == 0


def test_the_command_needs_no_data(
    run: Path,
    model: Img3dSplatModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = {"monkeypatch": monkeypatch, "capsys": capsys}
    run_export("splat", "--load-config", run, "--output", tmp_path / "a.ply", **both)
    run_export("splat", "--load-config", run, "--output", tmp_path / "b.ply", "--original-frame", **both)
    normalised, original = (read_splats(tmp_path / name)[0].means.astype(float) for name in ("a.ply", "b.ply"))
    assert np.allclose(normalised, model.means.detach(), atol=1e-6)
    transform = np.array(TRANSFORM)
    assert np.allclose(0.5 * (original @ transform[:, :3].T + transform[:, 3]), normalised, atol=1e-5)


def test_a_model_without_gaussians_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, {"pipeline": {"_model.field.table": torch.zeros(3)}}, img3d_nerf)
    line = failing_export(
        "splat", "--load-config", run, "--output", tmp_path / "a.ply", monkeypatch=monkeypatch, capsys=capsys
    )
    assert "Img3dNerfModel" in line and "mesh, pointcloud and video" in line


def test_what_cannot_be_read_is_one_line(run: Path) -> None:
    (checkpoint,) = run.parent.rglob("*.ckpt")

    def refusal() -> str:
        with pytest.raises(InputError) as error:
            read_run_splats(run)
        assert "\n" not in str(error.value)
        return str(error.value)

    for content in ({"step": 99}, {"pipeline": {"_model.gauss_params.means": torch.zeros(3, 3)}}, [1], 5):
        torch.save(content, checkpoint)
        assert "checkpoint is damaged" in refusal()
    checkpoint.write_bytes(b"spilt coffee")
    assert "checkpoint is damaged" in refusal()
    checkpoint.unlink()
    assert "no checkpoints" in refusal()
    for text in ("[unclosed", "a: 1", "", "!!python/object:no.such.Class {}"):
        run.write_text(text)
        assert "config.yml" in refusal()
    run.unlink()
    assert "no run at" in refusal()


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"transform": [[1]], "scale": 1}', '{"transform": 3, "scale": 0}'])
def test_a_damaged_frame_is_one_line(run: Path, text: str) -> None:
    assert np.array_equal(read_original_frame(run)[0], TRANSFORM)
    run.with_name("dataparser_transforms.json").write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        read_original_frame(run)
    run.with_name("dataparser_transforms.json").unlink()
    with pytest.raises(InputError, match="--original-frame needs"):
        read_original_frame(run)
