# SPDX-License-Identifier: Apache-2.0
"""Networks that are in a GPU's memory only while they compute."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def on_device(network: nn.Module, device: torch.device | None) -> Generator[None]:
    """Context in which a network is on a device; afterwards it is in main memory.

    Do not run a backward pass through the network: it would need the weights after the context has ended.

    Args:
        network: The network.
        device: The device; None: it stays where it is.
    """
    if device is None:
        yield
        return
    network.to(device)
    try:
        yield
    finally:
        network.to("cpu")
