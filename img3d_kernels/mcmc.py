# SPDX-License-Identifier: Apache-2.0
"""gsplat's MCMC strategy without its CUDA calls, for parameters on any device.

"3D Gaussian Splatting as Markov Chain Monte Carlo" (Kheradmand et al. 2024, arXiv 2404.09591). Importing gsplat needs
no GPU as long as its kernels are not called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gsplat.strategy import MCMCStrategy as GsplatMCMCStrategy
from gsplat.strategy.ops import _multinomial_sample, _update_param_with_optimizer
from jaxtyping import Bool, Float, Int
from torch import Tensor

from img3d_kernels.relocation import binomial_table, compute_relocation

Params = dict[str, torch.nn.Parameter] | torch.nn.ParameterDict
Optimizers = dict[str, torch.optim.Optimizer]

GROWTH = 1.05
"""Factor by which each refinement increases the number of Gaussians (the authors' value)."""


@dataclass
class MCMCStrategy(GsplatMCMCStrategy):
    """Relocates dead Gaussians, adds new ones up to `cap_max`, and adds noise to the positions of transparent ones.

    Same options and methods as gsplat's `MCMCStrategy`. `opacities` may be `[N]` or, as in splatfacto, `[N, 1]`.
    """

    def initialize_state(self) -> dict[str, Any]:
        """The running state: the table of binomial coefficients."""
        return {"binoms": binomial_table()}

    def step_post_backward(
        self,
        params: Params,
        optimizers: Optimizers,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        lr: float,
    ) -> None:
        """Call it after each optimizer step.

        Args:
            params: The Gaussians, before activation: means, quats, scales (log), opacities (logit) and any others.
            optimizers: One for each parameter.
            state: From `initialize_state`.
            step: Number of this step.
            info: Not used; gsplat's strategies take `rasterization`'s meta here.
            lr: The learning rate of the means, which scales the noise.
        """
        if self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0:
            state["binoms"] = state["binoms"].to(params["means"].device)
            n_relocated = self._relocate_gs(params, optimizers, state["binoms"])
            n_added = self._add_new_gs(params, optimizers, state["binoms"])
            if self.verbose:
                print(f"Step {step}: relocated {n_relocated}, added {n_added}, now {len(params['means'])} Gaussians.")
        add_position_noise(params, lr * self.noise_lr)

    @torch.no_grad()
    def _relocate_gs(self, params: Params, optimizers: Optimizers, binoms: Tensor) -> int:
        dead = torch.sigmoid(params["opacities"].flatten()) <= self.min_opacity
        n_dead = int(dead.sum())
        if n_dead == 0 or n_dead == len(dead):  # nothing to move, or nothing alive to move to
            return 0
        relocate(params, optimizers, dead, binoms, self.min_opacity)
        return n_dead

    @torch.no_grad()
    def _add_new_gs(self, params: Params, optimizers: Optimizers, binoms: Tensor) -> int:
        n_now = len(params["means"])
        n_new = max(0, min(self.cap_max, int(GROWTH * n_now)) - n_now)
        if n_new > 0:
            add_copies(params, optimizers, n_new, binoms, self.min_opacity)
        return n_new


@torch.no_grad()
def relocate(
    params: Params, optimizers: Optimizers, dead: Bool[Tensor, "N"], binoms: Tensor, min_opacity: float
) -> None:
    """Turns each dead Gaussian into a copy of a live one, sampled by opacity. Changes `params` and `optimizers`."""
    alive_ids, dead_ids = (~dead).nonzero()[:, 0], dead.nonzero()[:, 0]
    opacities = torch.sigmoid(params["opacities"].flatten())
    source_ids = alive_ids[_multinomial_sample(opacities[alive_ids], len(dead_ids), replacement=True)]
    shared = _share_between_copies(params, source_ids, binoms, min_opacity)

    def new_param(name: str, param: Tensor) -> Tensor:
        shared(name, param)
        param[dead_ids] = param[source_ids]
        return torch.nn.Parameter(param)

    def new_optimizer_state(_: str, value: Tensor) -> Tensor:
        value[source_ids] = 0
        return value

    _update_param_with_optimizer(new_param, new_optimizer_state, params, optimizers)


@torch.no_grad()
def add_copies(params: Params, optimizers: Optimizers, n: int, binoms: Tensor, min_opacity: float) -> None:
    """Appends `n` copies of Gaussians sampled by opacity. Changes `params` and `optimizers`."""
    source_ids = _multinomial_sample(torch.sigmoid(params["opacities"].flatten()), n, replacement=True)
    shared = _share_between_copies(params, source_ids, binoms, min_opacity)

    def new_param(name: str, param: Tensor) -> Tensor:
        shared(name, param)
        return torch.nn.Parameter(torch.cat([param, param[source_ids]]))

    def new_optimizer_state(_: str, value: Tensor) -> Tensor:
        return torch.cat([value, value.new_zeros(n, *value.shape[1:])])

    _update_param_with_optimizer(new_param, new_optimizer_state, params, optimizers)


@torch.no_grad()
def add_position_noise(params: Params, scaler: float) -> None:
    """Adds noise to `params["means"]`: shaped by each Gaussian's covariance, and only where opacity is near zero."""
    opacities = torch.sigmoid(params["opacities"].flatten())
    transparent = torch.sigmoid(100.0 * ((1.0 - opacities) - 0.995))
    noise = torch.randn_like(params["means"]) * transparent[:, None] * scaler
    params["means"].add_(apply_covariance(params["quats"], torch.exp(params["scales"]), noise))


def apply_covariance(
    quats: Float[Tensor, "N 4"], scales: Float[Tensor, "N 3"], vectors: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Multiplies each vector by its Gaussian's covariance R diag(scales^2) R^T, without forming the matrices."""
    quats = F.normalize(quats, dim=-1)
    w, xyz = quats[:, :1], quats[:, 1:]
    return _rotate(w, xyz, scales * scales * _rotate(w, -xyz, vectors))


def _rotate(w: Float[Tensor, "N 1"], xyz: Float[Tensor, "N 3"], vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Rotates vectors by unit quaternions."""
    twice_cross = 2.0 * torch.linalg.cross(xyz, vectors)
    return vectors + w * twice_cross + torch.linalg.cross(xyz, twice_cross)


def _share_between_copies(
    params: Params, source_ids: Int[Tensor, "M"], binoms: Tensor, min_opacity: float
) -> Callable[[str, Tensor], None]:
    """Returns a function that writes the opacities or scales shared by sources and their copies into a parameter."""
    old_opacities = torch.sigmoid(params["opacities"].flatten())[source_ids]
    copies = torch.bincount(source_ids)[source_ids] + 1
    opacities, scales = compute_relocation(old_opacities, torch.exp(params["scales"][source_ids]), copies, binoms)
    opacities = opacities.clamp(min_opacity, 1.0 - torch.finfo(torch.float32).eps)

    def write(name: str, param: Tensor) -> None:
        if name == "opacities":
            param[source_ids] = torch.logit(opacities).reshape(-1, *param.shape[1:])
        elif name == "scales":
            param[source_ids] = torch.log(scales)

    return write
