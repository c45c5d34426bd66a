# SPDX-License-Identifier: Apache-2.0
"""Explains in one line why a run could not be loaded; the exceptions of Nerfstudio's `eval_setup` are for
developers."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from urllib.error import URLError

LOADERS = {"eval_setup", "eval_load_checkpoint"}
"""The functions of Nerfstudio's eval_utils.py with which all commands load runs."""


def why_not_loaded(error: BaseException, config_path: Path | str) -> str | None:
    """What to tell the user about an exception that was raised while a run was loaded.

    Args:
        error: The exception, with its traceback.
        config_path: The run's config.yml.

    Returns:
        One line, or None if the exception was raised elsewhere or is not caused by the user's input.
    """
    import yaml  # slow to import, and only needed after an error

    frames = traceback.extract_tb(error.__traceback__)
    places = [frame.name for frame in frames if frame.name in LOADERS or _is_train_main(frame)]
    if not places:
        return None
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        return f"{config_path} is not a config.yml that ns-train wrote: {_first_line(error)}."
    if places[-1] == "main":  # ns-train --load-config
        not_a_config = isinstance(error, AttributeError) and frames[-1].name == "main"
        return f"{config_path} is not a config.yml that ns-train wrote." if not_a_config else None
    if isinstance(error, AssertionError) and frames[-1].name in LOADERS:
        reason = str(error) or "it holds no training configuration"
        return f"{config_path} is not a run that can be loaded: {reason}."
    if isinstance(error, URLError):
        return (
            f"{config_path} needs the weights of the LPIPS metric, which Nerfstudio could not download: "
            f"{error.reason}. Run it once with a network connection; the weights are then kept."
        )
    if places[-1] == "eval_setup":
        if isinstance(error, KeyError) and frames[-1].name == "eval_setup":
            return f"{config_path} was trained by {error}, a method that is not installed here."
        if isinstance(error, OSError):
            return f"{config_path} cannot be loaded: its data cannot be read: {_first_line(error)}"
        return None
    if isinstance(error, KeyError):
        return f"{config_path} cannot be loaded: its checkpoint has no {error}."
    if isinstance(error, IndexError):
        return f"{config_path} cannot be loaded: it has no checkpoint; let the run train until it saves one."
    if isinstance(error, ValueError) and frames[-1].name != "load_state_dict":
        return (
            f"{config_path} cannot be loaded: a file among its checkpoints is not a checkpoint ({_first_line(error)})"
        )
    if isinstance(error, pickle.UnpicklingError):  # its message recommends running the code in the file
        objects = "Unsupported global" in str(error)
        damaged = "is damaged, or was made by another program"
        reason = "holds Python objects, which torch no longer loads" if objects else damaged
        return f"{config_path} cannot be loaded: its checkpoint {reason}."
    if isinstance(error, (OSError, RuntimeError, EOFError)):
        return f"{config_path} cannot be loaded: its checkpoint is damaged or does not fit: {_first_line(error)}"
    return None


def _is_train_main(frame: traceback.FrameSummary) -> bool:
    return frame.name == "main" and Path(frame.filename).parts[-3:] == ("nerfstudio", "scripts", "train.py")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
