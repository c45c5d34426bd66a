# SPDX-License-Identifier: Apache-2.0
"""Exponential decay of the learning rate over the whole run, as a Python float.

Nerfstudio's `ExponentialDecayScheduler` returns numpy floats, which end up in the checkpoint and make
`torch.load(..., weights_only=True)` (the default since torch 2.6) refuse it: nerfstudio #3683.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass
class ExponentialDecayConfig(SchedulerConfig):
    """Decay from the optimizer's learning rate to `lr_final`, after an optional warm-up."""

    _target: type = field(default_factory=lambda: ExponentialDecay)
    lr_final: float = 1e-6
    """Learning rate at the last step."""
    warmup_fraction: float = 0.0
    """Fraction of the run in which the learning rate rises from 0, along a quarter of a sine."""
    max_steps: int = 0
    """Step at which `lr_final` is reached; 0: the last step (--max-num-iterations)."""


class ExponentialDecay(Scheduler):
    """Creates the torch scheduler of an `ExponentialDecayConfig` whose `max_steps` is set."""

    config: ExponentialDecayConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        """The scheduler of `optimizer`, whose learning rate starts at `lr_init`.

        Raises:
            ValueError: `max_steps` is not positive (the trainer sets it to the length of the run).
        """
        config = self.config
        if config.max_steps < 1:
            raise ValueError("ExponentialDecayConfig.max_steps must be set to the run's number of steps")
        return LambdaLR(
            optimizer,
            lambda step: decay_factor(step, config.max_steps, config.lr_final / lr_init, config.warmup_fraction),
        )


def decay_factor(step: int, max_steps: int, final_factor: float, warmup_fraction: float = 0.0) -> float:
    """Factor on the initial learning rate at `step`: 1 at the start, `final_factor` from `max_steps` on."""
    warmup_steps = warmup_fraction * max_steps
    if step < warmup_steps:
        return math.sin(0.5 * math.pi * step / warmup_steps)
    progress = min(max((step - warmup_steps) / max(max_steps - warmup_steps, 1), 0.0), 1.0)
    return math.exp(math.log(final_factor) * progress)
