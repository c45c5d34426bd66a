# SPDX-License-Identifier: Apache-2.0
"""tools/train_tiny.py: what it asks of the network, and that it goes on from where it stopped."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, plucker_rays
from img3d_generators.tiny import NUM_LAYERS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import train_tiny

COLUMNS = 64


def columns(depths: list[float]) -> torch.Tensor:
    """Positions of all columns' Gaussians, layer by layer; each layer leans back, by 0.1 over the picture's height."""
    pose = torch.eye(4)[None, :3]
    pose[0, 2, 3] = LGM_RADIUS
    rays = plucker_rays(pose, LGM_FOV, COLUMNS)[0, 3:]
    rays = rays / -rays[2:]
    lean = -0.1 * torch.linspace(-0.5, 0.5, COLUMNS)[:, None].expand(COLUMNS, COLUMNS)
    layers = [torch.stack([*(rays[:2] * (LGM_RADIUS - z - lean)), z + lean], dim=-1) for z in depths]
    return torch.stack(layers).reshape(-1, 3)


def test_depth_is_right_where_the_outer_layers_are_on_the_surface() -> None:
    """The object is two planes; the layers between the outer ones may be anywhere."""
    surface = columns([0.3, -0.2])
    mask = torch.ones(NUM_LAYERS * COLUMNS**2, dtype=torch.bool)
    between = [0.0] * (NUM_LAYERS - 2)
    pooling = 2 * 0.1 / COLUMNS  # each pixel sees the surface of its neighbours, too
    exact = train_tiny.depth_error(columns([0.3, *between, -0.2]), mask, surface).item()
    assert exact <= 1.1 * pooling
    off = train_tiny.depth_error(columns([0.25, *between, -0.1]), mask, surface).item()
    assert off == pytest.approx(0.05 + 0.1, abs=1.1 * pooling)


def test_the_learning_rate_rises_briefly_and_falls_to_0() -> None:
    rates = [train_tiny.learning_rate(step, 1000) for step in range(1001)]
    peak = rates.index(max(rates))
    assert 0 < peak <= train_tiny.WARMUP
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == 0


@pytest.mark.slow  # a real training, if of three steps
def test_training_goes_on_from_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OBJECTS_PER_STEP", "NUM_VALIDATION", "STEPS_PER_REPORT"):
        monkeypatch.setattr(train_tiny, name, 1)

    def train(steps: int) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["train_tiny.py", "--folder", str(tmp_path), "--steps", str(steps)])
        train_tiny.main()
        with (tmp_path / "curve.csv").open() as file:
            return [row["step"] for row in csv.DictReader(file)]

    try:
        assert train(2) == ["1", "2"]
        assert train(3) == ["1", "2", "3"]
    finally:
        torch.set_flush_denormal(False)  # the tool sets it, and it would hold for all tests after this one
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint.pt", "curve.csv"]
