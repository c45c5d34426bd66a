# SPDX-License-Identifier: Apache-2.0
"""Services that need an account are asked about it before anything else is done."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from img3d_methods.splat.trainer import Img3dSplatTrainerConfig
from img3d_methods.training.event_writers import missing_account, trouble_of_service


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is known of the user's keys; nobody is at a terminal."""
    keys = SimpleNamespace(wandb=None, comet=None)
    wandb: Any = SimpleNamespace(api=keys)
    monkeypatch.setattr(keys, "api_key", None, raising=False)
    comet: Any = SimpleNamespace(get_config=lambda name: keys.comet)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "comet_ml", comet)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return keys


def message(vis: Any) -> str | None:
    text = missing_account(Img3dSplatTrainerConfig(vis=vis))
    assert text is None or "\n" not in text
    return text


@pytest.mark.parametrize("vis", ["viewer", "tensorboard", "viewer+tensorboard"])
def test_most_need_none(services: SimpleNamespace, vis: str) -> None:
    assert message(vis) is None


@pytest.mark.parametrize("vis", ["wandb", "viewer+wandb"])
def test_weights_and_biases(services: SimpleNamespace, vis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = message(vis)
    assert text is not None and "`wandb login`" in text and "WANDB_MODE=offline" in text
    services.api_key = "1234"
    assert message(vis) is None
    services.api_key = None
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert message(vis) is None


@pytest.mark.parametrize("vis", ["comet", "viewer+comet"])
def test_comet(services: SimpleNamespace, vis: str) -> None:
    text = message(vis)
    assert text is not None and "COMET_API_KEY" in text
    services.comet = "1234"
    assert message(vis) is None


def test_at_a_terminal_weights_and_biases_asks_itself(
    services: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert message("wandb") is None


def test_what_a_service_raises_later_is_one_line() -> None:
    error = type("CommError", (Exception,), {"__module__": "wandb.errors"})
    assert trouble_of_service(error("no network\nat all")) == "--vis wandb: no network"
    assert trouble_of_service(error()) == "--vis wandb: CommError"
    assert trouble_of_service(type("E", (Exception,), {"__module__": "comet_ml.x"})("no")) == "--vis comet: no"
    assert trouble_of_service(ValueError("a bug")) is None
