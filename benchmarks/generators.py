# SPDX-License-Identifier: Apache-2.0
"""What generating costs: time and peak memory of each network, with random weights.

python benchmarks/generators.py
python benchmarks/generators.py --only lgm-tiny-float32

Every row runs in a process of its own, whose peak memory is that of Python, torch (about 0.4 GiB) and the network. On
CUDA where there is a device.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from kernels import describe_machine
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from img3d_assets.fields.triplane import FieldMlp, TriplaneField
from img3d_assets.meshing.field_surface import surface_of
from img3d_generators.cameras import LGM_FOV, ZERO123PLUS_RIGS, normalised_to_first
from img3d_generators.instantmesh.heads import MeshHead
from img3d_generators.instantmesh.network import InstantMesh, config_of
from img3d_generators.lgm import LGM, LGM_CONFIGS, LGM_INPUT_SIZE, network_input
from img3d_generators.small.columns import INPUT_SIZE
from img3d_generators.small.generator import load_small
from img3d_generators.trellis.cost import structure_operations
from img3d_generators.trellis.files import network_for
from img3d_generators.trellis.latent_flow import LatentFlowConfig
from img3d_generators.trellis.structure import FlowConfig
from img3d_generators.trellis.transformer import FlowTransformer
from img3d_generators.trellis.voxels import VoxelGrid
from img3d_generators.triposr.network import SURFACE_DENSITY, Triposr, TriposrConfig, field_of
from img3d_generators.weights.checkpoints import checkpoint
from img3d_kernels.attention import attention
from img3d_kernels.ray_marching import OccupancyGrid, march

Run = Callable[[], object]
TRELLIS_TOKENS = 1374
"""Tokens of the image that TRELLIS's flows attend to; without an image they attend to one."""
TRELLIS_BLOCKS = 2
"""Blocks of the flow that are compared with plain matrix products; all 24 take minutes."""
REPEATS, MIN_SECONDS = 3, 60.0
"""Runs of a row, and the time after which no other begins."""


@dataclass
class Cost:
    """What one run takes."""

    seconds: float
    """Of the fastest of a few runs."""
    processor_seconds: float
    """Least processor time of these runs, of all threads together; other programs change it less than `seconds`."""
    gibibytes: float
    """Most memory in use: resident on the CPU, allocated on the device on CUDA."""


def device() -> torch.device:
    """Where the rows are run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def with_random_weights(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network as it is after loading, with random weights.

    Noise for matrices and convolutions, and 1 for the scales of norms, which keeps all layers' numbers in range: a CPU
    takes a hundred times as long for numbers that are nearly 0.
    """
    with torch.device("meta"):
        module = make().to(dtype)
    module.to_empty(device=device())
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() > 1:
            parameter.normal_(std=0.02)
        else:
            parameter.fill_(1.0)
    return module.eval()


def lgm(size: str, dtype: torch.dtype, num_views: int = 4) -> Run:
    """LGM from views to Gaussians."""
    model = with_random_weights(lambda: LGM(LGM_CONFIGS[size]), dtype)
    assert isinstance(model, LGM)
    poses, _ = normalised_to_first(ZERO123PLUS_RIGS["v1.1"].camera_to_worlds()[:num_views])
    images = torch.rand(num_views, 3, LGM_INPUT_SIZE, LGM_INPUT_SIZE)
    views = network_input(images, poses, LGM_FOV).to(device())
    return partial(model.generate, views)


def img3d_small() -> Run:
    """img3d-small from a picture to Gaussians."""
    generator = load_small()
    return partial(generator.generate, torch.ones(4, INPUT_SIZE, INPUT_SIZE))


