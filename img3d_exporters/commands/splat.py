# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat`: splats in the formats of other programs."""

from __future__ import annotations

from pathlib import Path

from img3d_exporters.commands.sources import Point, check_one_source, print_written, splats_of


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
    clean: bool = False,
    force: bool = False,
) -> None:
    """Writes the splats in a format of other programs: .ply (3DGS), .compressed.ply and .sog (PlayCanvas), .spz
    (Niantic), .splat (antimatter15), .glb and .gltf (Khronos). Reads all of them too, and .ksplat, by what is in a
    file, whatever its name.

    Args:
        output: The file to write; its ending says the format.
        load_config: The run's config.yml.
        input: A splat file instead of a run; also a SOG that is a folder.
        sh_degree: Highest degree of spherical harmonics to keep: 0 leaves one colour for all directions.
        crop_min: Leave out what has its centre below this corner, in the axes of the run or file (or, with
            --original-frame, in those).
        crop_max: Leave out what has its centre beyond this corner.
        min_opacity: Leave out what is less opaque, from 0 to 1.
        max_splats: Keep so many at most: those that may cover most of a picture.
        original_frame: In the axes and units of the photos' own poses instead of the normalised ones of training.
        clean: Leave out floaters (alone in empty space, before a camera, seen by no camera), needles, and what is far
            outside of what the cameras look at. Of a run its cameras are used; its photos have to be there for that.
        force: Replace the file if it is there.
    """
    from img3d_assets.selection import select
    from img3d_assets.splat_files import check_output, write_splats

    check_one_source(load_config, input)
    check_output(output, force)
    splats, up = splats_of(load_config, input, original_frame, clean)
    splats = select(splats, sh_degree, crop_min, crop_max, min_opacity, max_splats)
    num = write_splats(splats, output, up)
    print_written(f"{num:,} Gaussians", output)
