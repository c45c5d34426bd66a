# SPDX-License-Identifier: Apache-2.0
"""What one core makes of its multiply-adds and exponentials in a training step of a radiance field: the fused pass of
`img3d_kernels.fields`, which renders the rays of a step and calculates all gradients.

The field is random and thin, so that no sample is dropped. Only the networks' multiply-adds count, not those of the
hash grid, the weights along rays and their gradients; so the share that the pass has is a little higher.

    python benchmarks/field_pass.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from kernels import ceilings, describe_machine, isa

from img3d_kernels.fields.radiance_field import (
    GEOMETRY,
    HIDDEN,
    FieldParameters,
    FieldSpace,
    first_weights,
    has_bfloat16,
)
from img3d_kernels.fields.rays import Rays, Samples
from img3d_kernels.fields.volume_rendering import field_loss
from img3d_kernels.hash_grid import level_resolutions

EXPONENTIALS = 3 + 2
"""For each sample: the colour's sigmoid, the density, and the light that passes."""


def multiply_adds(num_levels: int) -> int:
    """Of the networks for each sample: forward once, and backward as many for the weights and for the inputs."""
    density = 2 * num_levels * HIDDEN + HIDDEN * GEOMETRY
    color = GEOMETRY * HIDDEN + HIDDEN * HIDDEN + HIDDEN * 3
    return 3 * (density + color)


def seconds_of_a_pass(
    num_rays: int, num_samples: int, num_levels: int, log2_table_size: int, bfloat16: bool, repeats: int
) -> float:
    """The median of `repeats` passes on one thread, after one to warm up."""
    from img3d_kernels import _C

    torch.manual_seed(0)
    table = torch.empty(num_levels, 1 << log2_table_size, 2).uniform_(-0.1, 0.1).requires_grad_()
    networks = first_weights(num_levels).requires_grad_()
    field = FieldParameters(
        table, networks, level_resolutions(num_levels, 16, 2048), FieldSpace.unbounded(), -2.0, bfloat16
    )
    directions = torch.nn.functional.normalize(torch.randn(num_rays, 3), dim=1)
    features = torch.randn(num_rays, HIDDEN).requires_grad_()
    ends = torch.full((num_rays,), 0.05), torch.full((num_rays,), 4.0)
    rays = Rays(0.3 * torch.randn(num_rays, 3), directions, *ends, features)
    length = 4.0 / num_samples
    middles = length * (torch.arange(num_samples) + torch.rand(num_rays, 1))
    counts = torch.full((num_rays,), num_samples, dtype=torch.int32)
    samples = Samples(counts, middles, torch.full_like(middles, length))
    colors = torch.rand(2, num_rays, 3)
    threads = _C.num_threads()
    _C.set_num_threads(1)
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        field_loss(field, rays, samples, *colors, distortion=0.002, near_scaling=True)
        times.append(time.perf_counter() - began)
    _C.set_num_threads(threads)
    return statistics.median(times[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 64], help="of each ray")
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 16], help="of the hash grid")
    parser.add_argument("--log2-table-size", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=15, help="passes to take the median of")
    arguments = parser.parse_args()
    if isa() is None:
        sys.exit("The compiled backend is not built: install the package.")
    fmas, exps = ceilings()
    print(
        f"{describe_machine()}. One core, which can do {fmas / 1e9:.1f} G multiply-adds/s (a matrix product) and "
        f"{exps / 1e9:.2f} G exp/s (torch's, in the cache).\n"
    )
    print("| rays | samples of each | levels | factors | ms a pass | samples/s | of multiply-adds | of exp |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|")
    for levels in arguments.levels:
        for samples in arguments.samples:
            for bfloat16 in (False, True) if has_bfloat16() else (False,):
                seconds = seconds_of_a_pass(
                    arguments.rays, samples, levels, arguments.log2_table_size, bfloat16, arguments.repeats
                )
                rate = arguments.rays * samples / seconds
                print(
                    f"| {arguments.rays:,} | {samples} | {levels} | {'bfloat16' if bfloat16 else 'float32'} "
                    f"| {1e3 * seconds:.1f} | {rate / 1e6:.2f} M | {rate * multiply_adds(levels) / fmas:.0%} "
                    f"| {rate * EXPONENTIALS / exps:.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
