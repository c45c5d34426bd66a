# SPDX-License-Identifier: Apache-2.0
"""Chooses a generator and its stages: the named one, or the best one whose weights are installed. Checks that stages
fit together.

A network takes views with the cameras and framing that it was trained on. A generator that makes Gaussians in one
step serves as both stages: its views are renders, which no other network takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from img3d_base.errors import InputError
from img3d_generators.registry import AUTO, Generator, Gives, InputView, Takes, generators, row, rows
from img3d_generators.weights.checkpoints import checkpoint, checkpoints
from img3d_generators.weights.weight_files import available

VIEW_OF_TEXT = InputView(border_ratio=0.2, fov=49.1, radius=1.5)
"""The camera for assets made from a text, whose row names none: LGM's, which sees the box from -0.5 to 0.5."""


@dataclass(frozen=True)
class Choice:
    """A generator and its stages; a generator without stages is named for both."""

    generator: Generator
    """The generator that the user named, or the best one."""
    view_generator: str
    """The stage that makes the views."""
    network: str
    """The stage that makes the asset."""

    @property
    def has_stages(self) -> bool:
        """Whether views are made first."""
        return self.view_generator != self.network

    @property
    def missing(self) -> list[str]:
        """Checkpoints that are not on this machine."""
        return missing_checkpoints(
            dict.fromkeys([*self.generator.checkpoints, *_needs(self.view_generator)] + _needs(self.network))
        )


def choose(name: str, view_generator: str = "auto", network: str = "auto", gives: Gives | None = None) -> Choice:
    """The named generator with the best stages whose weights are installed.

    Args:
        name: The name of a row, or "auto" or "object" for the best one whose weights are installed and that takes an
            image.
        view_generator: The stage that makes views, or "auto".
        network: The stage that makes the asset, or "auto".
        gives: Consider only generators of this kind of asset.

    Raises:
        InputError: The name is unknown, the stages do not fit together, or weights are missing.
    """
    choices = _choices(name, view_generator, network, gives)
    here = next((choice for choice in choices if not choice.missing), None)
    if here is not None:
        return here
    nearest = min(choices, key=lambda choice: len(choice.missing))
    raise InputError(f"{nearest.generator.name} needs weights that are not installed: {how_to_fetch(nearest.missing)}")


def better_than(choice: Choice) -> Choice | None:
    """The best generator of the same kind of asset, if it is better than the chosen one; None otherwise."""
    chosen = choice.generator
    better = [row for row in _unasked(chosen.gives, chosen.takes) if row.rank > chosen.rank]
    return _choices(better[0].name, "auto", "auto", None)[0] if better else None


def about(choice: Choice) -> str:
    """One line that says what is used, what would be better, and how to get it."""
    stages = f" ({choice.view_generator}, then {choice.network})" if choice.has_stages else ""
    line = f"Generator: {choice.generator.name}{stages}: {title_of(choice.generator)}."
    better = better_than(choice)
    if better is None:
        return line
    return f"{line} Better: {better.generator.name}, whose weights are missing: {how_to_fetch(better.missing)}"


def how_to_fetch(names: Sequence[str]) -> str:
    """The commands that fetch these checkpoints, in one line."""
    return ", and ".join(_how_to_fetch(name) for name in names)


def best_view_generator() -> str:
    """The best view generator whose weights are on this machine."""
    unasked = (name for name in view_generators() if not row(name).on_request)
    return next(name for name in unasked if not missing_checkpoints(row(name).checkpoints))


def view_generators() -> list[str]:
    """All generators of views of an image's object, best ones first, those that are used on request only last."""
    makers = sorted((row for row in _by_rank() if row.takes == "image"), key=lambda row: row.on_request)
    return [row.name for row in makers if row.gives == "views" or _renders_views(row)]


def network_for(view_generator: str) -> str:
    """The best network for the views of a view generator.

    Raises:
        InputError: There is no such view generator.
    """
    return networks_for(view_generator)[0]


def networks_for(view_generator: str) -> list[str]:
    """All networks for the views of a view generator, best ones first.

    Raises:
        InputError: There is no such view generator.
    """
    maker = row(view_generator)
    if _renders_views(maker):
        return [maker.name]
    if maker.gives != "views":
        raise InputError(f"{view_generator} makes no views; those that do: {', '.join(view_generators())}")
    return [taker.name for taker in _by_rank() if taker.takes == "views" and set(maker.views) & set(taker.views)]


