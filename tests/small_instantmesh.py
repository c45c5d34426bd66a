# SPDX-License-Identifier: Apache-2.0
"""InstantMesh in small, in a file as the authors lay theirs out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from img3d_generators.instantmesh import generator
from img3d_generators.instantmesh.network import PREFIX, InstantMesh, InstantMeshConfig
from img3d_generators.networks.vision_transformer import VitConfig
from img3d_generators.weights.checkpoints import checkpoint

SMALL = InstantMeshConfig(
    image_size=32,
    vit=VitConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32),
    plane_size=4,
    channels=32,
    num_layers=1,
    num_heads=2,
    plane_channels=4,
    head_channels=8,
    grid_resolution=12,
)


def small_network(head: str) -> InstantMesh:
    """A network whose planes contain a surface."""
    torch.manual_seed(0)
    network = InstantMesh(dataclasses.replace(SMALL, head=head))  # pyright: ignore[reportArgumentType]
    for name, weight in network.named_parameters():
        if "synthesizer" in name and weight.dim() > 1:
            weight.data *= 4
    return network.eval()


def write_small(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a small network in the place of a published one."""
    known = checkpoint(name)
    network = small_network(known.architecture["head"])
    small = dataclasses.replace(known, architecture=dataclasses.asdict(network.config))
    old = generator.checkpoint
    monkeypatch.setattr(generator, "checkpoint", lambda asked: small if asked == name else old(asked))
    weights = {f"{PREFIX}{key}": value for key, value in network.state_dict().items()}
    others = {f"{PREFIX}source_camera": torch.zeros(2), "lpips.lin0.weight": torch.zeros(3)}
    path = folder / name / known.files[0].path
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {**weights, **others}}, path)
    return path