def zero123plus_step(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Run:
    """One step of Zero123++ with guidance: both passes of its UNet, on two latents each."""
    from diffusers import UNet2DConditionModel

    from img3d_generators.zero123plus.reference_attention import ReferenceUNet

    config = checkpoint("zero123plus-v1.2").architecture["unet"]
    unet = with_random_weights(lambda: UNet2DConditionModel(**config), dtype)
    assert isinstance(unet, UNet2DConditionModel)
    torch.nn.Module.to(unet, memory_format=layout)  # pyright does not see through the decorator of diffusers
    inputs = [(2, 4, 120, 80), (2, 4, 64, 64), (), (2, 77, 1024)]
    sample, reference, timestep, embeds = (torch.randn(shape).to(device(), dtype) for shape in inputs)
    return partial(ReferenceUNet(unet), sample, reference, timestep, embeds)


def zero123plus_decoding(dtype: torch.dtype, layout: torch.memory_format, tile: int = 0) -> Run:
    """The decoding of Zero123++'s picture, whole or in overlapping tiles of so many pixels."""
    from diffusers import AutoencoderKL

    config = checkpoint("zero123plus-v1.2").architecture["vae"]
    vae = with_random_weights(lambda: AutoencoderKL(**config), dtype)
    assert isinstance(vae, AutoencoderKL)
    torch.nn.Module.to(vae, memory_format=layout)
    if tile:
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = tile, tile // 8
    latents = torch.randn(1, 4, 120, 80).to(device(), dtype)
    return partial(vae.decode, latents, return_dict=False)  # pyright: ignore[reportArgumentType]  # as in model.py


def triposr(dtype: torch.dtype) -> Run:
    """TripoSR from a picture to its triplane."""
    model = with_random_weights(lambda: Triposr(TriposrConfig()))
    assert isinstance(model, Triposr)
    return partial(model.generate, torch.rand(3, 512, 512), dtype)


def ball() -> TriplaneField:
    """A field with the published sizes that shows a ball: random weights have no surface."""
    config = TriposrConfig()
    size = 2 * config.plane_size
    side = (torch.arange(size) + 0.5) / size * 2 - 1
    planes = torch.zeros(3, config.plane_channels, size, size)
    planes[0, 0] = side[None] ** 2 + side[:, None] ** 2
    planes[1, 0] = side[:, None] ** 2
    mlp = FieldMlp(3 * config.plane_channels, config.mlp_channels, config.mlp_layers)
    linear = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    far = 100.0  # from where on SiLU is linear
    for layer in linear:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer.weight.data[0, 0] = 1.0
    linear[0].weight.data[0, config.plane_channels] = 1.0
    linear[0].bias.data[0] = far
    linear[-1].weight.data[0, 0] = -40.0
    linear[-1].bias.data[0] = 40.0 * (far + 0.25) + math.log(SURFACE_DENSITY) + 1
    return field_of(planes, mlp).requires_grad_(False)


def triposr_mesh(resolution: int) -> Run:
    """The mesh of a field, with vertex colours."""
    return partial(surface_of, ball(), resolution)


def triposr_view(size: int) -> Run:
    """A render of a field, and the grid of its empty space, which is otherwise made once."""
    field = ball()
    low, high = field.rendered_bounds
    pose = torch.tensor([[0.0, 0, 1, 1.9], [1, 0, 0, 0], [0, 1, 0, 0]])
    rays = torch.nn.functional.normalize(
        torch.stack(
            torch.meshgrid(*[torch.linspace(-0.36, 0.36, size)] * 2, torch.tensor(-1.0), indexing="ij"), -1
        ).reshape(-1, 3)
        @ pose[:, :3].T,
        dim=-1,
    )
    assert field.path_length is not None
    least = 0.01 / field.path_length

    def render() -> object:
        occupied = OccupancyGrid.of(field.query, low, high, 64, least)
        origins = pose[:, 3].expand_as(rays)
        return march(field.query, origins, rays, low, high, 128, field.path_length, field.shortest_path, occupied)

    return render


def instantmesh(architecture: str, dtype: torch.dtype) -> Run:
    """InstantMesh from six views to its triplane."""
    config = config_of(checkpoint(architecture).architecture)
    model = with_random_weights(lambda: InstantMesh(config))
    assert isinstance(model, InstantMesh)
    return partial(model.planes, torch.rand(6, 3, config.image_size, config.image_size), torch.rand(6, 16), dtype)


def instantmesh_mesh(texture_size: int = 0) -> Run:
    """The mesh of planes with the large network's sizes that show a ball: random weights have no surface."""
    config = config_of(checkpoint("instantmesh-mesh-large").architecture)
    head = MeshHead(config.plane_channels, config.head_channels).requires_grad_(False)
    size = 2 * config.plane_size
    side = (torch.arange(size) + 0.5) / size * 2 - 1
    planes = torch.zeros(3, config.plane_channels, size, size)
    planes[0, 0] = 2 - side[None] ** 2 - side[:, None] ** 2  # 0 outside of the planes has to mean far away
    planes[1, 0] = 1 - side[:, None] ** 2
    linear = [layer for layer in head.net_sdf if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer.weight[0, 0] = 1.0
    linear[0].weight[0, [0, config.plane_channels]] = -1.0
    linear[0].bias[0] = 3.0
    linear[-1].bias[0] = -0.5
    return partial(head.mesh, planes, config.grid_resolution, config.grid_scale, texture_size)


def trellis_step(part: str, dtype: torch.dtype, blocks: int = FlowConfig.num_blocks) -> Run:
    """A guided step of one of TRELLIS's flows, with all or some blocks: two velocities. The details are of voxels on a
    spherical shell."""
    flow = with_random_weights(lambda: network_for(part, {part: {"num_blocks": blocks}}))
    assert isinstance(flow, FlowTransformer)
    for buffer in flow.buffers():
        buffer.normal_()
    image = torch.randn(TRELLIS_TOKENS, FlowConfig().cond_channels, device=device())
    conditions = [flow.prepared(image), flow.prepared(image.new_zeros(1, image.shape[1]))]
    inputs: tuple[torch.Tensor, ...] = (torch.randn(2, *(FlowConfig().in_channels, 16, 16, 16), device=device()),)
    grid = ()
    if part == "latent_flow":
        shell = trellis_shell()
        inputs, grid = (torch.randn(2, len(shell), LatentFlowConfig().in_channels, device=device()),), (shell,)
    time_of_step = torch.tensor([700.0], device=device())

    def step() -> object:
        with torch.autocast(device().type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
            return flow(*inputs, time_of_step, conditions, *grid)

    return step


def trellis_products(dtype: torch.dtype) -> Run:
    """As many operations as a guided step of TRELLIS's structure with `TRELLIS_BLOCKS`, in matrix products of its MLPs'
    size only, which is the least time for the step."""
    config = FlowConfig(num_blocks=TRELLIS_BLOCKS)
    tokens, channels = 2 * config.resolution**3, config.model_channels
    left, right = (
        torch.randn(tokens, channels).to(device(), dtype),
        torch.randn(channels, 4 * channels).to(device(), dtype),
    )
    count = round(2 * structure_operations(config, (TRELLIS_TOKENS + 1) // 2) / (2 * tokens * 4 * channels**2))

    def products() -> None:
        for _ in range(count):
            torch.mm(left, right)

    return products


def trellis_attention(function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> Run:
    """Attention among the tokens of TRELLIS's structure, in bfloat16, without projections."""
    config = FlowConfig()
    shape = 1, config.resolution**3, config.num_heads, config.model_channels // config.num_heads
    return partial(function, *(torch.randn(shape, device=device()).bfloat16() for _ in range(3)))


def torchs_attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`img3d_kernels.attention` by torch."""
    q, k, v = (tokens.transpose(1, 2) for tokens in (queries, keys, values))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)


def trellis_shell() -> VoxelGrid:
    """About 18,000 voxels on a spherical shell, which are as many as a usual object has."""
    places = torch.cartesian_prod(*(torch.arange(64),) * 3)
    radii = (places + 0.5 - 32).norm(dim=1)
    return VoxelGrid(places[(radii - 27).abs() < 1].to(device()))


ROWS: dict[str, Callable[[], Run]] = {
    "lgm-big-float32": partial(lgm, "big", torch.float32),
    "lgm-big-bfloat16": partial(lgm, "big", torch.bfloat16),
    "lgm-big-float32-6-views": partial(lgm, "big", torch.float32, 6),
    "lgm-tiny-float32": partial(lgm, "tiny", torch.float32),
    "zero123plus-step-float32": partial(zero123plus_step, torch.float32),
    "zero123plus-step-bfloat16": partial(zero123plus_step, torch.bfloat16),
    "zero123plus-step-float32-channels-last": partial(zero123plus_step, torch.float32, torch.channels_last),
    "zero123plus-step-bfloat16-channels-last": partial(zero123plus_step, torch.bfloat16, torch.channels_last),
    "zero123plus-decoding-float32": partial(zero123plus_decoding, torch.float32, torch.contiguous_format),
    "zero123plus-decoding-float32-tiles": partial(zero123plus_decoding, torch.float32, torch.contiguous_format, 320),
    "zero123plus-decoding-float32-channels-last": partial(zero123plus_decoding, torch.float32, torch.channels_last),
    "triposr-float32": partial(triposr, torch.float32),
    "triposr-bfloat16": partial(triposr, torch.bfloat16),
    "triposr-mesh-256": partial(triposr_mesh, 256),
    "triposr-view-400": partial(triposr_view, 400),
    "instantmesh-base-float32": partial(instantmesh, "instantmesh-mesh-base", torch.float32),
    "instantmesh-large-float32": partial(instantmesh, "instantmesh-mesh-large", torch.float32),
    "instantmesh-large-bfloat16": partial(instantmesh, "instantmesh-mesh-large", torch.bfloat16),
    "instantmesh-mesh-128": instantmesh_mesh,
    "instantmesh-texture-1024": partial(instantmesh_mesh, 1024),
    "trellis-structure-float32": partial(trellis_step, "structure_flow", torch.float32),
    "trellis-structure-bfloat16": partial(trellis_step, "structure_flow", torch.bfloat16),
    "trellis-2-blocks-float32": partial(trellis_step, "structure_flow", torch.float32, TRELLIS_BLOCKS),
    "trellis-2-blocks-bfloat16": partial(trellis_step, "structure_flow", torch.bfloat16, TRELLIS_BLOCKS),
    "trellis-2-blocks-as-products-float32": partial(trellis_products, torch.float32),
    "trellis-2-blocks-as-products-bfloat16": partial(trellis_products, torch.bfloat16),
    "trellis-attention-bfloat16": partial(trellis_attention, attention),
    "trellis-attention-bfloat16-torch": partial(trellis_attention, torchs_attention),
    "trellis-details-float32": partial(trellis_step, "latent_flow", torch.float32),
    "trellis-details-bfloat16": partial(trellis_step, "latent_flow", torch.bfloat16),
    "img3d-small": img3d_small,
}
"""By name, what prepares a run; it may take long and much memory, but not more than the run itself."""


def measure(name: str) -> Cost:
    """Prepare and run one row in this process."""
    return cost_of(ROWS[name]())


def cost_of(run: Run) -> Cost:
    """What a run takes, in this process."""
    seconds: list[float] = []
    of_processor: list[float] = []
    with torch.no_grad():
        while len(seconds) < REPEATS and sum(seconds) < MIN_SECONDS:
            start, processor_start = time.perf_counter(), time.process_time()
            run()
            if device().type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
            of_processor.append(time.process_time() - processor_start)
    if device().type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Cost(min(seconds), min(of_processor), memory)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows to measure")
    arguments = parser.parse_args()
    print(f"{describe_machine()}.\n\n| generator | seconds | processor seconds | peak memory, GiB |")
    print("|---|---:|---:|---:|")
    for name in arguments.only:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            cost = pool.apply(measure, (name,))
        print(f"| {name} | {cost.seconds:.2f} | {cost.processor_seconds:.2f} | {cost.gibibytes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
