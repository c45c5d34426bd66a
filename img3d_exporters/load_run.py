# SPDX-License-Identifier: Apache-2.0
"""A finished run, from its config.yml, as `ns-export` loads it; and its mistakes in one line."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.error import URLError

import numpy as np
import torch
from jaxtyping import Float

from img3d_base.errors import InputError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.data.datamanagers.base_datamanager import DataManager
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.models.base_model import Model

NUMPY_FLOATS = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64))]
"""What torch's safe loader has to know for checkpoints of Nerfstudio's own methods: their schedulers leave NumPy's
floats in the optimizers' states, and since torch 2.6 Nerfstudio itself cannot read them (its issue 3683)."""


@dataclass
class Run:
    """What exporters need of a run."""

    name: str
    """Its experiment's name."""
    model: Model
    """Trained, in evaluation mode."""
    cameras: Cameras
    """Of the training photos, shape [C], OpenGL camera-to-world, in the model's world (z up)."""
    dataparser_transform: Float[np.ndarray, "3 4"]
    """From the world of the original capture to the model's, but for the scale."""
    dataparser_scale: float
    """Applied after the transform."""
    config: TrainerConfig
    """What its config.yml holds."""
    datamanager: DataManager
    """Its photos."""
    step: int
    """Of the checkpoint that was loaded."""


def load_run(config_path: Path, test_mode: Literal["inference", "test"] = "inference") -> Run:
    """Loads the latest checkpoint of a run.

    The file is a pickle of sorts: loading it can run code, so load only your own (as with every `ns-…` command).

    Args:
        config_path: Its config.yml, or the folder that has it.
        test_mode: Nerfstudio's: "test" to render held-out photos, at the size that they were trained at.

    Raises:
        InputError: There is no such run, or its checkpoint or data cannot be read.
    """
    if config_path.is_dir():
        config_path = config_path / "config.yml"
    if not config_path.is_file():
        raise InputError(f"There is no run at {config_path}: --load-config wants the config.yml that ns-train wrote.")
    import yaml
    from nerfstudio.utils.eval_utils import eval_setup  # loads every method: seconds, and never at import (FACTS 1)

    checked: list[TrainerConfig] = []

    def check(config: TrainerConfig) -> TrainerConfig:
        checked.append(_with_a_checkpoint(config))
        return checked[0]

    try:
        with torch.serialization.safe_globals(NUMPY_FLOATS):
            config, pipeline, _, step = eval_setup(config_path, test_mode=test_mode, update_config_callback=check)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"{config_path} is not a config.yml that ns-train wrote: {first_line}.") from error
    except AssertionError as error:
        reason = str(error) or "it holds no training configuration"
        raise InputError(f"{config_path} is not a run that can be loaded: {reason}.") from error
    except URLError as error:
        raise InputError(
            f"{config_path} needs weights that Nerfstudio downloads for its metrics (LPIPS), and could not: "
            f"{error.reason}. Once with a network is enough."
        ) from error
    except KeyError as error:
        if checked:  # its method was found
            raise InputError(f"{config_path} cannot be loaded: its checkpoint has no {error}.") from error
        raise InputError(f"{config_path} was trained by {error}, a method that is not installed here.") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{config_path} cannot be loaded, its checkpoint or data are damaged: {reason}") from error
    dataset = pipeline.datamanager.train_dataset
    assert dataset is not None
    outputs = dataset._dataparser_outputs
    return Run(
        config.experiment_name or config_path.parent.name,
        pipeline.model,
        dataset.cameras,
        outputs.dataparser_transform.numpy(),
        outputs.dataparser_scale,
        config,
        pipeline.datamanager,
        step,
    )


def _with_a_checkpoint(config: TrainerConfig) -> TrainerConfig:
    """Refuses a run without one, before its data are read; Nerfstudio would exit with a message of several lines."""
    folder = config.get_checkpoint_dir()
    if not any(folder.glob("step-*.ckpt")):
        raise InputError(
            f"There are no checkpoints in {folder}: let the run train until it saves one, or, if that path is not "
            "from here, run this in the folder that ns-train ran in."
        )
    return config
