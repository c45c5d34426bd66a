# SPDX-License-Identifier: Apache-2.0
"""Checks for an account at the services that --vis sends curves to, before any photo is read."""

from __future__ import annotations

import os
import sys

from nerfstudio.configs.experiment_config import ExperimentConfig

WITHOUT_ACCOUNT = {"offline", "dryrun", "disabled"}
"""Modes of Weights & Biases that send nothing."""


def missing_account(config: ExperimentConfig) -> str | None:
    """An error message if --vis needs a key that is not set; None otherwise.

    On a terminal, Weights & Biases asks for its key itself.
    """
    if config.is_wandb_enabled() and os.environ.get("WANDB_MODE") not in WITHOUT_ACCOUNT and not sys.stdin.isatty():
        import wandb  # slow to import

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
    """One line about an error that one of these services raised; None for any other error."""
    module = type(error).__module__.partition(".")[0]
    if module not in ("wandb", "comet_ml"):
        return None
    text = str(error).strip()
    return (
        f"--vis {'wandb' if module == 'wandb' else 'comet'}: {text.splitlines()[0] if text else type(error).__name__}"
    )
