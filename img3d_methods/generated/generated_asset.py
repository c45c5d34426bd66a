# SPDX-License-Identifier: Apache-2.0
"""Assets that a generator makes from an image, views or a text, and that are kept in a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from img3d_base.atomic_files import writable_cache
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_generators import generate
from img3d_generators.registry import row
from img3d_methods.cached_views import writing_views
from img3d_methods.generated.sources import Source, key_of, source_of

A = TypeVar("A")


@dataclass
class GeneratedAssetOptions:
    """The input of a generator and its options: part of the configurations of data parsers. `ns-train` sets the
    generator and its stages."""

    data: Path = Path()
    """An image of one object, a folder of images, or a folder of posed views; not needed for a text."""
    index: int = 0
    """Which image of a folder, in the order of their names; -1: all of them, as images of one object, for a generator
    that takes several."""
    seed: int = 0
    """Random seed of the generator."""
    generator: str = ""
    """The generator of the asset."""
    view_generator: str = "auto"
    """For a generator with two stages, the one that makes the views."""
    network: str = "auto"
    """For a generator with two stages, the one that makes the asset from views."""
    prompt: str = ""
    """The text, for a generator that takes a text instead of an image."""
    options: tyro.conf.Suppress[dict[str, Any] | None] = None
    """Options of the stages; the pipeline sets them. (Not made by a factory: runs of earlier versions lack it.)"""


@dataclass(frozen=True)
class AssetFiles(Generic[A]):
    """How the assets of a kind are stored."""

    kind: type[A]
    name: str
    """The kind's name in messages and file names, such as "mesh"."""
    expected: str
    """What a generator has to make, such as "a mesh"."""
    ending: str
    read: Callable[[Path], A]
    """Raises InputError if the file is damaged."""
    write: Callable[[A, Path], None]
    described: Callable[[A], str]
    """Describes a new asset in a message, such as "1,200 triangles"."""
    recipe: int
    """Part of the cache keys. Increment it with every change that alters assets, so that they are made again."""


@dataclass(frozen=True)
class Origin:
    """The generator of an asset, and its input."""

    generator: str
    """The name of the row that makes the asset."""
    source: Source
    """The generator's input."""
    key: str
    """Identifies the source, generator, weights, seed and recipe."""
    cache: Path
    """The folder in which to keep the asset."""


def origin_of(config: GeneratedAssetOptions, cache_dir: Path | None, recipe: int) -> Origin:
    """The generator and the input that options describe.

    Args:
        config: The options.
        cache_dir: Where to keep the asset; None: .img3d beside the source, or the user's cache if that is read-only.
        recipe: Part of the key.

    Raises:
        InputError: There is no such image, the text is empty, or the image cannot be read.
    """
    name, source, identity, beside = source_of(
        config.data, config.index, config.generator, config.network, config.prompt
    )
    stages = [stage for stage in dict.fromkeys((name, config.view_generator, config.network)) if stage != "auto"]
    key = key_of(identity, stages, (recipe, stages, config.seed, *sorted((config.options or {}).items())))
    return Origin(name, source, key, writable_cache(beside, cache_dir))


def found_or_made(config: GeneratedAssetOptions, origin: Origin, files: AssetFiles[A]) -> A:
    """The asset from the cache; it is generated unless it is there.

    Raises:
        InputError: Weights are missing, the generator makes something else, or the asset cannot be kept.
    """
    file = origin.cache / f"{files.name}-{origin.generator}-{origin.key}{files.ending}"
    if file.is_file():
        try:
            found = files.read(file)
        except InputError as error:
            warn(f"{error}; the {files.name} is made anew")
        else:
            print_line(f"{files.name.capitalize()} from the cache {file}")
            return found
    stages, options = (config.view_generator, config.network), dict(config.options or {})
    if "keep_in" in row(origin.generator).options:
        options["keep_in"] = origin.cache
    made = generate(origin.generator, origin.source, *stages, config.seed, **options)
    if not isinstance(made, files.kind):
        raise InputError(f"the generator {origin.generator} made {type(made).__name__} instead of {files.expected}")
    with writing_views(file):
        files.write(made, file)
    print_line(f"{files.described(made)} generated, kept in {file}")
    return made
