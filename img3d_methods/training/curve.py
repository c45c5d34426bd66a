# SPDX-License-Identifier: Apache-2.0
"""The training curve of a run: a list of points that the trainer keeps, and a small table beside config.yml."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from img3d_base.atomic_files import write_atomically

CURVE_FILE = "training_curve.csv"
"""File name, in the run's folder."""


@dataclass(frozen=True)
class CurvePoint:
    """What was measured after a step, on the photo of that step."""

    step: int
    seconds: float
    """Training time so far, without pauses."""
    loss: float
    psnr: float
    """In dB, at the resolution of that step."""
    gaussians: int
    """Number of Gaussians; 0 for methods without."""


def write_curve(points: Sequence[CurvePoint], path: Path) -> None:
    """Writes the points as a CSV table, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="ascii") as file:
        table = csv.writer(file)
        table.writerow(_columns())
        for point in points:
            table.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in astuple(point))


def read_curve(path: Path) -> list[CurvePoint]:
    """Reads the points of a table; empty if there is none.

    Raises:
        ValueError: The table is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="ascii") as file:
            header, *rows = csv.reader(file)
            if header != _columns():
                raise ValueError(f"its columns are not {', '.join(_columns())}")
            return [
                CurvePoint(int(step), float(seconds), float(loss), float(psnr), int(gaussians))
                for step, seconds, loss, psnr, gaussians in rows
            ]
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{path} is not a training curve: {error}") from error


def _columns() -> list[str]:
    return [field.name for field in fields(CurvePoint)]
