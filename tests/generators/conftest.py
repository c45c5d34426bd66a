# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the generators' tests: the reference networks' inputs and outputs, and the published state-dict layouts.

Both were computed or recorded outside this repository: `IMG3D_GOLDEN` and `IMG3D_CHECKPOINTS` say where they lie.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of golden numbers; skips where it is absent."""
    return _folder("IMG3D_GOLDEN", SHARED / "golden", "golden numbers")


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> Callable[[str], tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """A function from a fixture's name to its arrays and its description (the JSON sidecar)."""

    def load(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        with np.load(golden_dir / f"{name}.npz") as arrays:
            return dict(arrays), json.loads((golden_dir / f"{name}.json").read_text())

    return load


@pytest.fixture(scope="session")
def seeded_weights(golden_dir: Path) -> Any:
    """The module with the rule that gave the golden numbers their weights and pictures: `fill_module`, `image`."""
    spec = importlib.util.spec_from_file_location("seeded_weights", golden_dir / "seeded_weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.self_check()
    return module


@pytest.fixture(scope="session")
def published_keys() -> Callable[[str], dict[str, tuple[int, ...]]]:
    """A function from a name such as "lgm_big" to the published state dict's keys and shapes."""
    folder = _folder("IMG3D_CHECKPOINTS", SHARED / "checkpoints", "published state-dict layouts")

    def load(name: str) -> dict[str, tuple[int, ...]]:
        file = min(folder.glob(f"{name}_keys*.json"))  # "_tf5" where it is one library's version's
        layout = json.loads(file.read_text())
        return {key: tuple(shape) for key, shape in layout.items()}

    return load


@pytest.fixture(scope="session")
def layout_of() -> Callable[[torch.nn.Module], dict[str, tuple[int, ...]]]:
    """A function from a module to its state dict's keys and shapes."""
    return lambda module: {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _folder(variable: str, default: Path, what: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"no {what} at {folder} (set {variable})")
    return folder
