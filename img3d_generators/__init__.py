# SPDX-License-Identifier: Apache-2.0
"""An image, views or a text → a 3D asset: networks, their cameras and weights, in plain torch. Knows no Nerfstudio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img3d_assets.field import Field
    from img3d_assets.gaussians import Gaussians
    from img3d_assets.mesh import Mesh
    from img3d_generators.posed_views import PosedViews

__all__ = ["generate"]


def generate(
    name: str,
    source: str | Path | PosedViews,
    view_generator: str = "auto",
    network: str = "auto",
    seed: int = 0,
) -> Gaussians | Mesh | Field:
    """An asset of what an image or a text shows.

    Args:
        name: Of a generator (`img3d_generators.registry.rows()` has all), or "auto" or "object": the best whose weights
            are on this machine, which is img3d-tiny if there are none. `img3d-weights list` shows what can be fetched.
        source: An image file of one object, best with a transparent background; views, for a network that takes these;
            the text itself, for a generator that takes one.
        view_generator: What makes the object's other sides, of a generator with two stages; "auto": the best here.
        network: What makes the asset of the views; "auto": the best here that takes them.
        seed: Of all noise; the same asset comes of the same seed.

    Returns:
        An asset with y up, +z towards the viewer of the image. Gaussians and meshes have `save(path)`.

    Raises:
        InputError: There is no such generator, the image cannot be used, weights are not here, or stages do not fit.
    """
    # Imported late: whoever asks for the name only, such as an entry point, does not wait for networks.
    from img3d_base.errors import InputError
    from img3d_generators.image_preparation import prepared_image
    from img3d_generators.pairing import choose, input_of
    from img3d_generators.posed_views import PosedViews
    from img3d_generators.registry import row

    if isinstance(source, PosedViews):
        taker = row(name)
        if taker.takes != "views":
            raise InputError(f"{name} takes {taker.takes}, not views")
        return taker.loaded()(source)
    choice = choose(name, view_generator, network)
    generator = row(choice.network)
    if choice.has_stages:
        views, _ = row(choice.view_generator).loaded()(Path(source), seed)
        return generator.loaded()(views)
    if generator.takes == "text":
        return generator.loaded()(str(source), seed)
    return generator.loaded()(prepared_image(Path(source), input_of(generator).border_ratio), seed)
