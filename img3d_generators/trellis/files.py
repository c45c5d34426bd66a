# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's published files: one for each network, and one with the settings of the samplers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, read_json, reason
from img3d_generators.networks.dinov2 import Dinov2, Dinov2Config, authors_weights
from img3d_generators.trellis.decoders import DecoderConfig, GaussianDecoder, GaussianDecoderConfig, MeshDecoder
from img3d_generators.trellis.latent_flow import LatentFlow, LatentFlowConfig
from img3d_generators.trellis.samplers import SamplerSettings
from img3d_generators.trellis.structure import FlowConfig, StructureDecoder, StructureDecoderConfig, StructureFlow
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

SETTINGS = "pipeline.json"


@dataclass(frozen=True)
class Part:
    """One of the networks."""

    file: str
    """Path in the repository."""
    network: type[nn.Module]
    """Its class."""
    config: type
    """The class of its architecture."""


PARTS = {
    "structure_flow": Part("ckpts/ss_flow_img_dit_L_16l8_fp16.safetensors", StructureFlow, FlowConfig),
    "structure_decoder": Part("ckpts/ss_dec_conv3d_16l8_fp16.safetensors", StructureDecoder, StructureDecoderConfig),
    "latent_flow": Part("ckpts/slat_flow_img_dit_L_64l8p2_fp16.safetensors", LatentFlow, LatentFlowConfig),
    "gaussian_decoder": Part(
        "ckpts/slat_dec_gs_swin8_B_64l8gs32_fp16.safetensors", GaussianDecoder, GaussianDecoderConfig
    ),
    "mesh_decoder": Part("ckpts/slat_dec_mesh_swin8_B_64l8m256c_fp16.safetensors", MeshDecoder, DecoderConfig),
}
"""The networks, by the names of their architectures in the checkpoint's YAML file."""


@dataclass(frozen=True)
class Settings:
    """Settings of the samplers, and the scale of the latents."""

    structure: SamplerSettings
    """Settings of the structure's flow."""
    latents: SamplerSettings
    """Settings of the latents' flow."""
    mean: tuple[float, ...]
    """Mean of each channel of the latents."""
    deviation: tuple[float, ...]
    """Standard deviation of each channel of the latents."""

    def with_steps(self, steps: int) -> Settings:
        """The same settings with another number of steps in both samplers; 0: the published numbers."""
        if steps == 0:
            return self
        return replace(self, structure=replace(self.structure, steps=steps), latents=replace(self.latents, steps=steps))


def read_settings(file: Path) -> Settings:
    """Reads a published pipeline.json.

    Raises:
        InputError: The file is missing or damaged, or lacks a setting.
    """
    try:
        settings = read_json(file)["args"]
        structure, latents = (_sampler(settings[f"{name}_sampler"]["params"]) for name in ("sparse_structure", "slat"))
        mean, deviation = (tuple(map(float, settings["slat_normalization"][name])) for name in ("mean", "std"))
    except MALFORMED as error:
        raise InputError(f"{file} does not describe TRELLIS's samplers ({reason(error)}); fetch it again") from error
    return Settings(structure, latents, mean, deviation)


def _sampler(params: Mapping[str, Any]) -> SamplerSettings:
    low, high = map(float, params["cfg_interval"])
    return SamplerSettings(
        int(params["steps"]), float(params["cfg_strength"]), (low, high), float(params.get("rescale_t", 1.0))
    )


def network_for(part: str, architecture: Mapping[str, Any]) -> Any:
    """One of `PARTS`, with random weights.

    Args:
        part: The part's name.
        architecture: Options of all parts' architectures, by name; those that it lacks are the published ones.
    """
    kind = PARTS[part]
    return kind.network(kind.config(**architecture.get(part, {})))


def load_part(part: str, folder: Path, architecture: Mapping[str, Any], device: torch.device) -> Any:
    """Loads one of `PARTS` in float32, which represents the published weights exactly.

    Raises:
        InputError: The file is missing, damaged, or for another network.
    """
    with torch.device("meta"):
        network = network_for(part, architecture)
    file = folder / PARTS[part].file
    load_weights(network, read_state_dict(file), file, torch.float32)
    return network.to(device)


def load_dinov2(file: Path, architecture: Mapping[str, Any], device: torch.device) -> Dinov2:
    """Loads DINOv2 from its authors' file or Hugging Face's.

    Raises:
        InputError: The file is missing, damaged, or for another network.
    """
    with torch.device("meta"):
        network = Dinov2(Dinov2Config(**architecture))
    load_weights(network, authors_weights(read_state_dict(file)), file, torch.float32)
    return network.to(device)
