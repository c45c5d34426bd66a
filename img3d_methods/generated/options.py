# SPDX-License-Identifier: Apache-2.0
"""The options that choose a generator and its stages, and the choice for given data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from img3d_base.errors import InputError
from img3d_generators.networks.devices import Precision
from img3d_generators.pairing import (
    Choice,
    check_pair,
    choose,
    how_to_fetch,
    missing_checkpoints,
    network_for,
    network_of,
)
from img3d_generators.registry import AUTO, Generator, Gives, row
from img3d_generators.zero123plus.samplers import Quality
from img3d_methods.generated.generated_views import is_views_folder, read_given_views
from img3d_methods.generated.sources import needed_prompt


class RenamedGuidanceScale:
    """Mixin for options whose `guidance_scale` was called `guidance` in the config.yml of earlier runs."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the values that a config.yml, or a copy, has."""
        state = dict(state)
        if isinstance(state.get("guidance"), float):
            state["guidance_scale"] = state.pop("guidance")
        vars(self).update(state)


@dataclass
class StageOptions(RenamedGuidanceScale):
    """Options of a generator's stages. Others than the defaults are refused where no stage has them."""

    views: Literal[6, 4] = 6
    """Number of Zero123++'s six views that InstantMesh uses."""
    texture_size: int = 0
    """Width and height of the texture, 0: vertex colours only. InstantMesh's is of the network's own colours and takes
    a minute; TRELLIS's is baked from renders of its Gaussians."""
    num_steps: int = 28
    """Denoising steps of Zero123++; 75 for fine detail."""
    quality: Quality = "full"
    """Sampler of Zero123++: "full" is the authors'; "fast" is DPM-Solver++ with half of the steps (14 instead of 28),
    which takes half the time. Its views differ from the authors', but are not worse as a rule."""
    guidance_scale: float = 4.0
    """Scale of Zero123++'s classifier-free guidance: how closely it follows the image."""
    steps: int = 0
    """Steps of each of TRELLIS's two flows; 0: as published, 25. 12 take half the time."""
    multi_image: Literal["stochastic", "multidiffusion"] = "stochastic"
    """How TRELLIS uses several images of an object (`--index -1`): "stochastic", one image in each step, in turn;
    "multidiffusion", all images in each step, which takes as many times longer."""
    precision: Precision = "float32"
    """Matrix products of TripoSR, InstantMesh and TRELLIS: "float32" gives their references' numbers; "fast" computes
    in bfloat16 where the processor has instructions for it (on a GPU in float16), which changes TripoSR's planes by
    1.3 % (rms)."""

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by the names in the rows' `options`."""
        values = {one.name: getattr(self, one.name) for one in fields(StageOptions)}
        return {one.name: values[one.name] for one in fields(StageOptions) if values[one.name] != one.default}


@dataclass
class GeneratorOptions:
    """The generator that makes the asset, and its text."""

    generator: str = "object"
    """The generator, or "object" for the best one whose weights are installed. docs/one-image.md lists all."""
    network: str = "auto"
    """The network that makes the asset from views: "lgm-big" or "lgm-big-fp32", from four of Zero123++'s views
    (published weights: `img3d-weights list`), or a generator that needs no views, such as "img3d-small". "auto": the
    best one installed that takes the views."""
    prompt: str = ""
    """The text, for a generator that takes a text instead of an image."""


def choice_for(options: GeneratorOptions, data: Path, view_generator: str, gives: Gives) -> Choice:
    """The generator and its stages that make an asset of given data.

    Args:
        options: What the user chose.
        data: An image, a folder of images, or a folder of posed views; means nothing for a text.
        view_generator: The stage that makes views, or "auto".
        gives: The kind of asset.

    Raises:
        InputError: The data or options are not what the generator takes, stages do not fit together, or weights are
            missing.
    """
    taker = None if options.generator in AUTO else row(options.generator)
    if is_views_folder(data):
        return _choice_for_views(options, data, taker, gives)
    if taker is not None and taker.takes == "text":
        needed_prompt(options.prompt)
    elif options.prompt:
        raise InputError(f"--pipeline.prompt is for generators that take a text; {options.generator} takes an image")
    return choose(options.generator, view_generator, options.network, gives=gives)


def network_of_views(options: GeneratorOptions, view_generator: str) -> Generator:
    """The row that makes the asset from views.

    Args:
        options: What the user chose.
        view_generator: The stage that made the views; "" if it is not known.

    Raises:
        InputError: It does not take these views.
    """
    if options.generator not in AUTO:
        return network_of(row(options.generator), options.network, view_generator)
    if options.network != "auto":
        name = options.network
    elif view_generator:
        name = network_for(view_generator)
    else:
        raise InputError("the folder does not say which generator made the views: give --pipeline.network")
    if view_generator:
        check_pair(view_generator, name)
    return row(name)


def _choice_for_views(options: GeneratorOptions, data: Path, taker: Generator | None, gives: Gives) -> Choice:
    _, image, view_generator = read_given_views(data)
    network = network_of_views(options, view_generator)
    if network.gives != gives:
        raise InputError(f"{network.name}, which takes these views, makes {network.gives}, not {gives}")
    if network.takes != "views" and image is None:
        raise InputError(f"{network.name} takes {network.takes}, and {data} holds only views")
    missing = missing_checkpoints(network.checkpoints)
    if missing:
        raise InputError(f"{network.name} needs weights that are not installed: {how_to_fetch(missing)}")
    return Choice(taker or network, network.name, network.name)
