# SPDX-License-Identifier: Apache-2.0
"""What can be made of each kind of input: a few choices first, the others under "more"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal

from img3d_base.errors import InputError
from img3d_base.progress import duration
from img3d_studio.uploads import InputKind

Makes = Literal["splats", "mesh", "field"]

RECENT = 5
"""Number of earlier runs whose median time is shown as the expected one."""


@dataclass(frozen=True)
class Choice:
    """One thing that can be made."""

    name: str
    """Its name in the database."""
    title: str
    """The name that the user sees."""
    sentence: str
    """What the user gets, in one sentence."""
    time: str
    """Typical time on two CPU cores, in words."""
    makes: Makes
    method: str = ""
    """The method of `ns-train`; empty if the file is shown unchanged."""
    options: tuple[str, ...] = ()
    """Options of the method."""
    first: bool = True
    """Whether the page shows it at once; it lists the others under "more"."""


PRESET = "--pipeline.model.preset"
OF_PHOTOS = (
    Choice(
        *("splats-fast", "A quick look", "A scene to fly through, a little soft.", "3 to 6 minutes"),
        *("splats", "img3d-splat", (PRESET, "fast")),
    ),
    Choice(
        *("splats", "A scene to look around in", "Sharp from where photos were taken.", "8 to 15 minutes"),
        *("splats", "img3d-splat", (PRESET, "balanced")),
    ),
    Choice(
        *("mesh", "A mesh with a texture", "For Blender, games and printing; needs matt surfaces.", "10 to 30 minutes"),
        *("mesh", "img3d-mvs", ("--pipeline.preset", "balanced")),
    ),
    Choice(
        *("splats-best", "The finest scene", "The most detail, for fifty photos or more.", "half an hour to an hour"),
        *("splats", "img3d-splat", (PRESET, "best"), False),
    ),
    Choice(
        *("mesh-fast", "A quick mesh", "Coarse, to see whether the photos suit.", "3 to 10 minutes"),
        *("mesh", "img3d-mvs", ("--pipeline.preset", "fast"), False),
    ),
    Choice(
        *("nerf", "A radiance field", "A NeRF, for comparison; slow to look at.", "5 to 15 minutes"),
        *("field", "img3d-nerf", (PRESET, "fast"), False),
    ),
)
OF_IMAGE = (
    Choice(
        *("object", "A 3D object", "Its unseen sides are guessed by the best network that is installed."),
        *("1 to 3 minutes with the built-in network", "splats", "img3d-object"),
    ),
    Choice(
        *("rough", "A rough guess", "By img3d's own small network: good for simple shapes only.", "1 minute"),
        *("splats", "img3d-small", ("--max-num-iterations", "0")),
    ),
)
OF_TEXT = (
    Choice(
        *("shaped", "An object of the text", "Shaped until a diffusion model sees the text in it."),
        *("hours", "splats", "img3d-dreamfusion"),
    ),
)
OF_SPLATS = (Choice("show-splats", "Look at it", "The splats as they are.", "half a minute", "splats"),)
OF_MESH = (Choice("show-mesh", "Look at it", "The mesh as it is.", "1 minute", "mesh", "img3d-mesh"),)


@cache
def generated(takes: Literal["image", "text"]) -> tuple[Choice, ...]:
    """A choice for each generator whose weights are installed. The first call imports networks, which takes seconds."""
    from img3d_generators.pairing import choose
    from img3d_generators.registry import generators

    makes: dict[str, Makes] = {"Gaussians": "splats", "Mesh": "mesh", "Field": "field"}
    known = {choice.method for choice in OF_IMAGE}
    found: list[Choice] = []
    for row in generators(takes=takes):
        method = f"img3d-{row.name.removeprefix('img3d-')}"
        try:
            choose(row.name)
        except InputError:
            continue  # its weights are not installed: `img3d-weights list` shows them
        if method not in known and row.gives in makes:
            title = row.title or row.name
            time = "hours" if row.on_request else "minutes"
            found.append(Choice(row.name, row.name, title, time, makes[row.gives], method, (), takes == "text"))
    return tuple(found)


def needed_for_text() -> str:
    """The command that fetches the weights of a diffusion model for texts; empty if one is installed."""
    from img3d_generators.guidance.rows import ROWS
    from img3d_generators.pairing import how_to_fetch, missing_checkpoints

    missing = [missing_checkpoints(row.checkpoints) for row in ROWS if row.shows == "text"]
    return how_to_fetch(missing[0]) if all(missing) else ""


def choices_for(kind: InputKind) -> tuple[Choice, ...]:
    """What can be made of this kind of input."""
    if kind in ("photos", "video"):
        return OF_PHOTOS
    if kind == "image":
        return OF_IMAGE + generated("image")
    if kind == "text":
        return generated("text") + (() if needed_for_text() else OF_TEXT)
    return OF_SPLATS if kind == "splats" else OF_MESH


def choice_named(name: str) -> Choice:
    """A choice by its name.

    Raises:
        InputError: There is none, or what it needs is no longer installed.
    """
    for choice in (*OF_PHOTOS, *OF_IMAGE, *OF_TEXT, *OF_SPLATS, *OF_MESH):
        if choice.name == name:
            return choice
    for choice in (*generated("image"), *generated("text")):
        if choice.name == name:
            return choice
    raise InputError(f"There is no choice {name}; what it needs may not be installed any more")


def expected_time(choice: Choice, earlier: Sequence[float]) -> str:
    """The time that a choice will take, in words.

    Args:
        choice: What is made.
        earlier: Seconds that it took on this machine, newest last.
    """
    if not earlier:
        return f"{'about ' if choice.time[0].isdigit() else ''}{choice.time} on two cores"
    return f"about {duration(median(earlier[-RECENT:]))}, as before on this machine"
