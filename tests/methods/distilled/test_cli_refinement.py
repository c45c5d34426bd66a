# SPDX-License-Identifier: Apache-2.0
"""A guidance takes part in refining whatever a generator made, on the real command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import toy_generators
import yaml
from command_lines import CommandLine
from object_image import write_object_image
from shaped_runs import psnr_of_unseen_views, write_known_mesh

from img3d_generators.pairing import VIEW_OF_TEXT, input_of
from img3d_generators.registry import InputView, row, rows
from img3d_methods.training.checkpoint_files import read_checkpoint

pytestmark = pytest.mark.slow
SMALL = ("--num-views", 5, "--view-size", 48)
FEW_SAMPLES = ("--pipeline.model.num-samples", 32, "--pipeline.datamanager.train-num-rays-per-batch", 128)
FIELD, GAUSSIANS = (f"img3d-{name}" for name in toy_generators.NAMES)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Where the toy generators are installed, and an image is cup.png."""
    for one in toy_generators.ROWS:
        monkeypatch.setitem(rows(), one.name, one)  # for loading the run here
    cli = CommandLine(tmp_path)
    cli.env["OMP_NUM_THREADS"] = "1"  # beside other tests torch's threads would wait for each other
    cli.env["PYTHONPATH"] = os.pathsep.join([*toy_generators.install(tmp_path / "site"), cli.env["PYTHONPATH"]])
    write_object_image(tmp_path / "cup.png")
    return cli


def before_and_after(run: Path, mesh: Path, view: InputView) -> tuple[list[float], list[float]]:
    """How well four views of a run's asset show a mesh, in dB: as it was made, and in the last checkpoint."""
    config = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    if hasattr(pipeline, "generate"):
        pipeline.generate()
    pipeline.eval()
    before = psnr_of_unseen_views(pipeline.model, mesh, view)
    (checkpoint,) = (run / "nerfstudio_models").glob("*.ckpt")
    pipeline.load_pipeline(read_checkpoint(checkpoint)["pipeline"], 0)
    return before, psnr_of_unseen_views(pipeline.model, mesh, view)


@pytest.mark.parametrize(
    ("method", "generator", "options"),
    [
        ("img3d-small", "img3d-small", ("--max-num-iterations", 200)),
        pytest.param(
            *(FIELD, "toy-field", (*FEW_SAMPLES, "--max-num-iterations", 100, "img3d-generated-field", *SMALL)),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(GAUSSIANS, "toy-gaussians", ("--max-num-iterations", 200, "img3d-generated-gaussians", *SMALL)),
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_asset_becomes_what_the_guidance_knows(
    cli: CommandLine, method: str, generator: str, options: tuple[object, ...]
) -> None:
    mesh = write_known_mesh(cli.folder / "known.ply")
    cli.succeed(
        *("ns-train", method, "--data", "cup.png", "--timestamp", "now", "--vis", "tensorboard"),
        *("--pipeline.guidance", "known-object", "--pipeline.guidance-mesh", "known.ply"),
        *("--pipeline.guidance-weight", 0.1, "--pipeline.guidance-size", 32, *options),
    )
    view = VIEW_OF_TEXT if row(generator).takes == "views" else input_of(row(generator))
    before, after = before_and_after(cli.folder / "outputs" / "cup" / method / "now", mesh, view)
    assert all(last > first + 1.5 for first, last in zip(before, after, strict=True)), (before, after)
