# SPDX-License-Identifier: Apache-2.0
"""The diagrams of a run's report, drawn by matplotlib: where cameras are, how training went, how large the Gaussians
are.

All are narrow, so that a page can put three beside each other on a screen, and one below the other on a phone with
letters that remain readable. They are data URIs, which a page holds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from img3d_exporters.report_scene import AXES, Plan, Side
from img3d_methods.training_curve import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from nerfstudio.cameras.cameras import Cameras

WIDTH, HEIGHT = 4.2, 2.4
"""Of a figure in inches, in which its letters have their size."""
SCENE_WIDTH = 5.2
TRAINING, HELD_OUT, INK, FAINT = "#2563eb", "#ea580c", "#334155", "#cbd5e1"
"""Blue and orange, which colour-blind people can tell apart too."""
LARGEST_ERROR = 0.2
"""The brightest colour of an error map stands for this and all that is more, where white minus black is 1."""
FRUSTUM = 0.035
"""Length of a drawn camera, in longest sides of the scene."""
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
    """For a page that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def error_map(error: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of differences in [0, 1]: black where there is none."""
    colors = matplotlib.colormaps["inferno"](np.clip(error / LARGEST_ERROR, 0, 1))
    return np.round(255 * colors[..., :3]).astype(np.uint8)


def error_scale(num: int = 9) -> list[tuple[int, ...]]:
    """Colours of an error map from no error to the largest, RGB of 255."""
    return [tuple(color) for color in error_map(np.linspace(0, LARGEST_ERROR, num)[None])[0].tolist()]


# ---------------------------------------------------------------------------------------------------- where things are


def scene_view(side: Side, scene: Plan, training: Cameras, held_out: Cameras | None) -> str:
    """Where the cameras are in the scene.

    Args:
        side: Where it is looked at from.
        scene: From that side.
        training: Shape [C], Nerfstudio's poses; blue.
        held_out: Orange; None if there are none but the training cameras.
    """
    right, up = AXES[side]
    size = scene.high - scene.low
    groups = [(training, TRAINING, "training")] + ([(held_out, HELD_OUT, "held out")] if held_out is not None else [])
    height = SCENE_WIDTH * float(np.clip(size[up] / size[right], 0.2, 1.2)) + 0.4
    with _figure(SCENE_WIDTH, height) as (figure, axes):
        axes.grid(False)
        corners = (scene.low[right], scene.high[right], scene.low[up], scene.high[up])
        axes.imshow(scene.picture, extent=corners, interpolation="antialiased")
        for cameras, color, label in groups:
            lines = _frusta(cameras, FRUSTUM * float(size.max()))[..., [right, up]]
            axes.add_collection(LineCollection(list(lines), colors=color, linewidths=0.6, alpha=0.8))
            position = cameras.camera_to_worlds[:, :3, 3].cpu().numpy()
            axes.plot(position[:, right], position[:, up], ".", color=color, markersize=4, label=label)
        axes.set_xlabel("x")
        axes.set_ylabel("y" if side == "above" else "z")
        if len(groups) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, handletextpad=0.1)
        return _jpeg(figure)


def _frusta(cameras: Cameras, length: float) -> Float[np.ndarray, "C 12 3"]:
    """The edges of each camera's field of view up to this distance, as one line."""
    poses = cameras.camera_to_worlds[:, :3].cpu().double().numpy()
    half_width, half_height = (
        (size.cpu().double() / focal.cpu().double() / 2).reshape(-1).numpy().clip(0.05, 2)
        for size, focal in ((cameras.width, cameras.fx), (cameras.height, cameras.fy))
    )
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    in_camera = np.stack(
        [
            corners[:, 0] * half_width[:, None],
            corners[:, 1] * half_height[:, None],
            -np.ones((len(poses), 4)),
        ],
        axis=-1,
    )
    ends = poses[:, None, :, 3] + length * in_camera @ poses[:, :, :3].transpose(0, 2, 1)
    apex = poses[:, :, 3]
    a, b, c, d = (ends[:, i] for i in range(4))
    return np.stack([apex, a, b, apex, c, d, apex, b, c, apex, d, a], axis=1)


# ------------------------------------------------------------------------------------------------------ how it went


def psnr_curve(points: Sequence[CurvePoint], held_out: float | None, doublings: Sequence[int]) -> str:
    """Training PSNR over the steps.

    Args:
        points: Of the run.
        held_out: Mean PSNR of the held-out photos in the end, or None.
        doublings: Steps from which images have twice the size.
    """
    with _curve(points, [point.psnr for point in points], "dB", doublings) as (figure, axes):
        if held_out is not None:
            axes.axhline(held_out, color=HELD_OUT, linewidth=1.2, linestyle="--")
            axes.annotate(
                *("held out, in the end", (0.02, held_out)),
                **{"xycoords": ("axes fraction", "data"), "va": "bottom", "color": HELD_OUT},
            )
        return _svg(figure)


def loss_curve(points: Sequence[CurvePoint], doublings: Sequence[int]) -> str:
    """Loss over the steps, logarithmic."""
    with _curve(points, [point.loss for point in points], "loss", doublings) as (figure, axes):
        if min(point.loss for point in points) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain())
            axes.yaxis.set_minor_formatter(_plain())
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        return _svg(figure)


