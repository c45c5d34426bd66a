# SPDX-License-Identifier: Apache-2.0
"""gsplat's `DefaultStrategy` (3DGS densification) with a hard limit on the number of Gaussians, and fast on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy

from img3d_kernels.rendering import default_backend


@dataclass
class BudgetedDefaultStrategy(DefaultStrategy):
    """Grows only where the gradient is highest once the budget `cap_max` would be exceeded.

    Args:
        cap_max: Maximum number of Gaussians.
    """

    cap_max: int = 1_000_000

    def step_post_backward(
        self, params: Any, optimizers: Any, state: dict[str, Any], step: int, info: dict[str, Any], packed: bool = False
    ) -> None:
        """Gather statistics; every `refine_every` steps, grow and prune; every `reset_every`, lower opacities.

        Upstream lowers them at step 0 too, and so overrules the opacity that Gaussians are meant to start with.
        """
        if step > 0:
            super().step_post_backward(params, optimizers, state, step, info, packed)
        elif self.refine_stop_iter > 0:
            self._update_state(params, state, info, packed=packed)

    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False) -> None:
        """Upstream's sums of gradients, numbers of views and greatest radii, in one compiled pass on a CPU."""
        means2d = info[self.key_for_gradient]
        compiled = default_backend(means2d) == "cpu" and info["radii"].shape == (1, len(params["means"]))
        if packed or not compiled:
            super()._update_state(params, state, info, packed)
            return
        from img3d_kernels import _C

        with_radii = self.refine_scale2d_stop_iter > 0
        for name in ("grad2d", "count", *(["radii"] if with_radii else [])):
            if state[name] is None:
                state[name] = torch.zeros(len(params["means"]))
        _C.add_grad_stats(
            means2d.absgrad if self.absgrad else means2d.grad,
            info["radii"],
            info["width"] / 2,
            info["height"] / 2,
            float(max(info["width"], info["height"])),
            state["grad2d"],
            state["count"],
            state["radii"] if with_radii else None,
        )

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
        # Each Gaussian that is duplicated or split adds one: let the `room` steepest through. Splitting by size on
        # screen has no order to choose by and is left out.
        threshold = grads.topk(min(room + 1, grads.numel())).values[-1].item()
        limited = replace(unlimited, grow_grad2d=max(threshold, self.grow_grad2d), refine_scale2d_stop_iter=0)
        return limited._grow_gs(params, optimizers, state, step)
