# SPDX-License-Identifier: Apache-2.0
"""Loads a finished run from its config.yml, as `ns-export` does, and reports errors in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float

from img3d_base.errors import InputError
from img3d_methods.commands.run_errors import why_not_loaded
from img3d_methods.training.checkpoint_files import checkpoint_path, checkpoint_steps

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.data.datamanagers.base_datamanager import DataManager
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.models.base_model import Model

    from img3d_methods.representation import Representation

NUMPY_FLOATS = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64))]
"""Globals that torch's safe loader needs for checkpoints of Nerfstudio's own methods: their schedulers leave NumPy
floats in the optimizers' states, which Nerfstudio itself cannot read since torch 2.6 (its issue 3683)."""


@dataclass
class Run:
    """A loaded run, as exporters need it."""

    name: str
    """The name of the experiment."""
    model: Model
    """The trained model, in evaluation mode."""
    cameras: Cameras
    """Cameras of the training photos, shape [C], OpenGL camera-to-world, in the model's world (z up)."""
    dataparser_transform: Float[np.ndarray, "3 4"]
    """From the world of the original capture to the model's, without the scale."""
    dataparser_scale: float
    """Applied after the transform."""
    config: TrainerConfig
    """The content of config.yml."""
    datamanager: DataManager
    """The data manager, with the photos."""
    step: int
    """The step of the loaded checkpoint."""

    @property
    def representation(self) -> Representation:
        """The protocol through which the model is queried."""
        from img3d_methods.representation import representation_of  # late: it loads Nerfstudio's models

        return representation_of(self.model)


def load_run(config_path: Path, test_mode: Literal["inference", "test"] = "inference") -> Run:
    """Loads the latest checkpoint of a run.

    Like a pickle, the file can run code when it is loaded, so load only your own (as with every `ns-…` command).

    Args:
        config_path: The run's config.yml, or its folder.
        test_mode: Nerfstudio's test mode: "test" also loads held-out photos, at the size used in training.

    Raises:
        InputError: There is no such run, or its checkpoint or data cannot be read.
    """
    config_path = config_file(config_path)
    from nerfstudio.utils.eval_utils import eval_setup  # loads every method, which takes seconds

    try:
        with torch.serialization.safe_globals(NUMPY_FLOATS):
            config, pipeline, _, step = eval_setup(
                config_path, test_mode=test_mode, update_config_callback=_with_a_checkpoint
            )
    except Exception as error:
        if reason := why_not_loaded(error, config_path):
            raise InputError(reason) from error
        raise
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


def config_file(path: Path) -> Path:
    """Finds a run's config.yml, given the file or its folder.

    Raises:
        InputError: The file does not exist.
    """
    if path.is_dir():
        path = path / "config.yml"
    if not path.is_file():
        raise InputError(f"There is no run at {path}: --load-config takes the config.yml that ns-train wrote.")
    return path


def latest_checkpoint(config: TrainerConfig) -> Path:
    """The latest checkpoint of a run.

    Raises:
        InputError: There is no checkpoint.
    """
    folder = config.get_checkpoint_dir()
    steps = checkpoint_steps(folder)
    if not steps:
        raise InputError(
            f"There are no checkpoints in {folder}: let the run train until it saves one; or, if it was moved, write "
            "its new place into its config.yml (output_dir)."
        )
    return checkpoint_path(folder, steps[-1])


def _with_a_checkpoint(config: TrainerConfig) -> TrainerConfig:
    """Refuses a run without a checkpoint before its data are read; Nerfstudio would exit with a message of several
    lines."""
    latest_checkpoint(config)
    return config
