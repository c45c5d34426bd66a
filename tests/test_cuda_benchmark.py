# SPDX-License-Identifier: Apache-2.0
"""benchmarks/cuda: a stage that fails or hangs does not lose the others, and the table says what became of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "cuda"))

import cuda_benchmark  # pyright: ignore[reportMissingImports]
import fetch_wheels  # pyright: ignore[reportMissingImports]
from guarded_stages import Record, Stage, Stages  # pyright: ignore[reportMissingImports]


def shell(name: str, script: str, seconds: float = 20, **options: object) -> Stage:
    return Stage(name, ("bash", "-c", script), seconds, **options)


def test_what_fails_does_not_lose_the_rest(tmp_path: Path) -> None:
    seen: list[int] = []
    stages = Stages(tmp_path, 60, lambda records: seen.append(len(records)))
    stages.run(shell("good", 'echo \'{"rows": [], "size": "1x1"}\' > "$STAGE_RESULT"'))
    stages.run(shell("bad", "seq 100; echo oh no >&2; exit 3"))
    stages.run(shell("needy", "true", needs=("bad",)), shell("content", "true", needs=("good",)))
    stages.run(shell("unwanted", "true", skip="nobody asked"))
    stages.run(Stage("no such program", ("/no/such/program",), 5))
    stages.run(shell("half done", 'echo [1] > "$STAGE_RESULT"; exit 1'))
    stages.run(shell("garbled", 'echo { > "$STAGE_RESULT"'))
    records = {record.name: record for record in stages.records}
    states = {name: record.state for name, record in records.items()}
    assert states == {
        **{"good": "done", "bad": "failed", "needy": "skipped", "content": "done", "unwanted": "skipped"},
        **{"no such program": "failed", "half done": "failed", "garbled": "failed"},
    }
    assert records["bad"].last_lines[-2:] == ["100", "oh no"] and len(records["bad"].last_lines) == 15
    assert records["needy"].reason == "needs bad" and records["unwanted"].reason == "nobody asked"
    assert records["half done"].result == [1] and records["good"].result["size"] == "1x1"
    assert seen == [1, 2, 4, 5, 6, 7, 8], "results are written after every group"
    cuda_benchmark.write(stages.records, tmp_path)
    assert len(json.loads((tmp_path / "cuda.json").read_text())) == 8
    table = (tmp_path / "cuda.md").read_text()
    assert "| bad | failed |" in table and "oh no" in table


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    stages = Stages(tmp_path, 60, lambda records: None)
    began = time.monotonic()
    stages.run(shell("hangs", f"(sleep 60 & echo $! > {tmp_path}/child; wait)", 0.7), shell("beside", "sleep 0.1"))
    assert time.monotonic() - began < 15
    assert [record.state for record in stages.records] == ["timed out", "done"]
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_stage_begins_after_the_time_is_over(tmp_path: Path) -> None:
    stages = Stages(tmp_path, 0.5, lambda records: None)
    stages.run(shell("late", "true"))
    assert (stages.records[0].state, stages.records[0].reason) == ("skipped", "no time was left")


@pytest.mark.parametrize("has_device", [False, True])
def test_every_stage_has_a_name_of_its_own_a_limit_and_a_reason_if_skipped(tmp_path: Path, has_device: bool) -> None:
    (tmp_path / "numpy-1-py3-none-any.whl").touch()
    arguments = argparse.Namespace(dry_run=not has_device, wheels=tmp_path, data=tmp_path)
    stages = [stage for group in cuda_benchmark.Plan(arguments, tmp_path, has_device).groups() for stage in group]
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    for stage in stages:
        assert stage.skip or (stage.seconds > 0 and stage.command)
        assert set(stage.needs) <= set(names[: names.index(stage.name)])
    reasons = {stage.name: stage.skip for stage in stages}
    assert ("CUDA" in (reasons["still_life-splatfacto"] or "")) != has_device
    assert reasons["still_life-img3d-splat"] is None
    assert "no data" in (reasons["fox-img3d-splat"] or "")


def test_numbers_of_trainings_and_timings_are_in_the_table() -> None:
    numbers = {"method": "splatfacto", "seconds": 20.0, "steps": 1000, "ms per step": 20.0, "Gaussians": 5000}
    rows = [{"Gaussians": 10_000, "frame ms": 1.0, "step ms": 3.25}]
    table = cuda_benchmark.markdown(
        [
            Record("fox-splatfacto", "done", 31.0, {**numbers, "psnr": 25.5, "ssim": 0.9}),
            Record("chair-splatfacto", "timed out", 60.0, numbers, "after 60 s", ["last"]),
            Record("steps", "done", 5.0, {"size": "960x540", "rows": rows}),
        ]
    )
    assert "| fox-splatfacto | 20.0 | 1,000 | 20.00 | 5,000 | 25.50 | 0.9000 |" in table
    assert "| chair-splatfacto | 20.0 | 1,000 | 20.00 | 5,000 | – | – |" in table
    assert "| steps | 960x540 | 10,000 | 1.00 | 3.25 |" in table


def test_wheels_are_pinned_and_without_open3d() -> None:
    wanted = fetch_wheels.wanted()
    assert all(package.count("==") == 1 for package in wanted)
    assert {"gsplat==1.4.0", "gsplat==1.5.3"} <= set(wanted)
    assert not any("open3d" in package.lower() for package in wanted)
    assert os.environ.get("STAGE_RESULT") is None
