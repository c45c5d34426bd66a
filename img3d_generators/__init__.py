# SPDX-License-Identifier: Apache-2.0
"""One image → a 3D asset: networks, their cameras and their weights, in plain torch. Knows no Nerfstudio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img3d_assets.activated_gaussians import ActivatedGaussians

__all__ = ["image_to_gaussians"]


def image_to_gaussians(
    path: str | Path, view_generator: str = "auto", network: str = "auto", seed: int = 0
) -> ActivatedGaussians:
    """Gaussians of the object in an image.

    Args:
        path: An image file of one object, best with a transparent background.
        view_generator: What paints the object's other sides; "auto": the best whose weights are on this machine, which
            is img3d-tiny if there are none. `img3d-weights list` shows all.
        network: What makes Gaussians of the views; "auto": the one that takes this generator's views.
        seed: Of all noise; the same Gaussians come of the same seed.

    Returns:
        N Gaussians on the CPU, y up, +z towards the viewer of the image; means, quats, scales, opacities and rgbs after
        their activations.

    Raises:
        InputError: The image cannot be used, weights are not here, or the network is not for these views.
    """
    # Imported late: data parsers import this package, and networks take seconds.
    from img3d_generators.pairing import OWN_VIEW_GENERATOR, best_view_generator, check_pair, network_for

    path = Path(path)
    view_generator = best_view_generator() if view_generator == "auto" else view_generator
    network = network_for(view_generator) if network == "auto" else network
    check_pair(view_generator, network)
    if view_generator == OWN_VIEW_GENERATOR:
        from img3d_generators.image_preparation import prepared_image
        from img3d_generators.tiny import TINY_BORDER_RATIO, load_tiny

        return load_tiny().generate(prepared_image(path, TINY_BORDER_RATIO))
    from img3d_generators.published_networks import image_to_views, published_lgm, views_to_gaussians

    views, _ = image_to_views(path, view_generator, seed=seed)
    return views_to_gaussians(views, published_lgm(network))
