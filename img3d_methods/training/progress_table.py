# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's progress table with the number of Gaussians, and plain lines if the output is not a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from nerfstudio.configs.base_config import LocalWriterConfig
from nerfstudio.utils import writer

GAUSSIANS = "Gaussians"
TRAIN_PSNR = "Train PSNR"


@dataclass
class ProgressTableConfig(LocalWriterConfig):
    """Nerfstudio's local writer; `stats_to_track` chooses its other columns."""

    _target: type = field(default_factory=lambda: ProgressTable)
    enable: bool = True
    stats_to_track: tuple[writer.EventName, ...] = (
        writer.EventName.ITER_TRAIN_TIME,
        writer.EventName.CURR_TEST_PSNR,
        writer.EventName.ETA,
    )


class ProgressTable(writer.LocalWriter):
    """Adds two columns, and writes one line per report to files and pipes.

    Nerfstudio moves the cursor up to redraw its last ten lines, which leaves control codes and repeated lines in a
    log.
    """

    def __init__(self, config: LocalWriterConfig, banner_messages: list[str] | None = None) -> None:
        super().__init__(config, banner_messages)
        self.stats_to_track += [GAUSSIANS, TRAIN_PSNR]
        if not sys.stdout.isatty():
            config.max_log_size = 0
            for message in banner_messages or []:
                print(message, flush=True)

    def _update_header(self, latest_map: dict[str, Any], new_key: bool) -> None:
        if self.config.max_log_size:
            super()._update_header(latest_map, new_key)
        elif not self.has_printed:
            print(f"{'Step (% Done)':<20}" + "".join(f"{name:<20} " for name in self._columns(latest_map)))
            self.has_printed = True

    def _print_stats(self, latest_map: dict[str, Any], padding: str = " ") -> None:
        latest_map = {name: latest_map[name] for name in self._columns(latest_map)}
        if GAUSSIANS in latest_map:
            latest_map[GAUSSIANS] = _WholeNumber(latest_map[GAUSSIANS])
        super()._print_stats(latest_map, padding)
        sys.stdout.flush()

    def _columns(self, latest_map: dict[str, Any]) -> list[str]:
        return [name for name in latest_map if name in self.stats_to_track]


class _WholeNumber(int):
    """An integer that upstream's `f"{value:0.4f}"` prints without decimals."""

    def __format__(self, format_spec: str) -> str:
        return f"{int(self):,}"
