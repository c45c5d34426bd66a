# SPDX-License-Identifier: Apache-2.0
"""The encoder with folded normalisations agrees with timm's network, with any weights."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from img3d_generators.networks.efficientnet_lite import FEATURES, EfficientNetLite, folded


def reference() -> nn.Module:
    """timm's network, with random weights and statistics."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_features_are_those_of_timm(size: tuple[int, int]) -> None:
    network, ours = reference().double(), EfficientNetLite().double()
    ours.load_state_dict(folded(network.state_dict()))
    images = 2 * torch.rand(2, 3, *size, dtype=torch.float64) - 1
    found, expected = ours(images), network(images)
    assert [each.shape[1] for each in found] == list(FEATURES.values())
    for one, other, stride in zip(found, expected, FEATURES, strict=True):
        assert one.shape[2:] == (size[0] // stride, size[1] // stride)
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_weights_of_a_smaller_network_are_refused() -> None:
    weights = dict(list(reference().state_dict().items())[:40])
    with pytest.raises(ValueError, match="has 48 convolutions before its classifier, not 7"):
        folded(weights)
