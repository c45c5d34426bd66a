# SPDX-License-Identifier: Apache-2.0
"""Adam for Gaussians: one compiled pass over each parameter on a CPU, and idle Gaussians cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from img3d_kernels.rendering import default_backend

TORCHS_OPTIONS = ("weight_decay", "decoupled_weight_decay", "amsgrad", "maximize", "capturable", "differentiable")
"""What the compiled step does not have. (`foreach` and `fused` choose between implementations of the same step.)"""


class GaussianAdam(torch.optim.Adam):
    """`torch.optim.Adam` that leaves a row (a Gaussian) alone, moments included, while its gradient is zero.

    So a Gaussian that the step's camera does not see keeps its place, as with gsplat's SelectiveAdam; with gradients
    everywhere the result is torch's. The state has torch's names, for gsplat's strategies and for checkpoints.

    Parameters that are not float32 on a CPU, and options that the compiled step does not have (`weight_decay`,
    `amsgrad`, `maximize` and the like), are left to torch's own step, which moves every row.
    """

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As upstream's, without the profiler's mark that costs more than the rest."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the parameters; the closure, if any, is evaluated first and its loss returned."""
        if not all(_is_ours(group) for group in self.param_groups):
            return super().step(closure)
        from img3d_kernels import _C

        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None or p.numel() == 0:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                _C.adam_step(
                    p.detach().numpy(),
                    p.grad.contiguous().numpy(),
                    state["exp_avg"].numpy(),
                    state["exp_avg_sq"].numpy(),
                    float(group["lr"]),
                    beta1,
                    beta2,
                    group["eps"],
                    int(state["step"].item()),
                    True,
                )
        return loss

    # torch wraps the first step that it finds without this in a profiler's mark, which for a few thousand Gaussians
    # costs more than the update. What is given up with it is hooks on steps.
    step.hooked = True  # pyright: ignore[reportFunctionMemberAccess]


def _is_ours(group: dict[str, Any]) -> bool:
    if any(group.get(option) for option in TORCHS_OPTIONS):
        return False
    return all(default_backend(p) == "cpu" and p.dim() > 0 and p.is_contiguous() for p in group["params"])
