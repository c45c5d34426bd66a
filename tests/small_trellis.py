# SPDX-License-Identifier: Apache-2.0
"""TRELLIS in small, in files as the authors lay theirs out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from img3d_generators.networks.dinov2 import Dinov2, Dinov2Config
from img3d_generators.trellis import generator
from img3d_generators.trellis.files import PARTS, SETTINGS, network_for
from img3d_generators.weights import weight_files
from img3d_generators.weights.checkpoints import checkpoint

DINOV2 = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 28}
ARCHITECTURE: dict[str, dict[str, Any]] = {
    "structure_flow": {
        **{"resolution": 4, "in_channels": 4, "model_channels": 24, "cond_channels": 16},
        **{"num_blocks": 1, "num_heads": 2},
    },
    "structure_decoder": {"latent_channels": 4, "channels": (8, 8), "num_res_blocks": 1, "num_res_blocks_middle": 1},
    "latent_flow": {
        **{"resolution": 8, "in_channels": 4, "model_channels": 24, "cond_channels": 16},
        **{"num_blocks": 1, "num_heads": 2, "io_channels": 8},
    },
    "gaussian_decoder": {
        **{"resolution": 8, "latent_channels": 4, "model_channels": 24, "num_blocks": 2, "num_heads": 2},
        **{"window_size": 4, "num_gaussians": 4},
    },
    "mesh_decoder": {
        **{"resolution": 8, "latent_channels": 4, "model_channels": 256, "num_blocks": 1, "num_heads": 2},
        **{"window_size": 4, "mlp_ratio": 1},
    },
}
SAMPLER = {"steps": 3, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}
DESCRIBED = {
    "args": {
        "sparse_structure_sampler": {"params": SAMPLER},
        "slat_sampler": {"params": {**SAMPLER, "steps": 2}},
        "slat_normalization": {"mean": [0.1, 0.2, 0.3, 0.4], "std": [1.0, 1.1, 1.2, 1.3]},
    }
}


def small_network(part: str) -> nn.Module:
    """A network whose results depend clearly on its inputs."""
    torch.manual_seed(len(part))
    network = network_for(part, ARCHITECTURE)
    for weight in network.parameters():
        weight.data *= 2 if weight.dim() > 1 else 1
    return network


def write_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts small networks in the place of the published ones; returns their folder."""
    monkeypatch.setattr(weight_files, "_has_size", lambda path, file: path.is_file())  # the published ones are large
    own, dinov2 = checkpoint("trellis-image-large"), checkpoint("dinov2-large-registers")
    small = {
        own.name: dataclasses.replace(own, architecture=ARCHITECTURE),
        dinov2.name: dataclasses.replace(dinov2, architecture=DINOV2),
    }
    monkeypatch.setattr(generator, "checkpoint", small.__getitem__)
    torch.manual_seed(0)
    files = {folder / dinov2.name / dinov2.files[0].path: Dinov2(Dinov2Config(**DINOV2))}
    files |= {folder / own.name / part.file: small_network(name) for name, part in PARTS.items()}
    for file, network in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), file)
    (folder / own.name / SETTINGS).write_text(json.dumps(DESCRIBED))
    return folder / own.name
