# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the generators' tests: the published state-dict layouts.

They were recorded outside this repository: `IMG3D_CHECKPOINTS` says where they lie. Golden numbers: tests/golden.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def published_keys() -> Callable[[str], dict[str, tuple[int, ...]]]:
    """A function from a name such as "lgm_big" to the published state dict's keys and shapes."""
    default = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"
    folder = Path(os.environ.get("IMG3D_CHECKPOINTS", default))
    if not folder.is_dir():
        pytest.skip(f"no published state-dict layouts at {folder} (set IMG3D_CHECKPOINTS)")

    def load(name: str) -> dict[str, tuple[int, ...]]:
        file = min(folder.glob(f"{name}_keys*.json"))  # "_tf5" where it is one library's version's
        layout = json.loads(file.read_text())
        return {key: tuple(shape) for key, shape in layout.items()}

    return load


@pytest.fixture(scope="session")
def layout_of() -> Callable[[torch.nn.Module], dict[str, tuple[int, ...]]]:
    """A function from a module to its state dict's keys and shapes."""
    return lambda module: {key: tuple(value.shape) for key, value in module.state_dict().items()}
