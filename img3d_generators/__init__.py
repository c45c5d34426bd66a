# SPDX-License-Identifier: Apache-2.0
"""Generators: networks that turn an image, views or a text into a 3D asset, with their cameras and weights, in plain
torch. Independent of Nerfstudio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img3d_assets.field import Field
    from img3d_assets.gaussians import Gaussians
    from img3d_assets.mesh import Mesh
    from img3d_generators.posed_views import PosedViews

__all__ = ["generate"]


def generate(
    name: str,
    source: str | Path | PosedViews | Sequence[str | Path],
    view_generator: str = "auto",
    network: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Gaussians | Mesh | Field:
    """Generates an asset from an image, views or a text.

    Args:
        name: The name of a generator (`img3d_generators.registry.rows()` lists all), or "auto" or "object" for the
            best one whose weights are on this machine, which is img3d-small if there are none. `img3d-weights list`
            shows which weights can be fetched.
        source: An image file of one object, preferably with a transparent background; several, for a generator that
            takes them; views, for a network that takes views; or the text itself, for a generator that takes a text.
        view_generator: For a generator with two stages, the stage that makes the views; "auto": the best one
            available.
        network: The stage that makes the asset from views; "auto": the best one available that takes them.
        seed: Random seed; the same seed gives the same asset.
        options: Of the stages, as their rows' `options` name them: for example `views=4`, `texture_size=1024`,
            `num_steps=75`.

    Returns:
        An asset with y up and +z towards the viewer of the image. Gaussians, meshes and img3d's own fields have
        `save(path)`.

    Raises:
        InputError: The generator is unknown, the image cannot be used, weights are missing, or the stages do not fit
            together.
    """
    # Imported late, so that importing the package, as entry points do, does not load networks.
    import torch

    from img3d_base.errors import InputError
    from img3d_generators.inputs import prepared_input
    from img3d_generators.pairing import Choice, check_options, choose, network_of, options_for
    from img3d_generators.posed_views import PosedViews
    from img3d_generators.registry import row

    if isinstance(source, PosedViews):
        taker = network_of(row(name), network)
        if taker.takes != "views":
            raise InputError(f"{name} takes {taker.takes}, not views")
        check_options(Choice(row(name), taker.name, taker.name), options)
        return taker.loaded()(source, **options)
    choice = choose(name, view_generator, network)
    check_options(choice, options)
    generator = row(choice.network)
    own = options_for(generator.name, options)
    if not isinstance(source, str | Path):
        if not generator.takes_several:
            raise InputError(f"{generator.name} takes one {generator.takes}, not {len(source)} images")
        images = [prepared_input(generator, Path(one)) for one in source]
        return generator.loaded()(torch.stack(images), seed, **own)
    if choice.has_stages:
        maker = row(choice.view_generator)
        views, _ = maker.loaded()(Path(source), seed, **options_for(maker.name, options))
        return generator.loaded()(views, **own)
    if generator.takes == "text":
        return generator.loaded()(str(source), seed, **own)
    return generator.loaded()(prepared_input(generator, Path(source)), seed, **own)
