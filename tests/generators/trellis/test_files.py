# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's published files: the networks have their layouts, from which their sizes follow to the byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from img3d_base.errors import InputError
from img3d_generators.networks.dinov2 import Dinov2, Dinov2Config
from img3d_generators.trellis.files import PARTS, load_dinov2, network_for, read_settings
from img3d_generators.trellis.samplers import SamplerSettings
from img3d_generators.trellis.sparse_layers import Kernel
from img3d_generators.weights.checkpoints import checkpoint

CHECKPOINT = "trellis-image-large"
IN_HALF_PRECISION = ("blocks", "middle_block", "input_blocks", "out_blocks", "upsample")
"""Parts of the networks whose products the authors compute, and store, in half precision."""


def layout(network: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The data type and shape of each entry of a published file."""
    products = (nn.Linear, nn.Conv3d, Kernel)
    halved = {
        f"{name}.{parameter}"
        for name, module in network.named_modules()
        if isinstance(module, products) and name.split(".")[0] in IN_HALF_PRECISION
        for parameter in ("weight", "bias")
    }
    entries = network.state_dict().items()
    return {name: ("F16" if name in halved else "F32", tuple(value.shape)) for name, value in entries}


def safetensors_size(entries: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """The size of a safetensors file: its header, and the data, larger types first, in the order of names."""
    widths, header, end = {"F16": 2, "F32": 4}, {}, 0
    for name, (dtype, shape) in sorted(entries.items(), key=lambda entry: (-widths[entry[1][0]], entry[0])):
        start, end = end, end + widths[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + 8 * math.ceil(length / 8) + end


@pytest.fixture(params=PARTS)
def published(request: pytest.FixtureRequest) -> tuple[nn.Module, Path]:
    """A published network, without weights, and its file's path in the repository."""
    with torch.device("meta"):
        network = network_for(request.param, checkpoint(CHECKPOINT).architecture)
    return network, Path(PARTS[request.param].file)


def test_a_network_has_its_files_layout(published, published_keys, layout_of) -> None:
    network, file = published
    assert layout_of(network) == published_keys(f"trellis_{file.stem}")


def test_a_files_size_follows_to_the_byte(published) -> None:
    network, file = published
    sizes = {known.path: known.size for known in checkpoint(CHECKPOINT).files}
    assert safetensors_size(layout(network)) == sizes[str(file)]


def test_dinov2_has_its_files_layout(published_keys, layout_of) -> None:
    with torch.device("meta"):
        network = Dinov2(Dinov2Config())
    assert layout_of(network) == published_keys("dinov2_vitl14_reg")


PUBLISHED = {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}
DESCRIBED = {
    "args": {
        "sparse_structure_sampler": {"params": PUBLISHED},
        "slat_sampler": {"params": {**PUBLISHED, "steps": 20}},
        "slat_normalization": {"mean": [0.5, 1], "std": [2, 3]},
    }
}


def test_settings_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text(json.dumps(DESCRIBED))
    settings = read_settings(tmp_path / "pipeline.json")
    assert settings.structure == SamplerSettings(25, 5.0, (0.5, 1.0), 3.0)
    assert (settings.latents.steps, settings.mean, settings.deviation) == (20, (0.5, 1.0), (2.0, 3.0))
    fewer = settings.with_steps(6)
    assert (fewer.structure.steps, fewer.latents.steps, fewer.latents.guidance) == (6, 6, 5.0)


@pytest.mark.parametrize("broken", ["{", "[]", '{"args": 1}', '{"args": {"sparse_structure_sampler": {}}}'])
def test_a_broken_file_of_settings_is_one_line(broken: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text(broken)
    with pytest.raises(InputError, match="pipeline.json") as raised:
        read_settings(tmp_path / "pipeline.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_dinov2_is_read_from_either_file_whatever_its_name(ending: str, tmp_path: Path) -> None:
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 28}
    weights = Dinov2(Dinov2Config(**small)).state_dict()
    if ending == "pth":
        torch.save(weights, tmp_path / "model.safetensors")  # a user's own file, linked by the name of the hub's
    else:
        save_file(weights, tmp_path / "model.safetensors")
    loaded = load_dinov2(tmp_path / "model.safetensors", small, torch.device("cpu"))
    torch.testing.assert_close(loaded.state_dict(), weights)
