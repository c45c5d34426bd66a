# SPDX-License-Identifier: Apache-2.0
"""The services that --vis sends curves to: whether there is an account, asked before any photo is read."""

from __future__ import annotations

import os
import sys

from nerfstudio.configs.experiment_config import ExperimentConfig

WITHOUT_ACCOUNT = {"offline", "dryrun", "disabled"}
"""Modes of Weights & Biases that keep everything on this machine."""


def missing_account(config: ExperimentConfig) -> str | None:
    """What to do about a key that --vis needs and nobody has given; None if there is one, or none is needed.

    At a terminal Weights & Biases asks for its key itself.
    """
    if config.is_wandb_enabled() and os.environ.get("WANDB_MODE") not in WITHOUT_ACCOUNT and not sys.stdin.isatty():
        import wandb  # slow, and only needed here

        if not wandb.api.api_key:
            return (
                "--vis wandb needs a key of Weights & Biases: run `wandb login` once, set WANDB_API_KEY, or "
                "WANDB_MODE=offline to keep the curves on this machine; --vis tensorboard needs no account."
            )
    if config.is_comet_enabled():
        import comet_ml

        if not comet_ml.get_config("comet.api_key"):
            return "--vis comet needs a key of Comet: set COMET_API_KEY; --vis tensorboard needs no account."
    return None


def trouble_of_service(error: Exception) -> str | None:
    """What to say about an error that one of these services raised, one line; None if it is none of theirs."""
    module = type(error).__module__.partition(".")[0]
    if module not in ("wandb", "comet_ml"):
        return None
    text = str(error).strip()
    return (
        f"--vis {'wandb' if module == 'wandb' else 'comet'}: {text.splitlines()[0] if text else type(error).__name__}"
    )
