# SPDX-License-Identifier: Apache-2.0
"""The diagrams of a run's report, drawn by matplotlib: positions of cameras, and statistics of the Gaussians.

All are narrow, so that three fit side by side on a screen, and one on a phone with readable text. They are data
URIs, which a page can embed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from img3d_exporters.report.scene import AXES, Plan, Side
from img3d_methods.viewing.figures import HELD_OUT, INK, TRAINING, data_uri, figure, plain, svg, thousands

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

SCENE_WIDTH = 5.2
MAX_ERROR = 0.2
"""Error that the brightest colour of an error map stands for, and everything above; white minus black is 1."""
FRUSTUM = 0.035
"""Length of a drawn camera, relative to the longest side of the scene."""


def error_map(error: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of differences in [0, 1]; black is no difference."""
    colors = matplotlib.colormaps["inferno"](np.clip(error / MAX_ERROR, 0, 1))
    return np.round(255 * colors[..., :3]).astype(np.uint8)


def error_scale(num: int = 9) -> list[tuple[int, ...]]:
    """Colours of an error map from no error to the largest, as RGB in 0 to 255."""
    return [tuple(color) for color in error_map(np.linspace(0, MAX_ERROR, num)[None])[0].tolist()]


# ---------------------------------------------------------------------------------------------------- where things are


def scene_view(side: Side, scene: Plan, training: Cameras, held_out: Cameras | None) -> str:
    """Draws the cameras in the scene.

    Args:
        side: The side from which the scene is seen.
        scene: The scene as seen from that side.
        training: Training cameras, shape [C], with Nerfstudio's poses; blue.
        held_out: Held-out cameras; orange. None if there are none.
    """
    right, up = AXES[side]
    size = scene.high - scene.low
    groups = [(training, TRAINING, "training")] + ([(held_out, HELD_OUT, "held out")] if held_out is not None else [])
    height = SCENE_WIDTH * float(np.clip(size[up] / size[right], 0.2, 1.2)) + 0.4
    with figure(SCENE_WIDTH, height) as (drawn, axes):
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
        return _jpeg(drawn)


def _frusta(cameras: Cameras, length: float) -> Float[np.ndarray, "C 12 3"]:
    """The edges of each camera's viewing frustum up to a distance, as one line."""
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


# ------------------------------------------------------------------------------------------------- what came of it


def histogram(values: Float[np.ndarray, "N"], label: str, logarithmic: bool) -> str:
    """Draws a histogram of a value of the Gaussians.

    Args:
        values: At least one; positive if logarithmic, otherwise in [0, 1]. Outliers (one in a thousand) are not
            shown.
        label: The label of the axis.
        logarithmic: Whether the axis is logarithmic.
    """
    if logarithmic:
        low, high = np.quantile(values, (0.001, 0.999))
        bins = np.geomspace(low, max(high, 1.01 * low), 60)
    else:
        bins = np.linspace(0, 1, 51)
    with figure() as (drawn, axes):
        axes.hist(values, bins=bins.tolist(), color=TRAINING, alpha=0.8)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(plain())
        axes.axvline(float(np.median(values)), color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel(label)
        axes.set_ylabel("Gaussians")
        axes.yaxis.set_major_formatter(thousands())
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return svg(drawn)


# --------------------------------------------------------------------------------------------------------- drawing


def _jpeg(drawn: Figure) -> str:
    """The figure as a JPEG data URI: with pictures in it, a twentieth of the SVG's size."""
    file = io.BytesIO()
    drawn.savefig(file, format="jpeg", dpi=220, bbox_inches="tight", pad_inches=0.03, pil_kwargs={"quality": 88})
    return data_uri(file.getvalue(), "image/jpeg")
