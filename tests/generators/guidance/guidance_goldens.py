# SPDX-License-Identifier: Apache-2.0
"""The networks of score distillation's golden numbers, what their sidecars say in words, and streams of inputs that are
not stored."""

from __future__ import annotations

import re
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


NUMBER = r"[-+]?\d*\.?\d+"


def stated(text: str, pattern: str) -> list[Any]:
    """The numbers in that part of a sidecar's text which matches a pattern.

    Args:
        text: The text; `1..5` is read as `1 to 5`.
        pattern: A regular expression, in which `#` is a number.
    """
    text = text.replace("..", " to ")
    found = re.search(pattern.replace("#", NUMBER), text)
    assert found is not None, f"{pattern!r} is not in {text!r}"
    return numbers(found[0])


def numbers(text: str) -> list[Any]:
    """All numbers in a text, those without a point as integers."""
    return [float(number) if "." in number else int(number) for number in re.findall(NUMBER, text)]


def meaning(golden: Golden, name: str) -> str:
    """What a sidecar says about an array."""
    return golden.sidecar["arrays"][name]["meaning"]


def drawn(rule: str) -> Tensor:
    """Standard normal numbers of a sidecar's stream, `inputs("<name>", <seed>).standard_normal((<shape>)`."""
    found = re.search(r'inputs\("(.*)", (\d+)\)\.standard_normal\(\(([\d,]+)\)', rule)
    assert found is not None, rule
    key = [zlib.crc32(f"input/{found[1]}".encode()), int(found[2])]
    generator = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
    shape = tuple(map(int, found[3].split(",")))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def assert_equals(golden: Golden, name: str, actual: Tensor) -> None:
    """The array is as the reference made it."""
    expected = tensor(golden, name)
    assert actual.numel() == expected.numel()
    difference = float((actual.double().reshape(expected.shape) - expected.double()).abs().max())
    assert difference <= golden.tolerance(name, 1e-5), f"{name}: {difference}"
