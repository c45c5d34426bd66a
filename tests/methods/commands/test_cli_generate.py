# SPDX-License-Identifier: Apache-2.0
"""One image on the real command lines: a generated object is a run like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from command_lines import CommandLine, Result
from object_image import write_object_image

from img3d_exporters.load_run import load_run
from img3d_generators.inputs import prepared_input
from img3d_generators.registry import row
from img3d_generators.rows import SMALL_GENERATOR
from img3d_methods.generated.generated_views import read_views

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    cli = CommandLine(tmp_path_factory.mktemp("generated"))
    cli.env["IMG3D_WEIGHTS"] = str(cli.folder / "no weights")
    write_object_image(cli.folder / "cup.png")
    return cli


def train(cli: CommandLine, method: str, steps: int) -> tuple[Result, Path]:
    options = (
        "--output-dir",
        cli.folder / "outputs",
        "--timestamp",
        steps,
        "--vis",
        "tensorboard",
        "--max-num-iterations",
        steps,
    )
    result = cli.succeed("ns-train", method, "--data", cli.folder / "cup.png", *options)
    assert "Sky:" not in result.output, "a plain background is no sky"
    return result, cli.folder / "outputs" / "cup" / method / str(steps) / "config.yml"


@pytest.fixture(scope="module")
def unrefined(here: CommandLine) -> Path:
    result, config = train(here, "img3d-object", 0)
    assert (
        SMALL_GENERATOR in result.output and "7 generated views " in result.output and "trained on" not in result.output
    )
    assert "not with the real object" in " ".join(result.output.replace("│", " ").split())
    return config


def test_without_steps_the_checkpoint_has_the_object_as_the_network_gave_it(here: CommandLine, unrefined: Path) -> None:
    generated = row(SMALL_GENERATOR).loaded()(prepared_input(row(SMALL_GENERATOR), here.folder / "cup.png"), 0)
    (checkpoint,) = (unrefined.parent / "nerfstudio_models").iterdir()
    means = torch.load(checkpoint, weights_only=True)["pipeline"]["_model.gauss_params.means"]
    x, y, z = torch.from_numpy(generated.means).unbind(dim=1)
    torch.testing.assert_close(1.5 * means, torch.stack([z, x, y], dim=1), atol=1e-4, rtol=0)  # 8 bits in the cache


def test_it_is_exported_like_any_run(here: CommandLine, unrefined: Path) -> None:
    here.succeed("ns-export", "gaussian-splat", "--load-config", unrefined, "--output-dir", "exports")
    vertices = plyfile.PlyData.read(here.folder / "exports" / "splat.ply")["vertex"]
    assert len(vertices) > 500
    extent = np.ptp(np.stack([vertices[name] for name in "xyz"]), axis=1)
    assert (extent > 0.2).all() and (extent < 2).all()


def error_of_front(config: Path) -> float:
    """Mean squared difference between the image and what a run's model shows from its camera."""
    run = load_run(config)
    photo = run.model.kwargs["metadata"]["views_folder"]
    views, _, _ = read_views(Path(photo))
    with torch.no_grad():
        rgb = run.model.get_outputs_for_camera(run.cameras[0:1])["rgb"]
    return float((rgb - views.images[0].permute(1, 2, 0)).square().mean())


def test_refinement_brings_it_nearer_to_the_image(here: CommandLine, unrefined: Path) -> None:
    result, refined = train(here, "img3d-object", 100)
    assert "from the cache" in result.output
    assert error_of_front(refined) < 0.7 * error_of_front(unrefined)


@pytest.mark.long
def test_its_views_train_a_plain_splat_model(here: CommandLine) -> None:
    result, config = train(here, "img3d-object-views", 60)
    assert config.is_file() and "Training Finished" in result.output
