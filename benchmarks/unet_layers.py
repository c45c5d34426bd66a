# SPDX-License-Identifier: Apache-2.0
"""What could shorten a step of Zero123++ on a CPU: the time of its UNet's largest layers by data type and layout, with
random weights.

OMP_NUM_THREADS=1 python benchmarks/unet_layers.py

Milliseconds of processor time, of the fastest of three runs, which other programs on the machine disturb less than the
time on the clock. In brackets how far results are off from float32's (rms, relative).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from kernels import describe_machine
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

REPEATS = 3
CONVOLUTIONS = ((320, 120, 80), (640, 60, 40), (1280, 30, 20))
"""Channels, height and width of the UNet's levels for six views."""
LINEAR = ((9600, 320, 2560), (2400, 640, 5120), (600, 1280, 10240))
"""Tokens, and numbers of each before and after, of their widest layers."""
HEADS, TOKENS, REFERENCE_TOKENS, HEAD_SIZE = 5, 9600, 4096, 64
"""Of the first level's attention."""

Layer = Callable[[Tensor], Tensor]


def measured(layer: Layer, given: Tensor, exact: Tensor | None) -> str:
    """A table's cell: milliseconds, and the error."""
    made, seconds = layer(given), []
    for _ in range(REPEATS):
        start = time.process_time()
        layer(given)
        seconds.append(time.process_time() - start)
    cell = f"{1000 * min(seconds):.0f}"
    if exact is None:
        return cell
    off = (made.float() - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
    return f"{cell} ({off:.1e})"


def with_int8_weights(layer: nn.Linear) -> Layer:
    """The layer with weights of 8 bits, by torch's own quantisation, which its authors no longer keep up."""
    from torch.ao.quantization import quantize_dynamic  # pyright: ignore[reportDeprecated]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_dynamic(nn.Sequential(layer), {nn.Linear}, dtype=torch.qint8)  # pyright: ignore[reportDeprecated]


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    print(f"{describe_machine()}.\n\n| layer | float32 | channels last | bfloat16 | channels last | int8 |")
    print("|---|---:|---:|---:|---:|---:|")
    with torch.no_grad():
        for channels, height, width in CONVOLUTIONS:
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            given = torch.randn(1, channels, height, width)
            exact = convolution(given)
            cells = []
            for dtype in (torch.float32, torch.bfloat16):
                for layout in (torch.contiguous_format, torch.channels_last):
                    layer = convolution.to(dtype).to(memory_format=layout)
                    reference = exact if cells else None
                    cells.append(measured(layer, given.to(dtype=dtype, memory_format=layout), reference))
            print(f"| convolution, {channels} at {height} x {width} | {' | '.join(cells)} | |", flush=True)
        for tokens, before, after in LINEAR:
            linear, given = nn.Linear(before, after), torch.randn(1, tokens, before)
            exact = linear(given)
            first, last = measured(linear, given, None), measured(with_int8_weights(linear), given, exact)
            half = measured(linear.to(torch.bfloat16), given.to(torch.bfloat16), exact)
            print(f"| linear, {before} to {after}, {tokens} tokens | {first} | | {half} | | {last} |", flush=True)
        query = torch.randn(1, HEADS, TOKENS, HEAD_SIZE)
        keys = torch.randn(1, HEADS, TOKENS + REFERENCE_TOKENS, HEAD_SIZE)

        def attend(asking: Tensor) -> Tensor:
            seen = keys.to(asking.dtype)
            return scaled_dot_product_attention(asking, seen, seen)

        first, half = measured(attend, query, None), measured(attend, query.to(torch.bfloat16), attend(query))
        print(f"| attention, {TOKENS} tokens to {TOKENS + REFERENCE_TOKENS} | {first} | | {half} | | |")


if __name__ == "__main__":
    main()
