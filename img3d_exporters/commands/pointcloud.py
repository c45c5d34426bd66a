# SPDX-License-Identifier: Apache-2.0
"""`img3d-export pointcloud`: exports points with colours and normals."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from img3d_base.errors import InputError
from img3d_exporters.commands.sources import (
    check_frame_known,
    check_one_source,
    print_written,
    say_origin,
    splats_of_asset,
    splats_of_file,
)


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
        output: The file to write; its ending determines the format.
        load_config: The run's config.yml.
        input: A splat or mesh file instead of a run.
        num_points: Number of points.
        source: "gaussians" draws points from the Gaussians, in proportion to how much of each is visible (the
            default if there are any; a mesh is sampled evenly instead, and a run of img3d-mvs has points of its own,
            of which all or a random choice is written); "depth" uses the depth that the model
            renders for its training cameras, which works for any method.
        original_frame: Use the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace an existing file.
    """
    from img3d_assets.gaussians import Gaussians
    from img3d_assets.mesh import Mesh
    from img3d_assets.mesh_files import is_mesh, read_mesh
    from img3d_assets.mesh_sampling import points_on_mesh
    from img3d_assets.point_cloud_files import SINGLE_PRECISION, check_output, write_point_cloud
    from img3d_assets.precision import nearby_origin
    from img3d_exporters.load_run import load_run
    from img3d_exporters.points.point_cloud import points_of_depth, points_on_gaussians, thinned
    from img3d_methods.representation import measured_points

    check_one_source(load_config, input)
    check_output(output, force)
    if num_points < 1:
        raise InputError(f"--num-points is {num_points}: it must be at least 1.")
    if load_config is None:
        assert input is not None
        if source == "depth":
            raise InputError("A splat file has no training cameras: --source depth needs --load-config.")
        check_frame_known(original_frame)
        if is_mesh(input):
            cloud = points_on_mesh(read_mesh(input)[0], num_points)
        else:
            cloud = points_on_gaussians(splats_of_file(input)[0], num_points)
    else:
        run = load_run(load_config)
        asset = run.representation.asset()
        measured = measured_points(run.model) if source is None else None
        if measured is not None:
            cloud = thinned(measured, num_points)
        elif isinstance(asset, Mesh) and source is None:
            cloud = points_on_mesh(asset, num_points)
        elif source == "depth" or (source is None and not isinstance(asset, Gaussians)):
            cloud = points_of_depth(run.model, run.cameras, num_points)
        else:
            cloud = points_on_gaussians(splats_of_asset(asset, run, load_config), num_points, run.cameras)
        if original_frame:
            cloud = cloud.in_original_frame(run.dataparser_transform, run.dataparser_scale)
    if output.suffix.lower() == SINGLE_PRECISION:
        origin = nearby_origin(cloud.points)
        say_origin(origin)
        cloud.points -= origin
    write_point_cloud(cloud, output)
    print_written(f"{len(cloud):,} points", output)
