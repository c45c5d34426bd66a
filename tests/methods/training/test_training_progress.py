# SPDX-License-Identifier: Apache-2.0
"""The lines that tell how a run is going."""

from __future__ import annotations

import numpy as np
import pytest

from img3d_methods.training import progress as training_progress
from img3d_methods.training.clock import TrainingClock, WorkPlan
from img3d_methods.training.progress import TrainingProgress


def test_nothing_is_said_where_nothing_is_trained() -> None:
    assert TrainingProgress().lines() == []


def test_time_used_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: now)
    progress = TrainingProgress()
    clock = TrainingClock(WorkPlan(np.ones(11)))
    progress.begin(clock)
    for step in range(6):
        progress.record(step)
        clock.record(step, 2.0)
        now += 2
    assert progress.lines() == ["**Time** 10 s used, 10 s left"]
