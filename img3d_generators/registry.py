# SPDX-License-Identifier: Apache-2.0
"""The registry of generators and their stages, one row each. Other packages add rows through an entry-point group.

A row is data; the modules that it names are imported when they are used. `ns-train img3d-NAME`,
`img3d_generators.generate`, `img3d-weights list` and the table in docs/one-image.md are made from the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from img3d_base.errors import InputError, warn

GROUP = "img3d.generators"
"""An entry point of this group is a `Generator` or a sequence of them."""
OUR_PACKAGE = "img3d_generators"
AUTO = ("auto", "object")
"""Names that stand for the best generator whose weights are installed."""
REPLACED = {"img3d-tiny": "img3d-small"}
"""Generators of earlier editions that runs still name, and what stands in for them."""

Takes = Literal["image", "views", "text"]
Gives = Literal["Gaussians", "Mesh", "Field", "views"]


@dataclass(frozen=True)
class InputView:
    """How a generator's input shows the object: framing, and camera in the world of the output.

    This world has y up; the camera is on +z and looks at the origin.
    """

    border_ratio: float
    """Fraction of the square picture's width that stays free beside the object."""
    fov: float
    """Field of view in degrees, from edge to edge."""
    radius: float
    """Distance of the camera from the origin."""


@dataclass(frozen=True)
class Generator:
    """A whole generator, or a stage of generators.

    A generator with two stages has `networks` instead of `load`: one of these networks makes the asset from views,
    and any stage that makes such views can precede it.
    """

    name: str
    """The name for users; the method is `ns-train img3d-NAME`."""
    takes: Takes
    """The kind of input."""
    gives: Gives
    """The kind of asset that it makes; "views" for a stage that makes views."""
    title: str = ""
    """A description in one line; if empty, that of the first checkpoint's YAML file."""
    load: str = ""
    """`module:function`. The function is called with the name of this row; what it returns is called as documented
    in `loaded`."""
    networks: tuple[str, ...] = ()
    """Names of the rows that make the asset from views, in order of preference."""
    view_generators: tuple[str, ...] = ()
    """Names of the rows that make its views best, in order of preference; others that fit follow."""
    options: tuple[str, ...] = ()
    """Names of the keyword arguments that a user can give the loaded function."""
    checkpoints: tuple[str, ...] = ()
    """Names of the checkpoints that it needs (and of their YAML files)."""
    views: tuple[str, ...] = ()
    """For stages, the kind of views that it makes, or the kinds that it takes. A kind means cameras and framing."""
    rank: int = 0
    """The available generator with the highest rank is the best."""
    on_request: bool = False
    """Whether it is used only where a user names it, however good it is, since it takes hours."""
    is_aligned: bool = True
    """Whether its asset looks from +z as in the input image, which then is one of its views."""
    takes_several: bool = False
    """Whether it takes several images of one object, too: then instead of an image `Float[Tensor, "V 4 S S"]`."""
    mesh_row: str = ""
    """For Gaussians, the name of the row that makes a mesh of the same object, if there is one."""
    input: InputView | None = None
    """Framing and camera of the input image; None: those of the first checkpoint's YAML file."""
    frame: str = ""
    """`module:function` that centres the object in a square as the network was trained, if resampling it to fill the
    square but for the border is not exact enough. Called with the cut-out image, uint8 RGBA, and its name."""
    configs: Path | None = None
    """The folder of the checkpoints' YAML files, inside the package that contains the files of checkpoints without a
    repository; None: img3d's own."""

    def __post_init__(self) -> None:
        stage = "views" in (self.takes, self.gives)
        wrong = [
            "neither load nor networks" if not self.load and not self.networks else "",
            "no title" if not self.title and not self.checkpoints else "",
            "both load and networks" if self.load and self.networks else "",
            "networks, but is a stage" if stage and self.networks else "",
            "no kinds of views" if stage and not self.views else "",
            "a load that is not module:function" if self.load and self.load.count(":") != 1 else "",
            "a frame that is not module:function" if self.frame and self.frame.count(":") != 1 else "",
            "a name that stands for the best one" if self.name in AUTO else "",
        ]
        if any(wrong):
            raise ValueError(f"the generator {self.name} has {', '.join(filter(None, wrong))}")

    @property
    def is_whole(self) -> bool:
        """Whether it makes an asset from a user's input, without other stages."""
        return self.takes != "views" and self.gives != "views"

    def loaded(self) -> Callable[..., Any]:
        """Loads the generator with its weights.

        The arguments of the returned function depend on what the row takes and gives:

        - image → asset: `(image, seed)`; image is `Float[Tensor, "4 S S"]`, RGBA in [0, 1], framed as `input` says.
        - text → asset: `(text, seed)`.
        - image → views: `(path, seed)`, gives `PosedViews` and the prepared image.
        - views → asset: `(views)`; for Gaussians, `bridge=…` is a `BridgeMode`, for cameras other than the network's.

        Each also takes the row's `options` as keyword arguments. If `keep_in` is among them, it is a folder in which
        the generator keeps what it needs to go on after it was stopped.

        Assets have y up (and their `up` says so); +z faces the viewer of the image.

        Raises:
            InputError: Weights are missing, or the package that adds the row is broken.
        """
        return self.imported(self.load)(self.name)

    def imported(self, name: str) -> Callable[..., Any]:
        """A function of the row's package.

        Args:
            name: `module:function`.

        Raises:
            InputError: The package is broken.
        """
        module, function = name.split(":")
        try:
            return getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"the generator {self.name} cannot be loaded ({error}): install its package again"
            ) from error


@cache
def rows() -> dict[str, Generator]:
    """All rows by name, our own first. Broken rows of other packages are skipped, with a warning each."""
    found: dict[str, Generator] = {}
    entries = sorted(entry_points(group=GROUP), key=lambda entry: (not _is_ours(entry), entry.name, entry.value))
    for entry in entries:
        for row in _rows_of(entry):
            if found.setdefault(row.name, row) != row:
                warn(f"the generator {row.name} of {_package(entry)} is left out: there is another of that name")
    return found


def row(name: str) -> Generator:
    """Finds a row by its name, or that which replaces it.

    Raises:
        InputError: There is no such row.
    """
    name = REPLACED.get(name, name)
    if name not in rows():
        raise InputError(f"There is no generator {name}; there are: {', '.join(rows())}")
    return rows()[name]


def generators(gives: Gives | None = None, takes: Takes | None = None) -> list[Generator]:
    """All generators that make an asset from an image or a text, best ones first.

    Args:
        gives: Only generators of this kind of asset.
        takes: Only generators that take this kind of input.
    """
    whole = [
        row for row in rows().values() if row.is_whole and gives in (None, row.gives) and takes in (None, row.takes)
    ]
    return sorted(whole, key=lambda row: -row.rank)


def _rows_of(entry: EntryPoint) -> list[Generator]:
    try:
        loaded = entry.load()
        found = [loaded] if isinstance(loaded, Generator) else list(loaded)
        strangers = [row for row in found if not isinstance(row, Generator)]
    except Exception as error:  # another package's module can raise anything
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        warn(f"the generators of {_package(entry)} ({entry.value}) are left out: {reason}")
        return []
    if strangers:
        warn(f"the generators of {_package(entry)} ({entry.value}) are left out: {strangers[0]!r} is not a Generator")
        return []
    return found


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith(f"{OUR_PACKAGE}.")


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.name
