# SPDX-License-Identifier: Apache-2.0
"""`img3d-export mesh`: exports the surface as textured triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from img3d_assets.axes import UpAxis
from img3d_base.errors import InputError
from img3d_exporters.commands.sources import (
    Point,
    check_frame_known,
    check_one_source,
    print_written,
    renderer_of,
    say_origin,
    splats_of_file,
)

if TYPE_CHECKING:
    from img3d_assets.mesh import Mesh
    from img3d_exporters.load_run import Run
    from img3d_exporters.meshes.surface_views import SurfaceViews

TextureSource = Literal["photos", "renders", "none"]


def mesh(
    output: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    surface: Literal["auto", "density", "tsdf", "poisson"] = "auto",
    resolution: int = 192,
    faces: int = 100_000,
    watertight: bool = False,
    texture: TextureSource | None = None,
    texture_size: int = 2048,
    lods: int = 1,
    crop_min: Point | None = None,
    crop_max: Point | None = None,
    original_frame: bool = False,
    force: bool = False,
) -> None:
    """Writes the surface as a textured triangle mesh: .glb, .obj (with its .mtl and .png), .usdz, .fbx; .ply with
    vertex colours; .stl. Takes a run of any method that renders depth; a run of a mesh, or a mesh file, is
    converted.

    Args:
        output: The file to write; its ending determines the format.
        load_config: The run's config.yml.
        input: A file instead of a run: a mesh (.obj, .glb, .gltf, .ply, .stl, .usdz, .fbx), which is converted; or
            splats, which are viewed from outside, as an object. Crop an object from a whole scene.
        surface: How a surface is made. From depth: tsdf averages signed distances and is exact where enough pictures
            see the surface; poisson fits a smooth surface through that, which bridges gaps. density takes a
            generated field's own surface. auto: density for a generated field, tsdf for everything else.
        resolution: Voxels along the longest side of the meshed region.
        faces: Maximum number of triangles.
        watertight: Close all holes, so that the mesh bounds a solid, as for 3D printing. A surface that is too open
            becomes a thick sheet.
        texture: Source of the colours: the training photos, renders of the model, or none, which leaves only vertex
            colours. Default: photos for a run, renders for a splat file; a field's density is painted in the field's
            own colours.
        texture_size: Width and height of the texture in pixels.
        lods: Levels of detail. Further files name_lod1, name_lod2 … are written beside the first, each with a
            quarter of the faces and half the texture size of the one before.
        crop_min: Remove everything below this corner, in the axes of the run or file (with --original-frame, of the
            original frame). Default: the region that inward-looking cameras surround, otherwise everything except a
            few outliers.
        crop_max: Remove everything beyond this corner.
        original_frame: Use the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace existing files.
    """
    from img3d_assets.field import Field
    from img3d_assets.mesh import Mesh
    from img3d_assets.mesh_files import check_output, holds_texture, is_mesh, read_mesh
    from img3d_assets.mesh_geometry import in_frame
    from img3d_assets.meshing.texture_baking import check_texture_size
    from img3d_exporters.load_run import load_run
    from img3d_exporters.meshes.mesh_of_run import MeshOptions, level_paths, levels_of_detail, levels_of_field

    check_one_source(load_config, input)
    options = MeshOptions(surface, resolution, faces, watertight, texture_size, lods, crop_min, crop_max)
    paths = level_paths(output, lods)
    for path in paths:
        check_output(path, force)
    check_texture_size(texture_size)
    if input is not None and is_mesh(input):
        if original_frame or texture is not None or options != MeshOptions():
            raise InputError(f"{input} is a mesh, which is only converted: give no options but --output and --force.")
        mesh, up = read_mesh(input)
        _write([mesh], up, [output])
        return
    run = None
    if load_config is not None:
        run = load_run(load_config)
        asset = run.representation.asset()
        if isinstance(asset, Mesh):
            if texture is not None or options != MeshOptions():
                raise InputError(
                    f"{load_config} holds a mesh, which is only converted: give no options but --output, "
                    "--original-frame and --force."
                )
            if original_frame:
                asset = in_frame(asset, run.dataparser_transform, run.dataparser_scale)
            _write([asset], asset.up, [output])
            return
        if isinstance(asset, Field) and surface in ("auto", "density"):
            if texture == "photos":
                raise InputError("A field's surface has the field's own colours: leave out --texture, or give none.")
            textured = texture != "none" and holds_texture(output)
            levels = list(levels_of_field(asset, textured, options))
            if original_frame:
                levels = [in_frame(level, run.dataparser_transform, run.dataparser_scale) for level in levels]
            _write(levels, levels[0].up, paths)
            return
    if surface == "density":
        raise InputError("--surface density is for runs of a generated field; leave it out here.")
    if not holds_texture(output):
        texture = "none"
    if run is None or load_config is None:
        assert input is not None
        check_frame_known(original_frame)
        views, paint, up = _pictures_of_file(input, texture or "renders", crop_min, crop_max)
    else:
        views, paint, up = _pictures_of_run(run, load_config, texture or "photos", original_frame)
    _write(list(levels_of_detail(views, paint, options)), up, paths)


def _write(levels: list[Mesh], up: UpAxis | None, paths: Sequence[Path]) -> None:
    """Writes the levels of detail of one mesh, relative to one origin."""
    from img3d_assets.mesh_files import write_mesh
    from img3d_assets.precision import nearby_origin

    origin = nearby_origin(levels[0].vertices)
    say_origin(origin)
    for path, level in zip(paths, levels, strict=True):
        write_mesh(replace(level, vertices=level.vertices - origin), path, up)
        print_written(f"{len(level.faces):,} triangles", path)


def _pictures_of_run(
    run: Run, load_config: Path, texture: TextureSource, original_frame: bool
) -> tuple[SurfaceViews, SurfaceViews | None, UpAxis | None]:
    """The views for the surface, those for the texture, and the axis that points up."""
    from img3d_exporters.meshes.surface_views import photographed, rendered_for

    render = renderer_of(run, load_config)
    views, paint = rendered_for(render, run.cameras, texture != "none")
    if texture == "photos":
        dataset = run.datamanager.train_dataset
        assert dataset is not None
        paint = photographed(render, dataset, run.model)
    if original_frame:
        frame = run.dataparser_transform, run.dataparser_scale
        return views.in_frame(*frame), paint and paint.in_frame(*frame), None
    return views, paint, "z"


def _pictures_of_file(
    path: Path, texture: TextureSource, crop_min: Point | None, crop_max: Point | None
) -> tuple[SurfaceViews, SurfaceViews | None, UpAxis]:
    """As `_pictures_of_run`, for a splat file."""
    from img3d_assets.splat_editing.selection import select
    from img3d_exporters.meshes.surface_views import cameras_around, rendered_for, splat_renderer

    if texture == "photos":
        raise InputError("A splat file has no photos: --texture photos needs --load-config.")
    splats, up = splats_of_file(path)
    say_origin(splats.origin)
    splats = select(splats, crop_min=crop_min, crop_max=crop_max)
    return *rendered_for(splat_renderer(splats), cameras_around(splats), texture == "renders"), up
