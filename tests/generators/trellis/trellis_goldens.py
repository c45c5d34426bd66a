# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's golden numbers: networks of the sizes in a sidecar, and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from golden import Golden
from torch import nn

from img3d_generators.networks.dinov2 import Dinov2, Dinov2Config
from img3d_generators.trellis.decoders import DecoderConfig, GaussianDecoder, GaussianDecoderConfig, MeshDecoder
from img3d_generators.trellis.latent_flow import LatentFlow, LatentFlowConfig
from img3d_generators.trellis.samplers import SamplerSettings
from img3d_generators.trellis.structure import FlowConfig, StructureDecoder, StructureDecoderConfig, StructureFlow

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "dinov2": (Dinov2, Dinov2Config),
    "image_cond_model": (Dinov2, Dinov2Config),
    "sparse_structure_flow_model": (StructureFlow, FlowConfig),
    "sparse_structure_decoder": (StructureDecoder, StructureDecoderConfig),
    "slat_flow_model": (LatentFlow, LatentFlowConfig),
    "slat_decoder_gs": (GaussianDecoder, GaussianDecoderConfig),
    "slat_decoder_mesh": (MeshDecoder, DecoderConfig),
}
"""By the names in the sidecars."""
GAUSSIANS = {
    "num_gaussians": "num_gaussians",
    "voxel_size": "voxel_size",
    "min_scale": "3d_filter_kernel_size",
    "scale_bias": "scaling_bias",
    "opacity_bias": "opacity_bias",
}


def config_of(name: str, arguments: dict[str, Any]) -> Any:
    """The architecture that the authors' constructor arguments mean."""
    kind = NETWORKS[name][1]
    known = {key: value for key, value in arguments.items() if key in kind.__dataclass_fields__}
    if name == "sparse_structure_decoder":
        known["channels"] = tuple(known["channels"])
    if name == "slat_flow_model":
        assert (arguments["patch_size"], arguments["num_io_res_blocks"]) == (2, 2) and arguments["use_skip_connection"]
        known["io_channels"] = arguments["io_block_channels"][0]
    if name == "slat_decoder_gs":
        said = arguments["representation_config"]
        known |= {ours: said[theirs] for ours, theirs in GAUSSIANS.items()}
    return kind(**known)


def network_of(golden: Golden, name: str) -> Any:
    """A network with the fixture's weights."""
    torch.set_num_threads(1)
    model = NETWORKS[name][0](config_of(name, golden.sidecar["config"][name]))
    golden.fill(model)
    parameters = golden.sidecar["parameters"] if "parameters" in golden.sidecar else None
    if parameters is not None:
        expected = parameters[name] if isinstance(parameters, dict) else parameters
        assert sum(weight.numel() for weight in model.parameters()) == expected
    return model.eval()


def settings_of(said: dict[str, Any]) -> SamplerSettings:
    """The settings of a sampler in a sidecar."""
    return SamplerSettings(
        said["steps"],
        said.get("cfg_strength", 0.0),
        tuple(said.get("cfg_interval", (0.0, 1.0))),
        said.get("rescale_t", 1.0),
    )


def check(golden: Golden, name: str, values: torch.Tensor | np.ndarray, default: float = 1e-5) -> None:
    """Compares with an array of a fixture."""
    expected = golden.arrays[name]
    values = np.asarray(values.detach() if isinstance(values, torch.Tensor) else values)
    tolerance = golden.tolerance(name, default)
    np.testing.assert_allclose(values.reshape(expected.shape), expected, atol=tolerance, rtol=0, err_msg=name)


def array(golden: Golden, name: str) -> torch.Tensor:
    """An array of a fixture."""
    return torch.from_numpy(golden.arrays[name])
