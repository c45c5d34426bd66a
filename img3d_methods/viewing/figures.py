# SPDX-License-Identifier: Apache-2.0
"""The style of our diagrams, and their conversion to data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.2, 2.4
"""Size of a figure in inches, at which its text has its nominal size."""
TRAINING, HELD_OUT, INK, FAINT = "#2563eb", "#ea580c", "#334155", "#cbd5e1"
"""Blue and orange can be distinguished by colour-blind people too."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "svg.hashsalt": "img3d",  # the same run gives the same page
}


def data_uri(data: bytes, media_type: str) -> str:
    """The data as a URI that a page can embed."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@contextmanager
def figure(
    width: float = WIDTH, height: float = HEIGHT, left: float | None = None
) -> Generator[tuple[Figure, Axes], None, None]:
    """An empty diagram in our style, which applies while it is drawn.

    Args:
        width: In inches.
        height: In inches.
        left: Fraction of the width for the labels on the left; None fits them, which takes half of the drawing time.
    """
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained" if left is None else None)
        if left is not None:
            drawn.subplots_adjust(left=left, right=0.98, bottom=0.19, top=0.97)
        yield drawn, drawn.add_subplot()


def svg(drawn: Figure) -> str:
    """The figure as an SVG data URI."""
    file = io.BytesIO()
    drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return data_uri(file.getvalue(), "image/svg+xml")


def thousands() -> FuncFormatter:
    """Formats 12,000 with a comma."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def plain() -> FuncFormatter:
    """Formats 0.01 as a decimal, not as a power of ten."""
    return FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value:,.0f}")
