# SPDX-License-Identifier: Apache-2.0
"""`img3d-export lod`: exports splats with levels of detail."""

from __future__ import annotations

from pathlib import Path

from img3d_base.console import print_line
from img3d_exporters.commands.sources import check_one_source, splats_of


def lod(
    output_dir: Path,
    load_config: Path | None = None,
    input: Path | None = None,
    sh_degree: int | None = None,
) -> None:
    """Writes the splats as a streamed SOG: a pyramid of levels of detail in pieces, for web viewers that load what
    they need, such as those of PlayCanvas and Babylon.js. Put the folder on a web server and give the viewer its
    lod-meta.json.

    Args:
        output_dir: Folder to write; it must not exist.
        load_config: The run's config.yml.
        input: A splat file instead of a run.
        sh_degree: Highest degree of spherical harmonics to keep; 0 keeps one colour for all directions.
    """
    from img3d_assets.splat_editing.selection import select
    from img3d_assets.splat_files import in_3dgs_axes
    from img3d_base.output_files import check_free
    from img3d_exporters.splats.streamed_sog import write_streamed_sog

    check_one_source(load_config, input)
    check_free(output_dir, force=False)
    splats, up = splats_of(load_config, input, original_frame=False)
    levels = write_streamed_sog(in_3dgs_axes(select(splats, sh_degree), up), output_dir)
    counts = ", ".join(f"{len(level):,}" for level in levels)
    print_line(f"Levels of {counts} Gaussians: {output_dir}")
