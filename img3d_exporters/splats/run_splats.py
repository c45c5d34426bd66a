# SPDX-License-Identifier: Apache-2.0
"""Reads a run's Gaussians from its checkpoint alone: the photos may be missing, and poses are not computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from img3d_assets.gaussians import Gaussians, gaussians_of_parameters
from img3d_base.errors import InputError
from img3d_exporters.load_run import NUMPY_FLOATS, config_file, latest_checkpoint
from img3d_methods.training.checkpoint_files import read_checkpoint

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

PARAMETERS = "_model.gauss_params."
"""Prefix of the parameters of splatfacto's family in a pipeline's state."""


def read_run_splats(config_path: Path) -> Gaussians:
    """The Gaussians of a run's latest checkpoint, in the normalised frame of training (z up).

    Loading config.yml can run code, as with `load_run`.

    Args:
        config_path: The run's config.yml, or its folder.

    Raises:
        InputError: There is no such run, its checkpoint cannot be read, or its model has no Gaussians.
    """
    path = config_file(config_path)
    config = read_config(path)
    checkpoint = latest_checkpoint(config)
    try:
        with torch.serialization.safe_globals(NUMPY_FLOATS):
            state = read_checkpoint(checkpoint)["pipeline"]
        params = {name.removeprefix(PARAMETERS): state[name] for name in state if name.startswith(PARAMETERS)}
        if not params:
            raise InputError(no_splats(config_path, config.pipeline.model._target.__name__))
        model: Any = config.pipeline.model
        splats = gaussians_of_parameters(params, model.sh_degree)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{config_path} cannot be loaded: its checkpoint is damaged: {reason}.") from error
    splats.antialiased = model.rasterize_mode == "antialiased"
    return splats


def read_original_frame(config_path: Path) -> tuple[Float[np.ndarray, "3 4"], float]:
    """The transform from the photos' own frame to that of training, and the scale applied after it, which training
    stored beside config.yml.

    Raises:
        InputError: The file is missing or damaged.
    """
    path = config_file(config_path).with_name("dataparser_transforms.json")
    try:
        values = json.loads(path.read_text("utf8"))
        transform, scale = np.array(values["transform"], dtype=np.float64), float(values["scale"])
        if transform.shape != (3, 4) or not (np.isfinite(transform).all() and 0 < scale < np.inf):
            raise ValueError("it holds no transform")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}), which --original-frame needs; training wrote it."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    return transform, scale


def no_splats(source: Path, model: str) -> str:
    """The message about a run without Gaussians where these are needed."""
    return (
        f"{source} holds a {model}: this needs Gaussian splats. img3d-export mesh, pointcloud and video take any "
        "method."
    )


def read_config(path: Path) -> TrainerConfig:
    """Reads a config.yml. Loading it can run code.

    Raises:
        InputError: The file is not a run's configuration.
    """
    import yaml
    from nerfstudio.engine.trainer import TrainerConfig  # takes seconds, which --help should not

    try:
        config = yaml.load(path.read_text("utf8"), Loader=yaml.Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a config.yml that ns-train wrote: {reason}.") from error
    if not isinstance(config, TrainerConfig):
        raise InputError(f"{path} is not a run that can be loaded: it holds no training configuration.")
    return config
