# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-export`: exports a run, given by its config.yml, or a splat file to formats of other programs."""

from __future__ import annotations

import tyro

from img3d_base.errors import exits_with_one_line
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_exporters.commands.depth import depth
from img3d_exporters.commands.lod import lod
from img3d_exporters.commands.mesh import mesh
from img3d_exporters.commands.pointcloud import pointcloud
from img3d_exporters.commands.report import report
from img3d_exporters.commands.splat import splat
from img3d_exporters.commands.video import video
from img3d_exporters.commands.viewer import viewer
from img3d_methods.training.threads import leave_threads_to_kernels

DESCRIPTION = """Exports runs to the formats of other programs. A run's config.yml can run code when it is loaded,
as with all of Nerfstudio's commands: load only files from people you trust."""

app = tyro.extras.SubcommandApp()
for subcommand in (viewer, splat, mesh, pointcloud, depth, lod, video, report):
    app.command(subcommand)


def main() -> None:
    """Entry point of `img3d-export`."""
    silence_upstream_warnings()
    leave_threads_to_kernels()  # torch's threads would slow down palettes on a busy machine, from seconds to a minute
    with exits_with_one_line("Interrupted; nothing was written."):
        app.cli(prog="img3d-export", description=DESCRIPTION)


if __name__ == "__main__":
    main()
