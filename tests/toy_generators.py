# SPDX-License-Identifier: Apache-2.0
"""Generators of a package beside img3d, which need no weights: a field, and Gaussians that are not aligned with their
image, as TripoSR and TRELLIS make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from triplanes import ball_field

from img3d_assets.fields.triplane import FieldMlp, TriplaneField
from img3d_assets.gaussians import Gaussians
from img3d_generators.registry import Generator, InputView

RADIUS = 0.5
"""Of what they make: a grey ball."""
CHANNELS = 8
CAMERA = InputView(0.2, 49.1, 2.0)
NAMES = ("toy-field", "toy-gaussians")
ROWS = (
    Generator(NAMES[0], "image", "Field", "a ball", load="toy_generators:load", input=CAMERA),
    Generator(NAMES[1], "image", "Gaussians", "a ball", load="toy_generators:load", input=CAMERA, is_aligned=False),
)


def load(name: str) -> Callable[..., TriplaneField | Gaussians]:
    """What makes a ball of any image."""

    def make(source: Any, seed: int = 0) -> TriplaneField | Gaussians:
        return field() if name == NAMES[0] else gaussians()

    return make


def field() -> TriplaneField:
    """The ball's field, with features and units to spare, so that training can make something else of it."""
    ball = ball_field(RADIUS, size=32)
    torch.manual_seed(0)
    planes = 0.1 * torch.randn(3, CHANNELS, 32, 32)
    planes[:, :2] = ball.planes.detach()
    given = [2 * (column // 2 * CHANNELS // 2) + column % 2 for column in range(6)]
    mlp = FieldMlp(3 * CHANNELS, 32, 1)
    with torch.no_grad():
        first, last, of_ball = linear(mlp, 0), linear(mlp, 2), (linear(ball.mlp, 0), linear(ball.mlp, 2))
        for weight in (first.weight[:3], last.weight):
            weight.zero_()
        first.weight[:3, given] = of_ball[0].weight
        first.bias[:3] = of_ball[0].bias
        # 8 instead of 40 times radius² - r² is the density's logarithm: with a soft edge more samples have gradients.
        last.weight[0, 0] = of_ball[1].weight[0, 0] + 32
        last.bias[0] = of_ball[1].bias[0] - 32 * (RADIUS**2 + of_ball[0].bias[0])
        last.bias[1:] = 0
    return TriplaneField(planes, mlp, ball.layout, torch.eye(3), up="y")


def linear(mlp: FieldMlp, index: int) -> torch.nn.Linear:
    """A layer of a field's network."""
    layer = mlp.layers[index]
    assert isinstance(layer, torch.nn.Linear)
    return layer


def gaussians() -> Gaussians:
    """The ball's surface."""
    rng = np.random.default_rng(0)
    around = rng.normal(size=(1500, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    return Gaussians(
        means=(RADIUS * around).astype(np.float32),
        quats=np.tile(np.array([[1, 0, 0, 0]], np.float32), (1500, 1)),
        log_scales=np.full((1500, 3), np.log(0.03), np.float32),
        opacities=np.full(1500, 2, np.float32),
        sh_dc=np.zeros((1500, 3), np.float32),
        sh_rest=np.zeros((1500, 0, 3), np.float32),
        antialiased=True,
        up="y",
    )


def install(folder: Path) -> list[str]:
    """Installs this package for processes whose PYTHONPATH holds the returned folders.

    Args:
        folder: Where to put its metadata.
    """
    info = folder / "toy_generators-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-generators\nVersion: 1.0\n")
    methods = "".join(f"img3d-{name} = img3d_methods.specs:img3d_{name.replace('-', '_')}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(
        f"[img3d.generators]\ntoys = toy_generators:ROWS\n\n[nerfstudio.method_configs]\n{methods}"
    )
    return [str(folder), str(Path(__file__).parent)]
