# SPDX-License-Identifier: Apache-2.0
"""The networks of score distillation's golden numbers, and streams of inputs that are not stored."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from golden import Golden
from torch import Tensor

from img3d_generators.guidance.denoiser import alphas_cumprod


def networks(golden: Golden) -> tuple[Any, Any, Tensor]:
    """The fixture's UNet, VAE and cumulative alphas, which are made once."""
    if golden.name not in _made:
        _made[golden.name] = _networks(golden)
    return _made[golden.name]


_made: dict[str, tuple[Any, Any, Tensor]] = {}


def _networks(golden: Golden) -> tuple[Any, Any, Tensor]:
    torch.set_num_threads(1)
    config = golden.sidecar["config"]
    unet, vae = UNet2DConditionModel(**config["unet"]), AutoencoderKL(**config["vae"])
    for network in (unet, vae):
        golden.fill(network)
        network.eval().requires_grad_(False)
    return unet, vae, alphas_cumprod(config["scheduler"])


def tensor(golden: Golden, name: str) -> Tensor:
    """An array of the fixture."""
    return torch.from_numpy(golden.arrays[name])


def drawn(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers of a stream that a sidecar names."""
    key = [zlib.crc32(f"input/{name}".encode()), seed]
    generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def assert_equals(golden: Golden, name: str, actual: Tensor) -> None:
    """The array is as the reference made it."""
    expected = tensor(golden, name)
    assert actual.numel() == expected.numel()
    difference = float((actual.double().reshape(expected.shape) - expected.double()).abs().max())
    assert difference <= golden.tolerance(name, 1e-5), f"{name}: {difference}"
