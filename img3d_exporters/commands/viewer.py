# SPDX-License-Identifier: Apache-2.0
"""`img3d-export viewer`: exports a page that shows splats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_exporters.commands.sources import (
    Point,
    check_one_source,
    cleaned_splats,
    say_origin,
    splats_of_asset,
    splats_of_file,
)

if TYPE_CHECKING:
    from img3d_exporters.page.viewer_page import PageScene


def viewer(
    output_dir: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    mesh: Path | None = None,
    single_file: bool = False,
    up_axis: UpAxis | None = None,
    clean: bool = False,
    crop_min: Point | None = None,
    crop_max: Point | None = None,
) -> None:
    """Writes a page that shows the splats in any current browser, offline: open its index.html, or send it to
    someone.

    Args:
        output_dir: Folder to write; an existing viewer page is replaced.
        load_config: The run's config.yml. For a mesh or a generated field, the page shows splats on its surface, and a
            button shows the mesh.
        input: A splat file of any format that `img3d-export splat` reads, instead of a run.
        mesh: A .glb of the same scene, written by `img3d-export mesh` without --original-frame; a button shows it.
        single_file: Put everything into one index.html.
        up_axis: The axis that points up. Default: z for a run; for a file, what it specifies, otherwise -y, as in
            3DGS.
        clean: Remove floaters and needles, as `img3d-export splat --clean` does.
        crop_min: Remove Gaussians whose centre is below this corner, in the axes of the run or file.
        crop_max: Remove Gaussians whose centre is beyond this corner.
    """
    from img3d_assets.splat_editing.selection import select, without_outliers
    from img3d_exporters.page.viewer_page import check_assets, check_replaceable, read_glb, write_page

    check_one_source(load_config, input)
    check_assets()  # before the slow part
    check_replaceable(output_dir)
    glb = None if mesh is None else read_glb(mesh)
    if load_config is not None:
        scene = _scene_of_run(load_config, up_axis)
    else:
        assert input is not None
        scene = _scene_of_file(input, up_axis)
    scene.mesh = glb or scene.mesh
    edited = clean or crop_min is not None or crop_max is not None
    if edited and scene.mesh is not None:
        raise InputError("A page with a mesh is not cleaned or cropped: leave out --clean, --crop-min and --crop-max.")
    if clean:
        scene.splats = cleaned_splats(scene.splats, load_config)
    scene.splats = select(scene.splats, crop_min=crop_min, crop_max=crop_max)
    scene.splats = without_outliers(scene.splats)
    files = write_page(scene, output_dir, single_file)
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print_line(f"{len(scene.splats):,} Gaussians, {megabytes:.1f} MB. Open {output_dir / 'index.html'}")


def _scene_of_run(load_config: Path, up_axis: UpAxis | None) -> PageScene:
    from img3d_assets.field import Field
    from img3d_assets.mesh import Mesh
    from img3d_assets.mesh_formats.glb import glb
    from img3d_exporters.load_run import load_run
    from img3d_exporters.meshes.mesh_of_run import MeshOptions, levels_of_field
    from img3d_exporters.page.mesh_splats import splats_on_mesh
    from img3d_exporters.page.viewer_page import PageScene
    from img3d_methods.viewing.initial_view import view_of_photo

    run = load_run(load_config)
    asset = run.representation.asset()
    if isinstance(asset, Field):
        print_line("The page shows the field's surface.")
        asset = next(levels_of_field(asset, textured=False, options=MeshOptions()))
    if isinstance(asset, Mesh):
        splats, mesh = splats_on_mesh(asset), glb(replace(asset, vertices=asset.vertices @ TO_Y_UP["z"].T))
    else:
        splats, mesh = splats_of_asset(asset, run, load_config), None
    return PageScene(
        title=run.name,
        splats=splats,
        up=up_axis or "z",
        view=view_of_photo(run.cameras),
        background=tuple(run.representation.background().detach().cpu().tolist()),
        antialiased=splats.antialiased,
        mesh=mesh,
    )


def _scene_of_file(path: Path, up_axis: UpAxis | None) -> PageScene:
    from img3d_exporters.page.viewer_page import PageScene, view_of_everything

    splats, up = splats_of_file(path)
    say_origin(splats.origin)
    up = up_axis or up
    view = view_of_everything(splats, up)
    return PageScene(path.stem, splats, up, view, background=(0.0, 0.0, 0.0), antialiased=splats.antialiased)
