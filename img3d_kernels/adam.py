# SPDX-License-Identifier: Apache-2.0
"""Adam for Gaussians: one compiled pass over each parameter on the CPU; Gaussians without a gradient are skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from img3d_kernels.rendering import default_backend

UNSUPPORTED_OPTIONS = ("weight_decay", "decoupled_weight_decay", "amsgrad", "maximize", "capturable", "differentiable")
"""Options of torch's Adam that the compiled step lacks. (`foreach` and `fused` only select an implementation.)"""


class GaussianAdam(torch.optim.Adam):
    """`torch.optim.Adam` that does not update a row (a Gaussian) or its moments in steps where its gradient is zero.

    Like gsplat's SelectiveAdam, it leaves Gaussians unchanged that the step's camera does not see. Where all gradients
    are nonzero the result equals torch's. The state has torch's names, for gsplat's strategies and for checkpoints.

    If any parameter is not float32 on the CPU, or an option is set that the compiled step lacks (`weight_decay`,
    `amsgrad`, `maximize` and the like), torch's own step is used, which updates every row.
    """

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's, without its profiler annotation, which costs more than the rest."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates the parameters; the closure, if any, is evaluated first and its loss is returned."""
        if not all(_is_supported(group) for group in self.param_groups):
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

    # torch wraps `step` in a profiler annotation unless it has this attribute; for a few thousand Gaussians that costs
    # more than the update. Step hooks do not work without the wrapper.
    step.hooked = True  # pyright: ignore[reportFunctionMemberAccess]


def _is_supported(group: dict[str, Any]) -> bool:
    if any(group.get(option) for option in UNSUPPORTED_OPTIONS):
        return False
    return all(default_backend(p) == "cpu" and p.dim() > 0 and p.is_contiguous() for p in group["params"])
