# SPDX-License-Identifier: Apache-2.0
"""TripoSR as a generator: its published weights, and its field in the world of the registry."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from img3d_assets.fields.triplane import TriplaneField
from img3d_base.console import CONSOLE
from img3d_generators.cameras import TO_FRONT_ON_Z
from img3d_generators.networks.devices import Precision, default_device, dtype_of
from img3d_generators.triposr.network import config_of, load_triposr
from img3d_generators.triposr.preparation import on_grey
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.weight_files import to_use


def triposr_field(name: str) -> Callable[..., TriplaneField]:
    """Loads TripoSR for a row of the registry.

    Args:
        name: The checkpoint.

    Returns:
        A function that makes a field from a prepared RGBA image in [0, 1]; it has no random numbers, so the seed is
        ignored.

    Raises:
        InputError: The weights are not installed, damaged, or for another network.
    """
    known = checkpoint(name)
    device = default_device()
    path = to_use(name) / known.files[0].path
    with CONSOLE.status(f"Loading {name}"):
        network = load_triposr(path, config_of(known.architecture)).to(device)

    def field(image: Float[Tensor, "4 S S"], seed: int = 0, precision: Precision = "float32") -> TriplaneField:
        with CONSOLE.status("Generating a field"):
            made = network.generate(on_grey(image), dtype_of(precision, device))
        return made.turned(TO_FRONT_ON_Z, up="y")

    return field
