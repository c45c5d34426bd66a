# SPDX-License-Identifier: Apache-2.0
"""How a run went, step by step: a list of points that the trainer keeps, and a small table beside its config.yml."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from img3d_base.atomic_files import write_atomically

CURVE_FILE = "training_curve.csv"
"""In the run's folder."""


@dataclass(frozen=True)
class CurvePoint:
    """What was measured after a step, on the one photo that it trained on."""

    step: int
    seconds: float
    """Of training until then, pauses left out."""
    loss: float
    psnr: float
    """In dB, at the resolution of that step."""
    gaussians: int
    """0 for methods that have none."""


def write_curve(points: Sequence[CurvePoint], path: Path) -> None:
    """Writes the points as a table that a spreadsheet opens, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="ascii") as file:
        table = csv.writer(file)
        table.writerow(_columns())
        for point in points:
            table.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in astuple(point))


def read_curve(path: Path) -> list[CurvePoint]:
    """The points of a table; none where there is no table.

    Raises:
        ValueError: It is damaged.
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
