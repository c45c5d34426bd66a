# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946; the Lite variant is of tensorflow/tpu), an encoder of pictures
that runs fast on CPUs, without its classifier."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu6

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of each stage: number of blocks, size of the kernels, stride of the first block, expansion, channels."""
STEM_CHANNELS = 32
FEATURES = {4: 24, 8: 40, 16: 112, 32: 320}
"""Channels of the features, by their stride in pixels."""
EPSILON = 1e-3
"""Of the batch normalisations."""


class EfficientNetLite(nn.Module):
    """The network. Batch normalisations are folded into the convolutions before them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM_CHANNELS, 3, stride=2)
        blocks, channels = [], STEM_CHANNELS
        for count, kernel_size, stride, expansion, out_channels in STAGES:
            for i in range(count):
                blocks.append(Block(channels, out_channels, kernel_size, stride if i == 0 else 1, expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        """The features of each stride in `FEATURES`.

        Args:
            images: Colours in [-1, 1]. Height and width have to be divisible by 32.
        """
        x, found = self.stem(images), {}
        for block in self.blocks:
            x = block(x)
            found[images.shape[-1] // x.shape[-1]] = x  # the last one of a stride stays
        return [found[stride] for stride in FEATURES]


class Block(nn.Module):
    """An inverted residual: wider, depthwise over the surroundings, narrow again."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = Convolution(in_channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(inner, inner, kernel_size, stride, groups=inner)
        self.project = Convolution(inner, out_channels, 1, activated=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        found = self.project(self.depthwise(self.expand(x)))
        return x + found if self.residual else found


class Convolution(nn.Conv2d):
    """A convolution that is padded as TensorFlow does, with more on the right and at the bottom, and its activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups)
        self.activated = activated
        self.missing = kernel_size - stride

    def forward(self, input: Tensor) -> Tensor:
        before, after = self.missing // 2, self.missing - self.missing // 2
        if before != after:
            input, before = pad(input, (before, after, before, after)), 0
        found = conv2d(input, self.weight, self.bias, self.stride, before, groups=self.groups)
        return relu6(found) if self.activated else found


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of `EfficientNetLite`, from that of a network with batch normalisations.

    Layers are told by their order, as every publication has names of its own: a convolution's weights are followed by
    its normalisation's weight, bias, mean and variance. What follows the last block is left out.

    Raises:
        ValueError: There are fewer layers.
    """
    values = [value for value in published.values() if value.ndim > 0]  # not the numbers of batches seen
    kernels = [i for i, value in enumerate(values) if value.ndim == 4]
    layers = {name: each for name, each in EfficientNetLite().named_modules() if isinstance(each, Convolution)}
    if len(kernels) < len(layers):
        raise ValueError(f"EfficientNet-Lite0 has {len(layers)} convolutions before its classifier, not {len(kernels)}")
    found: dict[str, Tensor] = {}
    for name, i in zip(layers, kernels, strict=False):
        kernel, weight, bias, mean, variance = values[i : i + 5]
        factor = weight / (variance + EPSILON).sqrt()
        found[f"{name}.weight"] = kernel * factor[:, None, None, None]
        found[f"{name}.bias"] = bias - mean * factor
    return found
