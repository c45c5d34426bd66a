# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-splat` and `ns-eval`, as typed: training, going on after Ctrl-C and after the end, logs."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command_lines import CommandLine, TrainedRun

from img3d_methods.training.curve import CURVE_FILE, read_curve

pytestmark = pytest.mark.slow


def table_rows(output: str) -> list[tuple[int, int, float]]:
    """Step, Gaussians and training PSNR of each row of the progress table."""
    rows = re.findall(r"^(\d+) \([\d.]+%\) .*?  ([\d,]+) +([\d.]+) *$", output, re.MULTILINE)
    return [(int(step), int(count.replace(",", "")), float(psnr)) for step, count, psnr in rows]


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def gaussians(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    prefix = "_model.gauss_params."
    return {key.removeprefix(prefix): value for key, value in checkpoint["pipeline"].items() if key.startswith(prefix)}


def held_out_psnr(output: str) -> float:
    found = re.search(r"2 held-out photos +│ +PSNR ([\d.]+) dB", output)
    assert found is not None, output[-2000:]
    return float(found[1])


def test_training_learns_the_scene_and_says_how_it_goes(trained_run: TrainedRun) -> None:
    assert "Train Iter (time)" in trained_run.output and "ETA (time)" in trained_run.output
    rows = table_rows(trained_run.output)
    assert [row[0] for row in rows] == list(range(0, 1200, 50))
    assert rows[0][1] == 2000 and 2000 < rows[-1][1] <= 4000
    assert rows[-1][2] > 22
    assert held_out_psnr(trained_run.output) > 16
    assert trained_run.output.count("LPIPS is not computed: its weights are not on disk") == 1


def test_checkpoints_load_safely_and_only_the_latest_is_kept(trained_run: TrainedRun) -> None:
    assert list(trained_run.checkpoint.parent.iterdir()) == [trained_run.checkpoint]
    state = load(trained_run.checkpoint)
    assert state["step"] == 1199
    assert not any("lpips" in key for key in state["pipeline"])
    means = gaussians(state)["means"]
    assert state["optimizers"]["means"]["state"][0]["exp_avg"].shape == means.shape


def test_tensorboard_gets_the_curves(trained_run: TrainedRun) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained_run.folder))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"Train Loss", "Gaussians", "Train PSNR", "learning_rate/means", "Eval Images Metrics/psnr"} <= set(scalars)
    rates = [event.value for event in events.Scalars("learning_rate/means")]
    assert rates[-1] == pytest.approx(3.2e-6, rel=0.02)  # all of the schedule fits into 1200 steps


def test_how_it_went_is_kept_beside_the_run(trained_run: TrainedRun) -> None:
    curve = read_curve(trained_run.folder / CURVE_FILE)
    said = [(point.step, point.gaussians, pytest.approx(point.psnr, abs=0.001)) for point in curve]
    assert said == table_rows(trained_run.output)
    seconds = [point.seconds for point in curve]
    assert seconds == sorted(seconds) and 0 < seconds[-1] < 240
    assert curve[-1].loss < curve[0].loss / 2


def test_ns_eval_agrees_with_training(trained_run: TrainedRun, tmp_path: Path) -> None:
    output = trained_run.cli.succeed(
        "ns-eval", "--load-config", trained_run.config, "--output-path", tmp_path / "eval.json"
    ).output
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr"] == pytest.approx(held_out_psnr(trained_run.output), abs=0.02)
    assert "lpips" not in results and "LPIPS is not computed: its weights are not on disk" in output


