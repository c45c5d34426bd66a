# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat`: exports splats to the formats of other programs."""

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
    """Writes the splats in a format of another program: .ply (3DGS), .compressed.ply and .sog (PlayCanvas), .spz
    (Niantic), .splat (antimatter15), .glb and .gltf (Khronos). Reads all of these and .ksplat; the format is
    recognised by the content, whatever the file name.

    Args:
        output: The file to write; its ending determines the format.
        load_config: The run's config.yml.
        input: A splat file instead of a run; a SOG may also be a folder.
        sh_degree: Highest degree of spherical harmonics to keep; 0 keeps one colour for all directions.
        crop_min: Remove Gaussians whose centre is below this corner, in the axes of the run or file (with
            --original-frame, of the original frame).
        crop_max: Remove Gaussians whose centre is beyond this corner.
        min_opacity: Remove Gaussians with a lower opacity (0 to 1).
        max_splats: Maximum number of Gaussians: those that cover most of a picture are kept.
        original_frame: Use the axes and units of the photos' own poses instead of the normalised ones of training.
        clean: Remove floaters (alone in empty space, close to a camera, or seen by no camera), needles, and
            everything far outside of what the cameras look at. For a run this uses its cameras, so its photos have
            to be there.
        force: Replace an existing file.
    """
    from img3d_assets.splat_editing.selection import select
    from img3d_assets.splat_files import check_output, write_splats

    check_one_source(load_config, input)
    check_output(output, force)
    splats, up = splats_of(load_config, input, original_frame, clean)
    splats = select(splats, sh_degree, crop_min, crop_max, min_opacity, max_splats)
    num = write_splats(splats, output, up)
    print_written(f"{num:,} Gaussians", output)
