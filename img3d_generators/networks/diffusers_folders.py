# SPDX-License-Identifier: Apache-2.0
"""Networks in the layout of diffusers and transformers: a folder each, with a config.json and the weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from img3d_base.errors import InputError
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

WEIGHTS_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
"""Possible file names of the weights in a network's folder, in order of preference."""
VARIANTS = ("", ".fp16")
"""Possible texts before the ending of these names, in order of preference: ".fp16" marks half precision."""
INDEX_ENDING = ".index.json"
"""Weights in several files have a table with the name of one file and this ending."""

Config = dict[str, Any]


def load_network(
    folder: Path, build: Callable[[Config], Any], dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Any:
    """Loads a network. It is built on the "meta" device, so that memory never holds the weights twice.

    Args:
        folder: The network's folder.
        build: Makes the network from its configuration.
        dtype: Data type of its weights.
        device: The device of the network.

    Raises:
        InputError: A file is missing, damaged, or of another network.
    """
    with torch.device("meta"):
        network = build(read_config(folder / "config.json"))
    path, weights = _weights_in(folder)
    named = _with_tied(network, in_names_of(network, weights))
    load_weights(network, named, path, dtype)
    for name, buffer in network.named_buffers():
        if buffer.is_meta:  # position numbers, which no file holds
            assert name.endswith("embeddings.position_ids")
            network.get_submodule(name.rpartition(".")[0]).position_ids = torch.arange(buffer.shape[-1])[None]
    return network.to(device)


def _weights_in(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file of the weights, or the table of several, and the weights."""
    names = [f"{stem}{variant}.{ending}" for variant in VARIANTS for stem, ending in map(_parts, WEIGHTS_NAMES)]
    for name in names:
        if (folder / name).is_file():
            return folder / name, read_state_dict(folder / name)
    tables = [f"{stem}.{ending}{INDEX_ENDING}" for stem, ending in map(_parts, WEIGHTS_NAMES)]
    tables += [f"{stem}.{ending}.index.fp16.json" for stem, ending in map(_parts, WEIGHTS_NAMES)]
    for name in tables:
        if (folder / name).is_file():
            return folder / name, _from_several(folder, folder / name)
    raise InputError(f"There are no weights in {folder}: {', '.join(WEIGHTS_NAMES)}")


def _parts(name: str) -> tuple[str, str]:
    stem, _, ending = name.rpartition(".")
    return stem, ending


def _from_several(folder: Path, table: Path) -> dict[str, Tensor]:
    placed = read_config(table).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise InputError(f"{table} is damaged: it has no weight_map; fetch it again.")
    weights: dict[str, Tensor] = {}
    for name in dict.fromkeys(placed.values()):
        if Path(name).name != name:
            raise InputError(f"{table} is damaged: {name} is not a file beside it; fetch it again.")
        weights.update(read_state_dict(folder / name))
    return weights


def _with_tied(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds T5's second name of its embeddings, which files hold under one name only."""
    first, second = "shared.weight", "encoder.embed_tokens.weight"
    expected = network.state_dict().keys()
    if {first, second} <= expected:
        for one, other in ((first, second), (second, first)):
            if one in weights and other not in weights:
                weights[other] = weights[one]
    return weights


def in_names_of(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames weights to the names in the installed version of the network's library.

    transformers 5 dropped the prefix "text_model." of CLIP's text encoder, transformers 4.31 dropped the stored
    position numbers, and diffusers 0.18 renamed the VAE's attention layers.
    """
    expected = network.state_dict().keys()
    renamed = {}
    for key, value in weights.items():
        if key not in expected:
            key = key.removeprefix("text_model.")
        if key not in expected:
            for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
                key = key.replace(f".{old}.", f".{new}.")
        if not key.endswith("embeddings.position_ids"):
            renamed[key] = value
    return renamed


def read_config(path: Path) -> Config:
    """The content of a configuration file.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a configuration.")
    return content