@pytest.mark.long
def test_a_finished_run_is_trained_further_with_wandb_offline(trained_run: TrainedRun) -> None:
    cli = trained_run.cli
    output = cli.succeed(
        *cli.train(trained_run.data, "further", "--max-num-iterations", 1300, vis="wandb"),
        *("--load-dir", trained_run.checkpoint.parent),
    ).output
    before, after = table_rows(trained_run.output)[-1], table_rows(output)
    assert [row[0] for row in after] == [1200, 1250]
    assert after[0][1] == before[1]  # as many Gaussians
    assert after[0][2] > before[2] - 4  # another photo, but nothing was forgotten
    old, new = load(trained_run.checkpoint), load(cli.run_folder("further") / "nerfstudio_models/step-000001299.ckpt")
    for name, value in gaussians(old).items():
        assert not torch.equal(value, gaussians(new)[name]), f"{name} was not trained"
    assert int(new["optimizers"]["means"]["state"][0]["step"]) == 1300
    assert list((cli.run_folder("further") / "wandb").glob("offline-run-*"))
    curve, older = (read_curve(cli.run_folder(name) / CURVE_FILE) for name in ("further", "first"))
    assert curve[: len(older)] == older
    assert [point.step for point in curve[len(older) :]] == [1200, 1250]
    assert curve[-1].seconds > older[-1].seconds


def test_a_run_that_is_complete_says_so(trained_run: TrainedRun) -> None:
    cli = trained_run.cli
    result = cli.run(
        *cli.train(trained_run.data, "again", "--max-num-iterations", 1200, "--load-dir", trained_run.checkpoint.parent)
    )
    assert result.code == 1
    assert "already has 1200 of 1200 steps" in result.last_line
    assert "Traceback" not in result.output
    assert not cli.run_folder("again").exists()


def test_a_run_that_cannot_be_continued_stays_as_it_was(trained_run: TrainedRun) -> None:
    cli, before = trained_run.cli, trained_run.config.read_bytes()
    arguments = cli.train(trained_run.data, trained_run.config.parent.name, "--load-dir", trained_run.checkpoint.parent)
    result = cli.run(*arguments, "--max-num-iterations", 1300, "--pipeline.model.sh-degree", 1)
    assert result.code == 1 and "Cannot continue from" in result.last_line
    assert trained_run.config.read_bytes() == before


def test_a_run_is_not_replaced_by_another_of_its_name(trained_run: TrainedRun) -> None:
    cli, before = trained_run.cli, trained_run.config.read_bytes()
    result = cli.run(*cli.train(trained_run.data, trained_run.config.parent.name, "--max-num-iterations", 10))
    assert result.code == 1
    assert "already holds a trained run" in result.last_line
    assert trained_run.config.read_bytes() == before and trained_run.checkpoint.is_file()


def test_an_ended_run_is_saved_and_goes_on_and_ctrl_c_leaves_the_viewer(cli: CommandLine, tiny_scene: Path) -> None:
    arguments = cli.train(tiny_scene, "stopped", "--max-num-iterations", 400, vis="viewer")
    running = cli.start(*arguments, "--viewer.quit-on-train-completion", "True")
    running.wait_for(r"^100 \(")
    running.interrupt(signal.SIGTERM)
    result = running.finish()
    assert result.code == 143
    assert "Traceback" not in result.output
    said = re.search(r"Interrupted: saved after step (\d+) of 400\. .*--load-dir (\S+)", result.last_line)
    assert said is not None, result.output[-1000:]
    step, folder = int(said[1]), cli.folder / said[2]
    assert [path.name for path in folder.iterdir()] == [f"step-{step:09d}.ckpt"]

    # The second half, with a viewer that stays until Ctrl-C once the run is complete.
    running = cli.start(
        *cli.train(tiny_scene, "resumed", "--max-num-iterations", 400, "--load-dir", folder, vis="viewer")
    )
    running.wait_for("Use ctrl\\+c to quit")
    running.interrupt()
    result = running.finish()
    assert result.code == 0
    assert "Traceback" not in result.output
    assert f"Continuing after step {step}" in result.output
    assert table_rows(result.output)[0][0] == -(-(step + 1) // 50) * 50
    assert (cli.run_folder("resumed") / "nerfstudio_models" / "step-000000399.ckpt").exists()
    assert not cli.network_log.exists()
