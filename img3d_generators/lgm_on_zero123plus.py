# SPDX-License-Identifier: Apache-2.0
"""The published networks combined: an image → six views (Zero123++) → Gaussians (LGM)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_base.console import CONSOLE
from img3d_base.progress import with_progress
from img3d_generators.bridge import DEFAULT_VIEWS, BridgeMode, bridge
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.image_preparation import OpenSession, matted, prepared_image, to_pil
from img3d_generators.lgm import LGM, UNetConfig, load_lgm
from img3d_generators.networks.devices import default_device, default_dtype
from img3d_generators.posed_views import PosedViews
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.weight_files import to_use
from img3d_generators.zero123plus.model import Progress, seeded_noise, split_tiles
from img3d_generators.zero123plus.samplers import Quality
from img3d_pictures.background import open_u2net

WHITE = 255


def _shown(steps: range) -> Iterator[int]:
    return with_progress(steps, "Generating six views", len(steps))


def image_to_views(
    path: Path,
    name: str = "zero123plus-v1.2",
    num_steps: int = 28,
    guidance_scale: float = 4.0,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    open_session: OpenSession = open_u2net,
    progress: Progress = _shown,
    quality: Quality = "full",
) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
    """Six views of the object in an image, by Zero123++.

    Args:
        path: An image file of one object.
        name: The checkpoint: zero123plus-v1.1, zero123plus-v1.2 or instantmesh-zero123plus-white.
        num_steps: Number of denoising steps: 28, or up to 75 for fine detail.
        guidance_scale: Of classifier-free guidance.
        seed: Random seed; the same seed gives the same views on a CPU and a GPU.
        dtype: Data type of the computation; None is `default_dtype`.
        device: Device of the computation; None is CUDA if available.
        open_session: Returns the segmentation model for images without transparency and for views on grey.
        progress: Wraps the range of denoising steps.
        quality: Of the sampler: "fast" takes half as many steps of another one.

    Returns:
        The views, on white, and the prepared input image.

    Raises:
        InputError: The weights are missing, or the image cannot be used.
    """
    from img3d_generators.zero123plus.files import load_zero123plus

    known = checkpoint(name)
    folder = to_use(name)
    open_once = cache(open_session)
    image = prepared_image(path, known.input["border_ratio"], open_session=open_once)
    background = known.input["background"]
    session = open_once() if background != WHITE else None  # before the slow part
    where = default_device() if device is None else torch.device(device)
    with CONSOLE.status(f"Loading {name}"):
        model = load_zero123plus(folder, background, dtype or default_dtype(where), where)
    grid = model.generate(
        to_pil(image), num_steps, guidance_scale, seeded_noise(seed), progress=progress, quality=quality
    )
    rig = ZERO123PLUS_RIGS[known.input["rig"]]
    views = PosedViews(split_tiles(grid), rig.camera_to_worlds(), rig.fov)
    return (views if session is None else matted(views, background, session)), image


def published_lgm(
    name: str = "lgm-big", dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> LGM:
    """LGM with its published weights.

    Args:
        name: The checkpoint: lgm-big or lgm-big-fp32.
        dtype: Data type of the computation; None is `default_dtype`.
        device: Device of the computation; None is CUDA if available.

    Raises:
        InputError: The weights are missing or damaged.
    """
    known = checkpoint(name)
    where = default_device() if device is None else torch.device(device)
    path = to_use(name) / known.files[0].path
    return load_lgm(path, UNetConfig(**known.architecture), dtype or default_dtype(where)).to(where)


def views_to_gaussians(
    views: PosedViews, network: LGM, mode: BridgeMode = "rescale", indices: Sequence[int] = DEFAULT_VIEWS
) -> ActivatedGaussians:
    """Generates Gaussians by LGM from four of Zero123++'s six views.

    Args:
        views: All six views.
        network: The network, ready to generate.
        mode: How views are adapted to LGM's field of view: see `bridge`.
        indices: The views that LGM gets; the first one becomes its front.

    Returns:
        The visible Gaussians, on the CPU, in the views' world: +z faces the viewer of the input image.
    """
    bridged = bridge(views.pick(indices), mode)
    gaussians = network.generate(bridged.network_input())
    return bridged.to_world(gaussians.cpu()).pruned()


def zero123plus_views(name: str) -> Callable[..., tuple[PosedViews, Tensor]]:
    """Loader of rows: a Zero123++ that makes views. The network is loaded only after the image has been prepared."""

    def views(
        path: Path, seed: int = 0, num_steps: int = 28, guidance_scale: float = 4.0, quality: Quality = "full"
    ) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
        return image_to_views(path, name, num_steps, guidance_scale, seed, quality=quality)

    return views


def lgm_gaussians(name: str) -> Callable[..., Gaussians]:
    """Loader of rows: an LGM that makes Gaussians from Zero123++'s views."""
    network = published_lgm(name)

    def gaussians(views: PosedViews, bridge: BridgeMode = "rescale") -> Gaussians:
        return views_to_gaussians(views, network, bridge).asset(up="y")

    return gaussians
