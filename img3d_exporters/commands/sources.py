# SPDX-License-Identifier: Apache-2.0
"""The sources of subcommands (a run or a splat file), and their messages about what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from img3d_assets.axes import UpAxis
from img3d_assets.gaussians import Gaussians
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn

if TYPE_CHECKING:
    from img3d_assets.splat_editing.cleaning import Viewpoints
    from img3d_exporters.load_run import Run
    from img3d_exporters.meshes.surface_views import Renderer
    from img3d_methods.representation import Asset

Point = tuple[float, float, float]


def check_one_source(load_config: Path | None, input: Path | None) -> None:
    if (load_config is None) == (input is None):
        raise InputError("Give either --load-config (a run's config.yml) or --input (a file).")


def check_frame_known(original_frame: bool) -> None:
    if original_frame:
        raise InputError("A file has no frame of photos: --original-frame needs --load-config.")


def print_written(what: str, path: Path) -> None:
    print_line(f"{what}, {path.stat().st_size / 1e6:.1f} MB: {path}")


def splats_of(
    load_config: Path | None, input: Path | None, original_frame: bool, clean: bool = False
) -> tuple[Gaussians, UpAxis | None]:
    """The Gaussians of a run or a file, and the axis that points up; None with `original_frame`, where it is
    unknown.

    Args:
        load_config: A run's config.yml.
        input: A splat file instead of a run.
        original_frame: Return them in the axes and units of the photos' own poses.
        clean: Remove floaters and needles, and print how many there were.
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
    """The visible Gaussians of a run's asset.

    Raises:
        InputError: The asset is not Gaussians, or none is visible.
    """
    from img3d_exporters.splats.run_splats import no_splats

    if not isinstance(asset, Gaussians):
        raise InputError(no_splats(load_config, type(run.model).__name__))
    return drawable(asset, load_config)


def renderer_of(run: Run, load_config: Path) -> Renderer:
    """Renders a run in its own frame, with depth.

    Raises:
        InputError: It is of Gaussians, and none is visible.
    """
    from img3d_exporters.meshes.surface_views import model_renderer, splat_renderer
    from img3d_methods.representation import firmness_of

    asset = run.representation.asset()
    if isinstance(asset, Gaussians):
        return splat_renderer(splats_of_asset(asset, run, load_config), firmness_of(run.model))
    return model_renderer(run.model)


def cleaned_splats(splats: Gaussians, load_config: Path | None) -> Gaussians:
    """Removes floaters and needles, and prints how many there were.

    Args:
        splats: Visible Gaussians; of a run in its own frame.
        load_config: The run, whose cameras tell what was photographed; None if there is none.
    """
    from img3d_assets.splat_editing.cleaning import cleaned

    splats, removed = cleaned(splats, None if load_config is None else _viewpoints(load_config))
    print_line(str(removed))
    return splats


def _viewpoints(load_config: Path) -> Viewpoints | None:
    """The viewpoints of a run's photos; None, with a warning, if its data are gone."""
    from img3d_exporters.load_run import config_file, load_run
    from img3d_exporters.splats.run_splats import read_config
    from img3d_methods.training.run_config import moved_data_message
    from img3d_methods.viewing.viewpoints import viewpoints_of

    config = read_config(config_file(load_config))
    if message := moved_data_message(config.pipeline.datamanager):
        warn(f"Cleaning ignores what the cameras look at: {message}")
        return None
    return viewpoints_of(load_run(load_config).cameras)


def drawable(splats: Gaussians, source: Path) -> Gaussians:
    """The visible Gaussians; warns about damaged ones."""
    visible = splats.visible()
    if len(visible) == 0:
        raise InputError(f"{source} holds no visible Gaussian ({len(splats)} in all).")
    damaged = len(splats) - int(splats.finite().usable().sum())
    if damaged:
        them = f"{damaged:,} of {len(splats):,} Gaussians in {source}"
        warn(f"{them} are left out: their values are not finite, or all zero.")
    return visible


def say_origin(origin: tuple[float, float, float]) -> None:
    """Prints what positions are relative to, if coordinates are too large for single precision."""
    if any(origin):
        x, y, z = (f"{value:.0f}" for value in origin)
        warn(
            f"positions are written relative to ({x}, {y}, {z}): out there single precision would lose the shape. Add "
            "that to get the original coordinates."
        )
