# SPDX-License-Identifier: Apache-2.0
"""What subcommands take: a run or a splat file; and how they say what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from img3d_assets.axes import UpAxis
from img3d_assets.gaussians import Gaussians
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn

if TYPE_CHECKING:
    from img3d_assets.splat_cleaning import Viewpoints
    from img3d_exporters.load_run import Run
    from img3d_methods.representation import Asset

Point = tuple[float, float, float]


def check_one_source(load_config: Path | None, input: Path | None) -> None:
    if (load_config is None) == (input is None):
        raise InputError("Give either --load-config (a run's config.yml) or --input (a splat file).")


def check_frame_known(original_frame: bool) -> None:
    if original_frame:
        raise InputError("A splat file does not know its photos' frame: --original-frame needs --load-config.")


def print_written(what: str, path: Path) -> None:
    print_line(f"{what}, {path.stat().st_size / 1e6:.1f} MB: {path}")


def splats_of(
    load_config: Path | None, input: Path | None, original_frame: bool, clean: bool = False
) -> tuple[Gaussians, UpAxis | None]:
    """Those of a run or a file, and which axis points up; with `original_frame`, nobody knows.

    Args:
        load_config: A run's config.yml.
        input: A splat file, if it is no run.
        original_frame: In the axes and units of the photos' own poses.
        clean: Without floaters and needles; says how many there were.
    """
    if load_config is None:
        assert input is not None
        check_frame_known(original_frame)
        splats, up = splats_of_file(input)
        if clean:
            splats = cleaned_splats(splats, None)
        say_origin(splats.origin)
        return splats, up
    from img3d_assets.gaussian_frames import in_original_frame
    from img3d_exporters.splats.run_splats import read_original_frame, read_run_splats

    splats = drawable(read_run_splats(load_config), load_config)
    if clean:
        splats = cleaned_splats(splats, load_config)
    if original_frame:
        splats = in_original_frame(splats, *read_original_frame(load_config))
        say_origin(splats.origin)
        return splats, None
    return splats, "z"


def splats_of_file(path: Path) -> tuple[Gaussians, UpAxis]:
    from img3d_assets.splat_files import read_splats

    splats, up = read_splats(path)
    return drawable(splats, path), up


def splats_of_asset(asset: Asset | None, run: Run, load_config: Path) -> Gaussians:
    """Those of what a run's model holds that can be seen.

    Raises:
        InputError: Its model is of another kind.
    """
    from img3d_exporters.splats.run_splats import no_splats

    if not isinstance(asset, Gaussians):
        raise InputError(no_splats(load_config, type(run.model).__name__))
    return drawable(asset, load_config)


def cleaned_splats(splats: Gaussians, load_config: Path | None) -> Gaussians:
    """Without floaters and needles; says how many there were.

    Args:
        splats: All visible; of a run in its own frame.
        load_config: The run, whose cameras say what was looked at; None: nobody knows.
    """
    from img3d_assets.splat_cleaning import cleaned

    splats, removed = cleaned(splats, None if load_config is None else _viewpoints(load_config))
    print_line(str(removed))
    return splats


def _viewpoints(load_config: Path) -> Viewpoints | None:
    """Where a run's photos were taken; None, with a warning, if its data are gone."""
    from img3d_exporters.load_run import config_file, load_run
    from img3d_exporters.splats.run_splats import read_config
    from img3d_methods.training.run_config import moved_data_message
    from img3d_methods.viewing.viewpoints import viewpoints_of

    config = read_config(config_file(load_config))
    if message := moved_data_message(config.pipeline.datamanager):
        warn(f"What its cameras look at does not count in cleaning: {message}")
        return None
    return viewpoints_of(load_run(load_config).cameras)


def drawable(splats: Gaussians, source: Path) -> Gaussians:
    """Those that can be seen; says what is left out as damaged, and where the others are."""
    visible = splats.visible()
    if len(visible) == 0:
        raise InputError(f"{source} holds no Gaussian that can be seen ({len(splats)} in all).")
    damaged = len(splats) - int(splats.finite().usable().sum())
    if damaged:
        them = f"{damaged:,} of {len(splats):,} Gaussians in {source}"
        warn(f"{them} are left out: their numbers are not finite, or all zero.")
    return visible


def say_origin(origin: tuple[float, float, float]) -> None:
    """Says what positions count from, where coordinates are too large for single precision."""
    if any(origin):
        x, y, z = (f"{value:.0f}" for value in origin)
        warn(
            f"positions are written relative to ({x}, {y}, {z}): out there single precision would lose the shape. Add "
            "that to get the original coordinates."
        )
