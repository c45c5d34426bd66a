# SPDX-License-Identifier: Apache-2.0
"""`img3d-export report`: a report about a run on one page."""

from __future__ import annotations

from pathlib import Path

from img3d_exporters.commands.sources import print_written


def report(output: Path, load_config: Path, force: bool = False) -> None:
    """Writes a report about a run of any method as one page: renders beside held-out photos, positions of cameras
    and points, training curves, statistics of the Gaussians, and sizes of files. The page opens in any browser,
    offline.

    Args:
        output: The .html file to write.
        load_config: The run's config.yml.
        force: Replace an existing file.
    """
    from img3d_exporters.load_run import load_run
    from img3d_exporters.report.report import check_output, write_report

    check_output(output, force)
    write_report(load_run(load_config, test_mode="test"), output)
    print_written("The run on one page", output)
