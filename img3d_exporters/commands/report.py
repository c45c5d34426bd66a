# SPDX-License-Identifier: Apache-2.0
"""`img3d-export report`: a run on one page."""

from __future__ import annotations

from pathlib import Path

from img3d_exporters.commands.sources import print_written


def report(output: Path, load_config: Path, force: bool = False) -> None:
    """Writes one page that shows a run, whatever its method: renders beside held-out photos, where cameras and points
    are, how training went, what the Gaussians are like, how large files get. It opens anywhere, offline.

    Args:
        output: The page to write, an .html.
        load_config: The run's config.yml.
        force: Replace the file if it is there.
    """
    from img3d_exporters.load_run import load_run
    from img3d_exporters.report.report import check_output, write_report

    check_output(output, force)
    write_report(load_run(load_config, test_mode="test"), output)
    print_written("The run on one page", output)
