# SPDX-License-Identifier: Apache-2.0
"""gsplat's `DefaultStrategy` (3DGS densification) with a hard limit on the number of Gaussians, and fast on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import reset_opa
from torch import Tensor

from img3d_kernels.grad_stats import GradStats
from img3d_kernels.rendering import default_backend


@dataclass
class BudgetedDefaultStrategy(DefaultStrategy):
    """Grows only where the gradient is highest if growing everywhere would exceed the limit `cap_max`.

    Args:
        cap_max: Maximum number of Gaussians.
    """

    cap_max: int = 1_000_000

    def step_post_backward(
        self, params: Any, optimizers: Any, state: dict[str, Any], step: int, info: dict[str, Any], packed: bool = False
    ) -> None:
        """Gathers statistics, grows and prunes every `refine_every` steps, and resets opacities every `reset_every`.

        Upstream also resets opacities at step 0, which overrides the initial opacity.
        """
        if step > 0:
            super().step_post_backward(params, optimizers, state, step, info, packed)
            if step < self.refine_stop_iter and step % self.reset_every == 0:
                # gsplat 1.5's own condition never holds ("0 & step" binds first). Where it does, twice is as once.
                reset_opa(params=params, optimizers=optimizers, state=state, value=2 * self.prune_opa)
        elif self.refine_stop_iter > 0:
            self._update_state(params, state, info, packed=packed)

    def grad_stats(self, means: Tensor, state: dict[str, Any], step: int) -> GradStats | None:
        """The statistics to which the backward pass of this step's `rasterization` adds.

        None if densification is over, or if gsplat renders, for which upstream accumulates the statistics.
        """
        if step >= self.refine_stop_iter or default_backend(means) == "gsplat":
            return None
        for name in ("grad2d", "count", *(["radii"] if self.refine_scale2d_stop_iter > 0 else [])):
            if state[name] is None:
                state[name] = torch.zeros(len(means), device=means.device)
        return GradStats(state["grad2d"], state["count"], state.get("radii"), self.absgrad)

    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False) -> None:
        """Only for gsplat: our backward pass has already accumulated the statistics."""
        if default_backend(params["means"]) == "gsplat":
            super()._update_state(params, state, info, packed)

    @torch.no_grad()
    def _grow_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> tuple[int, int]:
        room = self.cap_max - len(params["means"])
        if room <= 0:
            return 0, 0
        grads = state["grad2d"] / state["count"].clamp_min(1)
        unlimited = DefaultStrategy(**{name: getattr(self, name) for name in DefaultStrategy.__dataclass_fields__})
        candidates = grads > self.grow_grad2d
        if step < self.refine_scale2d_stop_iter:
            candidates |= state["radii"] > self.grow_scale2d
        if int(candidates.sum()) <= room:
            return unlimited._grow_gs(params, optimizers, state, step)
        # Each duplicated or split Gaussian adds one, so only the `room` highest gradients are let through. Splitting by
        # size on screen is skipped, since it defines no order.
        threshold = grads.topk(min(room + 1, grads.numel())).values[-1].item()
        limited = replace(unlimited, grow_grad2d=max(threshold, self.grow_grad2d), refine_scale2d_stop_iter=0)
        return limited._grow_gs(params, optimizers, state, step)