def network_of(generator: Generator, network: str = "auto", view_generator: str = "") -> Generator:
    """The row that makes an asset of given views.

    Args:
        generator: The generator that the user named.
        network: The stage that the user named, or "auto".
        view_generator: The stage that made the views; "" if it is not known.

    Raises:
        InputError: The stage does not take these views.
    """
    if network == "auto":
        fitting = networks_for(view_generator) if view_generator else list(generator.networks)
        own = [name for name in generator.networks if name in fitting] or [*generator.networks[:1], generator.name]
        network = next((name for name in own if not missing_checkpoints(row(name).checkpoints)), own[0])
    if view_generator:
        check_pair(view_generator, network)
    return row(network)


def check_options(choice: Choice, options: Mapping[str, object]) -> None:
    """Checks that the stages know options.

    Raises:
        InputError: One is unknown to both.
    """
    known = [*row(choice.view_generator).options, *row(choice.network).options]
    unknown = [name for name in options if name not in known]
    if unknown:
        has = f"it has {', '.join(dict.fromkeys(known))}" if known else "it has none"
        raise InputError(f"{choice.generator.name} has no option {' or '.join(unknown)}; {has}")


def options_for(stage: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that a stage knows."""
    return {name: value for name, value in options.items() if name in row(stage).options}


def check_pair(view_generator: str, network: str) -> None:
    """Checks that a network was trained on the cameras and framing of a view generator.

    Raises:
        InputError: It was not; the message names networks that were.
    """
    fitting = networks_for(view_generator)
    if row(network).name not in fitting:
        raise InputError(
            f"{network} does not take the views of {view_generator}: it was trained on other cameras and another "
            f"framing. For these views set --pipeline.network to {' or '.join(fitting)}, or leave it out"
        )


def missing_checkpoints(names: Sequence[str] | dict[str, None]) -> list[str]:
    """The names of checkpoints that are not on this machine, or unknown."""
    return [name for name in names if name not in checkpoints() or available(name) is None]


def input_of(generator: Generator) -> InputView:
    """Framing and camera of a generator's input image, or of the first view of what it makes from a text.

    Raises:
        InputError: Neither the row nor the checkpoint specifies them.
    """
    if generator.input is not None:
        return generator.input
    if generator.takes == "text":
        return VIEW_OF_TEXT
    described = checkpoint(generator.checkpoints[0]).input if generator.checkpoints else {}
    try:
        return InputView(*(float(described[name]) for name in ("border_ratio", "fov", "radius")))
    except KeyError as error:
        raise InputError(f"the generator {generator.name} does not say its input's {error.args[0]}") from None


def title_of(generator: Generator) -> str:
    """The description of a row, in one line."""
    return generator.title or checkpoint(generator.checkpoints[0]).title


def _choices(name: str, view_generator: str, network: str, gives: Gives | None) -> list[Choice]:
    """All choices that match the request, best ones first; at least one."""
    if "auto" not in (view_generator, network) and view_generator != network:
        check_pair(view_generator, network)
    of_name = _unasked(gives, "image") if name in AUTO else [row(name)]
    choices = [
        Choice(generator, *pair)
        for generator in of_name
        for pair in _pairs(generator)
        if view_generator in ("auto", pair[0]) and network in ("auto", pair[1])
    ]
    if choices:
        return choices
    if name not in AUTO and of_name[0].gives == "views":
        raise InputError(f"{name} makes views, not an asset: give it as the view generator")
    asked = [row(stage).name for stage in (view_generator, network) if stage != "auto"]
    without = "no generator has" if name in AUTO else f"{name} does not have"
    raise InputError(f"{without} {' and '.join(asked)} for a stage")


def _pairs(generator: Generator) -> list[tuple[str, str]]:
    """Pairs (view generator, network) for a generator, best ones first."""
    if generator.is_whole and generator.load:
        return [(generator.name, generator.name)]
    networks = generator.networks or (generator.name,) * (generator.takes == "views")
    preferred = generator.view_generators
    others = (maker for maker in _by_rank() if maker.name not in preferred)
    makers = [*(row(name) for name in preferred), *others]
    return [
        (maker.name, network)
        for maker in makers
        if maker.gives == "views"
        for network in networks
        if network in networks_for(maker.name)
    ]


def _unasked(gives: Gives | None, takes: Takes) -> list[Generator]:
    """The generators that are used without being named, best ones first."""
    return [row for row in generators(gives, takes) if not row.on_request]


def _renders_views(generator: Generator) -> bool:
    return generator.is_whole and bool(generator.load) and generator.gives == "Gaussians"


def _by_rank() -> list[Generator]:
    return sorted(rows().values(), key=lambda row: -row.rank)


def _needs(name: str) -> list[str]:
    return list(row(name).checkpoints)


def _how_to_fetch(name: str) -> str:
    known = checkpoint(name)
    if known.comes_with is not None:
        return f"{name} comes with {known.comes_with}: install that again"
    return f"img3d-weights fetch {name} ({known.size}, {known.licence})"
