# SPDX-License-Identifier: Apache-2.0
"""Diagrams of training curves, as data URIs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import LogLocator, MaxNLocator

from img3d_methods.training.curve import CurvePoint
from img3d_methods.viewing.figures import HELD_OUT, TRAINING, figure, plain, svg, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def psnr_curve(points: Sequence[CurvePoint], held_out: float | None, doublings: Sequence[int]) -> str:
    """Training PSNR over the steps.

    Args:
        points: The training curve.
        held_out: Mean PSNR of the held-out photos at the end, or None.
        doublings: Steps from which images have twice the size.
    """
    with _curve(points, [point.psnr for point in points], "PSNR, dB", doublings) as (drawn, axes):
        if held_out is not None:
            axes.axhline(held_out, color=HELD_OUT, linewidth=1.2, linestyle="--")
            axes.annotate(
                *("held out, at the end", (0.02, held_out)),
                **{"xycoords": ("axes fraction", "data"), "va": "bottom", "color": HELD_OUT},
            )
        return svg(drawn)


def loss_curve(points: Sequence[CurvePoint], doublings: Sequence[int]) -> str:
    """Loss over the steps, on a logarithmic scale."""
    with _curve(points, [point.loss for point in points], "loss", doublings) as (drawn, axes):
        if min(point.loss for point in points) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(plain())
            axes.yaxis.set_minor_formatter(plain())
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        return svg(drawn)


def gaussians_curve(points: Sequence[CurvePoint]) -> str:
    """Number of Gaussians over the steps."""
    with figure() as (drawn, axes):
        axes.plot([point.step for point in points], [point.gaussians for point in points], color=TRAINING)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(thousands())
        _label_steps(axes)
        axes.set_ylabel("Gaussians")
        return svg(drawn)


@contextmanager
def _curve(
    points: Sequence[CurvePoint], values: Sequence[float], label: str, doublings: Sequence[int]
) -> Generator[tuple[Figure, Axes], None, None]:
    """A diagram of the values, which vary from photo to photo, and of their running mean."""
    steps = np.array([point.step for point in points])
    with figure(left=0.17) as (drawn, axes):
        for step in doublings:
            axes.axvline(step, color="#94a3b8", linewidth=0.8, linestyle=":")
        axes.plot(steps, values, ".", color=TRAINING, alpha=0.45, markersize=5, markeredgewidth=0)
        axes.plot(steps, running_mean(values), color=TRAINING, linewidth=1.6)
        _label_steps(axes)
        axes.set_ylabel(label)
        yield drawn, axes


def running_mean(values: Sequence[float]) -> Float[np.ndarray, "N"]:
    """Means of each value and its neighbours; fewer neighbours towards the ends."""
    reach = max(1, len(values) // 12)
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    around = np.minimum(np.minimum(at, len(values) - 1 - at), reach)
    return (total[at + around + 1] - total[at - around]) / (2 * around + 1)


def _label_steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(thousands())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(left=0)
