# SPDX-License-Identifier: Apache-2.0
"""gsplat's `DefaultStrategy` (3DGS densification) with a hard limit on the number of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy


@dataclass
class BudgetedDefaultStrategy(DefaultStrategy):
    """Grows only where the gradient is highest once the budget `cap_max` would be exceeded.

    Args:
        cap_max: Maximum number of Gaussians.
    """

    cap_max: int = 1_000_000

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
