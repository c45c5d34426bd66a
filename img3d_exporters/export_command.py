# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-export`: files that people use elsewhere, from a run's config.yml or from a splat file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from img3d_base.errors import InputError, exits_with_one_line
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_exporters.frames import UpAxis
from img3d_methods.splats import Splats, splats_of_parameters
from img3d_methods.threads import leave_threads_to_kernels

Point = tuple[float, float, float]
TextureSource = Literal["photos", "renders", "none"]

if TYPE_CHECKING:
    from nerfstudio.models.splatfacto import SplatfactoModel

    from img3d_exporters.load_run import Run
    from img3d_exporters.surface_views import SurfaceViews
    from img3d_exporters.viewer_page import PageScene

app = tyro.extras.SubcommandApp()


@app.command(name="viewer")
def viewer(
    output_dir: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    mesh: Path | None = None,
    single_file: bool = False,
    up_axis: UpAxis | None = None,
) -> None:
    """Writes a page that shows the splats in any current browser, offline: open its index.html, or send it to somebody.

    Args:
        output_dir: Folder to write; replaced if it is such a page already.
        load_config: The run's config.yml.
        input: A splat file of any format that `img3d-export splat` reads, instead of a run.
        mesh: A .glb of the same scene, as `img3d-export mesh` writes it without --original-frame; a button shows it.
        single_file: Everything in one index.html.
        up_axis: Which axis points up. Default: z for a run; for a file what it says, else -y, as 3DGS has it.
    """
    from img3d_exporters.viewer_page import check_assets, check_replaceable, read_glb, write_page

    _check_one_source(load_config, input)
    check_assets()  # before what takes long
    check_replaceable(output_dir)
    glb = None if mesh is None else read_glb(mesh)
    if load_config is not None:
        scene = _scene_of_run(load_config, up_axis)
    else:
        assert input is not None
        scene = _scene_of_file(input, up_axis)
    scene.mesh = glb
    files = write_page(scene, output_dir, single_file)
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    CONSOLE.print(
        f"{len(scene.splats):,} Gaussians, {megabytes:.1f} MB. Open it: {output_dir / 'index.html'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command(name="splat")
def splat(
    output: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    sh_degree: int | None = None,
    crop_min: Point | None = None,
    crop_max: Point | None = None,
    min_opacity: float | None = None,
    max_splats: int | None = None,
    original_frame: bool = False,
    force: bool = False,
) -> None:
    """Writes the splats in a format of other programs: .ply (3DGS), .compressed.ply and .sog (PlayCanvas), .spz
    (Niantic), .splat (antimatter15), .glb and .gltf (Khronos). Reads all of them too, and .ksplat.

    Args:
        output: The file to write; its ending says the format.
        load_config: The run's config.yml.
        input: A splat file instead of a run; also the meta.json of a SOG that is a folder.
        sh_degree: Highest degree of spherical harmonics to keep: 0 leaves one colour for all directions.
        crop_min: Leave out what has its centre below this corner, in the axes of the run or file (or, with
            --original-frame, in those).
        crop_max: Leave out what has its centre beyond this corner.
        min_opacity: Leave out what is less opaque, from 0 to 1.
        max_splats: Keep so many at most: those that may cover most of a picture.
        original_frame: In the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace the file if it is there.
    """
    from img3d_exporters.selection import select
    from img3d_exporters.splat_files import check_output, write_splats

    _check_one_source(load_config, input)
    check_output(output, force)
    splats, up = _splats_of(load_config, input, original_frame)
    splats = select(splats, sh_degree, crop_min, crop_max, min_opacity, max_splats)
    write_splats(splats, output, up)
    _print_written(f"{len(splats):,} Gaussians", output)


@app.command(name="mesh")
def mesh(
    output: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    surface: Literal["tsdf", "poisson"] = "tsdf",
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
    colours at its vertices; .stl. Of a run of any method that renders depth.

    Args:
        output: The file to write; its ending says the format.
        load_config: The run's config.yml.
        input: A splat file instead of a run. It is looked at from outside, as an object: of a whole scene, crop one.
        surface: How depth becomes a surface: averaged signed distances (tsdf), exact where pictures see enough; or
            a smooth one through that (poisson), which bridges gaps.
        resolution: Voxels along the longest side of what is in the mesh.
        faces: How many triangles at most.
        watertight: Close all holes, so that the mesh bounds a solid, as for 3D printing; what is too open for that
            becomes a thick sheet.
        texture: What to paint it with: the training photos, pictures of the model, or nothing but a colour at each
            vertex. Default: photos of a run, renders of a splat file.
        texture_size: Width and height of the texture in pixels.
        lods: Levels of detail: beside the file also name_lod1, name_lod2 …, each with a quarter of the faces of the
            one before and a texture of half its size.
        crop_min: Leave out what is below this corner, in the axes of the run or file (or, with --original-frame, in
            those). Default: what the cameras surround, if they look inward, else everything but a few outliers.
        crop_max: Leave out what is beyond this corner.
        original_frame: In the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace files that are there.
    """
    from img3d_exporters.mesh_export import MeshOptions, level_paths, levels_of_detail
    from img3d_exporters.mesh_files import check_output, holds_texture, write_mesh
    from img3d_exporters.texture_baking import check_texture_size

    _check_one_source(load_config, input)
    options = MeshOptions(surface, resolution, faces, watertight, texture_size, lods, crop_min, crop_max)
    paths = level_paths(output, lods)
    for path in paths:
        check_output(path, force)
    check_texture_size(texture_size)
    if not holds_texture(output):
        texture = "none"
    if load_config is None:
        assert input is not None
        _check_frame_known(original_frame)
        views, paint, up = _pictures_of_file(input, texture or "renders", crop_min, crop_max)
    else:
        views, paint, up = _pictures_of_run(load_config, texture or "photos", original_frame)
    for path, level in zip(paths, list(levels_of_detail(views, paint, options)), strict=True):
        write_mesh(level, path, up)
        _print_written(f"{len(level.faces):,} triangles", path)


@app.command(name="pointcloud")
def pointcloud(
    output: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    num_points: int = 500_000,
    source: Literal["gaussians", "depth"] | None = None,
    original_frame: bool = False,
    force: bool = False,
) -> None:
    """Writes points with colours and normals: .ply, .pcd, .xyz (text) or .las.

    Args:
        output: The file to write; its ending says the format.
        load_config: The run's config.yml.
        input: A splat file instead of a run.
        num_points: How many points.
        source: What they are drawn from: the Gaussians, as many on each as is seen of it (if there are any, this is
            what happens); or the depth that the model renders for its training cameras, which works for any method.
        original_frame: In the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace the file if it is there.
    """
    from nerfstudio.models.splatfacto import SplatfactoModel

    from img3d_exporters.load_run import load_run
    from img3d_exporters.point_cloud import points_of_depth, points_on_gaussians
    from img3d_exporters.point_cloud_files import check_output, write_point_cloud

    _check_one_source(load_config, input)
    check_output(output, force)
    if num_points < 1:
        raise InputError(f"--num-points is {num_points}: it must be at least 1.")
    if load_config is None:
        assert input is not None
        if source == "depth":
            raise InputError("A splat file has no training cameras: --source depth needs --load-config.")
        _check_frame_known(original_frame)
        cloud = points_on_gaussians(_splats_of_file(input)[0], num_points)
    else:
        run = load_run(load_config)
        if source == "depth" or (source is None and not isinstance(run.model, SplatfactoModel)):
            cloud = points_of_depth(run.model, run.cameras, num_points)
        else:
            splats = _splats_of_model(_splat_model(run, load_config), load_config)
            cloud = points_on_gaussians(splats, num_points, run.cameras)
        if original_frame:
            cloud = cloud.in_original_frame(run.dataparser_transform, run.dataparser_scale)
    write_point_cloud(cloud, output)
    _print_written(f"{len(cloud):,} points", output)


@app.command(name="lod")
def lod(
    output_dir: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    sh_degree: int | None = None,
) -> None:
    """Writes the splats as a streamed SOG: a pyramid of levels of detail in pieces, for web viewers that load what they
    need, such as PlayCanvas's and Babylon.js. Put the folder on a web server and give them its lod-meta.json.

    Args:
        output_dir: Folder to write; there must be nothing of its name.
        load_config: The run's config.yml.
        input: A splat file instead of a run.
        sh_degree: Highest degree of spherical harmonics to keep: 0 leaves one colour for all directions.
    """
    from img3d_exporters.output_files import check_free
    from img3d_exporters.selection import select
    from img3d_exporters.splat_files import in_3dgs_axes
    from img3d_exporters.streamed_sog import write_streamed_sog

    _check_one_source(load_config, input)
    check_free(output_dir, force=False)
    splats, up = _splats_of(load_config, input, original_frame=False)
    levels = write_streamed_sog(in_3dgs_axes(select(splats, sh_degree), up), output_dir)
    counts = ", ".join(f"{len(level):,}" for level in levels)
    CONSOLE.print(f"Levels of {counts} Gaussians: {output_dir}", markup=False, highlight=False, soft_wrap=True)


@app.command(name="report")
def report(output: Path, load_config: Path, force: bool = False) -> None:
    """Writes one page that shows a run, whatever its method: renders beside held-out photos, where cameras and points
    are, how training went, what the Gaussians are like, how large files get. It opens anywhere, offline.

    Args:
        output: The page to write, an .html.
        load_config: The run's config.yml.
        force: Replace the file if it is there.
    """
    from img3d_exporters.load_run import load_run
    from img3d_exporters.report import check_output, write_report

    check_output(output, force)
    write_report(load_run(load_config, test_mode="test"), output)
    _print_written("The run on one page", output)


def _check_one_source(load_config: Path | None, input: Path | None) -> None:
    if (load_config is None) == (input is None):
        raise InputError("Give either --load-config (a run's config.yml) or --input (a splat file).")


def _check_frame_known(original_frame: bool) -> None:
    if original_frame:
        raise InputError("A splat file does not know its photos' frame: --original-frame needs --load-config.")


def _print_written(what: str, path: Path) -> None:
    CONSOLE.print(f"{what}, {path.stat().st_size / 1e6:.1f} MB: {path}", markup=False, highlight=False, soft_wrap=True)


def _splats_of(load_config: Path | None, input: Path | None, original_frame: bool) -> tuple[Splats, UpAxis | None]:
    """Those of a run or a file, and which axis points up; with `original_frame`, nobody knows."""
    if load_config is None:
        assert input is not None
        _check_frame_known(original_frame)
        return _splats_of_file(input)
    from img3d_exporters.frames import in_original_frame
    from img3d_exporters.load_run import load_run

    run = load_run(load_config)
    splats = _splats_of_model(_splat_model(run, load_config), load_config)
    if original_frame:
        return in_original_frame(splats, run.dataparser_transform, run.dataparser_scale), None
    return splats, "z"


def _splats_of_file(path: Path) -> tuple[Splats, UpAxis]:
    from img3d_exporters.splat_files import read_splats

    splats, up = read_splats(path)
    return _drawable(splats, path), up


def _splats_of_model(model: SplatfactoModel, load_config: Path) -> Splats:
    splats = splats_of_parameters(dict(model.gauss_params.items()), model.config.sh_degree)
    splats.antialiased = model.config.rasterize_mode == "antialiased"
    return _drawable(splats, load_config)


def _splat_model(run: Run, load_config: Path) -> SplatfactoModel:
    from nerfstudio.models.splatfacto import SplatfactoModel

    if not isinstance(run.model, SplatfactoModel):
        raise InputError(
            f"{load_config} holds a {type(run.model).__name__}: only Gaussian splats can be written so. "
            "img3d-export mesh and pointcloud take any method."
        )
    return run.model


def _pictures_of_run(
    load_config: Path, texture: TextureSource, original_frame: bool
) -> tuple[SurfaceViews, SurfaceViews | None, UpAxis | None]:
    """What a mesh is made of, what it is painted with, and which axis points up."""
    from nerfstudio.models.splatfacto import SplatfactoModel

    from img3d_exporters.load_run import load_run
    from img3d_exporters.surface_views import model_renderer, photographed, rendered_for, splat_renderer

    run = load_run(load_config)
    if isinstance(run.model, SplatfactoModel):
        render = splat_renderer(_splats_of_model(run.model, load_config))
    else:
        render = model_renderer(run.model)
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
    """As `_pictures_of_run`."""
    from img3d_exporters.selection import select
    from img3d_exporters.surface_views import cameras_around, rendered_for, splat_renderer

    if texture == "photos":
        raise InputError("A splat file has no photos: --texture photos needs --load-config.")
    splats, up = _splats_of_file(path)
    splats = select(splats, crop_min=crop_min, crop_max=crop_max)
    return *rendered_for(splat_renderer(splats), cameras_around(splats), texture == "renders"), up


def _scene_of_run(load_config: Path, up_axis: UpAxis | None) -> PageScene:
    from img3d_exporters.load_run import load_run
    from img3d_exporters.viewer_page import PageScene, view_of_photo

    run = load_run(load_config)
    model = _splat_model(run, load_config)
    splats = _splats_of_model(model, load_config)
    return PageScene(
        title=run.name,
        splats=splats,
        up=up_axis or "z",
        view=view_of_photo(run.cameras),
        background=tuple(model._get_background_color().detach().cpu().tolist()),
        antialiased=splats.antialiased,
    )


def _scene_of_file(path: Path, up_axis: UpAxis | None) -> PageScene:
    from img3d_exporters.viewer_page import PageScene, view_of_everything

    splats, up = _splats_of_file(path)
    up = up_axis or up
    view = view_of_everything(splats, up)
    return PageScene(path.stem, splats, up, view, background=(0.0, 0.0, 0.0), antialiased=splats.antialiased)


def _drawable(splats: Splats, source: Path) -> Splats:
    visible = splats.visible()
    if len(visible) == 0:
        raise InputError(f"{source} holds no Gaussian that can be seen ({len(splats)} in all).")
    return visible


def main() -> None:
    """Entry point of `img3d-export`."""
    silence_upstream_warnings()
    leave_threads_to_kernels()  # on a busy machine torch's threads make palettes take a minute instead of seconds
    with exits_with_one_line("Interrupted; nothing was written."):
        app.cli(prog="img3d-export", description="Writes what a run made, in formats used elsewhere.")


if __name__ == "__main__":
    main()
