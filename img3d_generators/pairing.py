# SPDX-License-Identifier: Apache-2.0
"""Which network makes Gaussians of which generator's views: cameras and framing must be those it was trained on."""

from __future__ import annotations

from img3d_base.errors import InputError
from img3d_generators.checkpoints import checkpoint, checkpoints
from img3d_generators.weights import available

PUBLISHED_VIEW_GENERATORS = ("zero123plus-v1.2", "instantmesh-zero123plus-white", "zero123plus-v1.1")
"""Newer ones first."""
OWN_VIEW_GENERATOR = "img3d-tiny"


def best_view_generator() -> str:
    """The best view generator whose weights are on this machine."""
    here = (name for name in PUBLISHED_VIEW_GENERATORS if available(name) is not None)
    return next(here, OWN_VIEW_GENERATOR)


def network_for(view_generator: str) -> str:
    """The network that takes a view generator's views.

    Raises:
        InputError: There is no such view generator.
    """
    return _networks_for(view_generator)[0]


def check_pair(view_generator: str, network: str) -> None:
    """Check that a network was made for the cameras and the framing of a view generator.

    Raises:
        InputError: It was not; the message names those that were.
    """
    fitting = _networks_for(view_generator)
    if network not in fitting:
        raise InputError(
            f"{network} does not take the views of {view_generator}: it was trained on other cameras and another "
            f"framing. For these views --pipeline.network may be {' or '.join(fitting)}; or leave it out"
        )


def _networks_for(view_generator: str) -> list[str]:
    kind = checkpoint(view_generator).kind
    return [name for name, known in checkpoints().items() if kind in known.input.get("views_of", ())]
