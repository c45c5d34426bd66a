# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-export`: files that people use elsewhere, from a run's config.yml or from a splat file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from img3d_dataparsers.errors import InputError, exits_with_one_line
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_exporters.splats import Splats, UpAxis, read_ply, splats_of_model

if TYPE_CHECKING:
    from img3d_exporters.viewer_page import PageScene

app = tyro.extras.SubcommandApp()


@app.command(name="viewer")
def viewer(
    output_dir: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    single_file: bool = False,
    up_axis: UpAxis | None = None,
) -> None:
    """Writes a page that shows the splats in any current browser, offline: open its index.html, or send it to somebody.

    Args:
        output_dir: Folder to write; replaced if it is such a page already.
        load_config: The run's config.yml.
        input: A splat file (3DGS PLY) instead of a run.
        single_file: Everything in one index.html.
        up_axis: Which axis points up. Default: z for a run; for a file what it says, else -y, as 3DGS has it.
    """
    from img3d_exporters.viewer_page import check_assets, check_replaceable, write_page

    if (load_config is None) == (input is None):
        raise InputError("Give either --load-config (a run's config.yml) or --input (a splat file).")
    check_assets()  # before what takes long
    check_replaceable(output_dir)
    if load_config is not None:
        scene = _scene_of_run(load_config, up_axis)
    else:
        assert input is not None
        scene = _scene_of_file(input, up_axis)
    files = write_page(scene, output_dir, single_file)
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    CONSOLE.print(
        f"{len(scene.splats):,} Gaussians, {megabytes:.1f} MB. Open it: {output_dir / 'index.html'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _scene_of_run(load_config: Path, up_axis: UpAxis | None) -> PageScene:
    from nerfstudio.models.splatfacto import SplatfactoModel

    from img3d_exporters.load_run import load_run
    from img3d_exporters.viewer_page import PageScene, view_of_photo

    run = load_run(load_config)
    if not isinstance(run.model, SplatfactoModel):
        raise InputError(f"{load_config} holds a {type(run.model).__name__}: the page shows Gaussian splats only.")
    return PageScene(
        title=run.name,
        splats=_drawable(splats_of_model(run.model), load_config),
        up=up_axis or "z",
        view=view_of_photo(run.cameras),
        background=tuple(run.model._get_background_color().detach().cpu().tolist()),
        antialiased=run.model.config.rasterize_mode == "antialiased",
    )


def _scene_of_file(path: Path, up_axis: UpAxis | None) -> PageScene:
    from img3d_exporters.viewer_page import PageScene, view_of_everything

    splats, up = read_ply(path)
    splats = _drawable(splats, path)
    up = up_axis or up
    return PageScene(path.stem, splats, up, view_of_everything(splats, up), background=(0.0, 0.0, 0.0))


def _drawable(splats: Splats, source: Path) -> Splats:
    visible = splats.visible()
    if len(visible) == 0:
        raise InputError(f"{source} holds no Gaussian that can be seen ({len(splats)} in all).")
    return visible


def main() -> None:
    """Entry point of `img3d-export`."""
    silence_upstream_warnings()
    with exits_with_one_line("Interrupted; nothing was written."):
        app.cli(prog="img3d-export", description="Writes what a run made, in formats used elsewhere.")


if __name__ == "__main__":
    main()