def gaussians_curve(points: Sequence[CurvePoint]) -> str:
    """Number of Gaussians over the steps."""
    with _figure() as (figure, axes):
        axes.plot([point.step for point in points], [point.gaussians for point in points], color=TRAINING)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_thousands())
        _label_steps(axes)
        axes.set_ylabel("Gaussians")
        return _svg(figure)


@contextmanager
def _curve(
    points: Sequence[CurvePoint], values: Sequence[float], label: str, doublings: Sequence[int]
) -> Iterator[tuple[Figure, Axes]]:
    """One photo's values, which jump, and the mean of their neighbours, which does not."""
    steps = np.array([point.step for point in points])
    with _figure() as (figure, axes):
        for step in doublings:
            axes.axvline(step, color="#94a3b8", linewidth=0.8, linestyle=":")
        axes.plot(steps, values, ".", color=TRAINING, alpha=0.45, markersize=5, markeredgewidth=0)
        axes.plot(steps, running_mean(values), color=TRAINING, linewidth=1.6)
        _label_steps(axes)
        axes.set_ylabel(label)
        yield figure, axes


def running_mean(values: Sequence[float]) -> Float[np.ndarray, "N"]:
    """Means of each value and its neighbours: fewer towards the ends."""
    reach = max(1, len(values) // 12)
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    around = np.minimum(np.minimum(at, len(values) - 1 - at), reach)
    return (total[at + around + 1] - total[at - around]) / (2 * around + 1)


def _label_steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(_thousands())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(left=0)


# ------------------------------------------------------------------------------------------------- what came of it


def histogram(values: Float[np.ndarray, "N"], label: str, logarithmic: bool) -> str:
    """How many Gaussians have which value.

    Args:
        values: At least one; positive if logarithmic, else in [0, 1]. Outliers, one in a thousand, are not shown.
        label: Of the axis.
        logarithmic: Whether that axis is.
    """
    if logarithmic:
        low, high = np.quantile(values, (0.001, 0.999))
        bins = np.geomspace(low, max(high, 1.01 * low), 60)
    else:
        bins = np.linspace(0, 1, 51)
    with _figure() as (figure, axes):
        axes.hist(values, bins=bins.tolist(), color=TRAINING, alpha=0.8)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(_plain())
        axes.axvline(float(np.median(values)), color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel(label)
        axes.set_ylabel("Gaussians")
        axes.yaxis.set_major_formatter(_thousands())
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure)


# --------------------------------------------------------------------------------------------------------- drawing


@contextmanager
def _figure(width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Figure, Axes]]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    """As a data URI."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return data_uri(file.getvalue(), "image/svg+xml")


def _jpeg(figure: Figure) -> str:
    """As a data URI, where there is a picture in it: a twentieth of the SVG's size."""
    file = io.BytesIO()
    figure.savefig(file, format="jpeg", dpi=220, bbox_inches="tight", pad_inches=0.03, pil_kwargs={"quality": 88})
    return data_uri(file.getvalue(), "image/jpeg")


def _thousands() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def _plain() -> FuncFormatter:
    """0.01 rather than a power of ten."""
    return FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value:,.0f}")
