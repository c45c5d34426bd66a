# SPDX-License-Identifier: Apache-2.0
"""Reference attention: what a UNet makes of a second picture that it sees beside its own."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from zero123plus_repositories import CONFIGS

from img3d_generators.zero123plus.reference_attention import ReferenceUNet

TIMESTEP = torch.tensor(400.0)


@pytest.fixture
def unet() -> UNet2DConditionModel:
    """A small one, on seeded weights."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**CONFIGS["unet"]).eval().requires_grad_(False)


@pytest.fixture
def embeds() -> Tensor:
    """Tokens of two prompts."""
    return torch.randn(2, 5, CONFIGS["unet"]["cross_attention_dim"], generator=torch.Generator().manual_seed(1))


TOLERANCE = 1e-4
"""Of outputs of about 1: attention over other numbers of keys groups its sums in another way, and a rounding of 2^-24
grows to some 1e-6 through the layers; what one token too few or too many does is 1e-3 and more."""


def latents(seed: int, height: int = 8, width: int = 8) -> Tensor:
    """Noise."""
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(seed))


def test_seeing_oneself_changes_nothing(unet: UNet2DConditionModel, embeds: Tensor) -> None:
    """Every token among the keys twice has the weight that it has once: in every layer, so in the end."""
    sample = latents(0)
    plain = unet(sample, TIMESTEP, encoder_hidden_states=embeds, return_dict=False)[0]
    torch.testing.assert_close(ReferenceUNet(unet)(sample, sample, TIMESTEP, embeds), plain, atol=TOLERANCE, rtol=0)


def test_seeing_another_picture_does_each_for_itself(unet: UNet2DConditionModel, embeds: Tensor) -> None:
    """The reference may have another size; the first of a batch does not see the second one's."""
    network, sample = ReferenceUNet(unet), latents(0)
    reference = latents(1, 4, 12)
    output = network(sample, reference, TIMESTEP, embeds)
    assert not torch.allclose(output, network(sample, sample, TIMESTEP, embeds), atol=1e-3)
    changed = reference.clone()
    changed[1] = latents(2, 4, 12)[1]
    other = network(sample, changed, TIMESTEP, embeds)
    torch.testing.assert_close(other[0], output[0], atol=TOLERANCE, rtol=0)
    assert not torch.allclose(other[1], output[1], atol=1e-3)


def test_nothing_is_kept_from_one_run_to_the_next(unet: UNet2DConditionModel, embeds: Tensor) -> None:
    network = ReferenceUNet(unet)
    first = network(latents(0), latents(1), TIMESTEP, embeds)
    network(latents(2), latents(3), TIMESTEP, embeds)
    torch.testing.assert_close(network(latents(0), latents(1), TIMESTEP, embeds), first)
