# SPDX-License-Identifier: Apache-2.0
"""Writes TRELLIS's and DINOv2's files with random weights, 4.1 GB; those of TRELLIS have their published sizes to the
byte. With them all of it runs at its full size, and what it makes is noise.

    python benchmarks/random_trellis.py weights
    IMG3D_WEIGHTS=weights ns-train img3d-trellis --data chair.png --pipeline.output both --pipeline.steps 1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from img3d_base.console import print_line
from img3d_generators.networks.dinov2 import Dinov2, Dinov2Config
from img3d_generators.trellis.decoders import MeshDecoder
from img3d_generators.trellis.files import PARTS, SETTINGS, network_for
from img3d_generators.trellis.sparse_layers import Kernel
from img3d_generators.trellis.structure import StructureDecoder, StructureFlow, UpsampleBlock3d
from img3d_generators.weights.checkpoints import checkpoint

IN_HALF_PRECISION = ("blocks", "middle_block", "input_blocks", "out_blocks", "upsample")
"""Parts of the networks whose products the authors compute, and store, in half precision."""
VOXELS = 18_000
"""About as many voxels are occupied; of a usual object 20,000 are."""
OUTSIDE = 0.6
"""Mean of the signed distances at the mesh's corners, in their standard deviations before they are averaged over cubes:
with 0 half of all corners would be inside, and the mesh would have millions of triangles."""
SAMPLER = {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}
DESCRIBED = {
    "args": {
        "sparse_structure_sampler": {"params": SAMPLER},
        "slat_sampler": {"params": SAMPLER},
        "slat_normalization": {"mean": [0.0] * 8, "std": [1.0] * 8},
    }
}
"""As published, except for the scale of the latents, which trained networks expect."""


def half_precision_names(network: nn.Module) -> set[str]:
    """Names of the weights that the published file of a network holds in half precision."""
    return {
        f"{name}.{parameter}"
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv3d, Kernel)) and name.split(".")[0] in IN_HALF_PRECISION
        for parameter in ("weight", "bias")
    }


@torch.no_grad()
def randomise(network: nn.Module) -> None:
    """Gives a network weights that keep the size of its features: noise, and no biases."""
    for name, weight in network.named_parameters():
        if weight.dim() > 1 and not name.endswith("gamma"):
            inputs = weight[0].numel() if weight.dim() != 3 else weight.shape[-1]
            weight.normal_(std=inputs**-0.5)
        else:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def make_objects_usual(network: nn.Module) -> None:
    """Adjusts random weights so that objects have as many voxels and triangles as usual ones."""
    if isinstance(network, StructureFlow):
        network.out_layer.weight *= 0.1  # the latent stays near noise, for which the decoder's bias is chosen below
    elif isinstance(network, StructureDecoder):
        for block in network.blocks:
            if isinstance(block, UpsampleBlock3d):  # all children are equal, so that occupied voxels have neighbours
                block.conv.weight.copy_(block.conv.weight[::8].repeat_interleave(8, dim=0))
        latents = torch.randn(1, network.input_layer.in_channels, 16, 16, 16)
        logits = network(latents).flatten()
        network.out_layer[-1].bias -= logits.topk(VOXELS).values[-1]
    elif isinstance(network, MeshDecoder):
        network.out_layer.bias[:8] = OUTSIDE


def write(folder: Path) -> None:
    """Writes all files, as `IMG3D_WEIGHTS` expects them."""
    own, dinov2 = checkpoint("trellis-image-large"), checkpoint("dinov2-large-registers")
    torch.manual_seed(0)
    save(Dinov2(Dinov2Config(**dinov2.architecture)), folder / dinov2.name / dinov2.files[0].path)
    for name, part in PARTS.items():
        network = network_for(name, own.architecture)
        save(network, folder / own.name / part.file, half_precision_names(network))
    (folder / own.name / SETTINGS).write_text(json.dumps(DESCRIBED))


def save(network: nn.Module, file: Path, halved: Collection[str] = ()) -> None:
    """Saves a network with random weights, those in `halved` in half precision."""
    randomise(network)
    make_objects_usual(network)
    file.parent.mkdir(parents=True, exist_ok=True)
    weights = network.state_dict().items()
    save_file({key: value.half() if key in halved else value.contiguous() for key, value in weights}, file)
    print_line(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go")
    write(parser.parse_args().folder)
