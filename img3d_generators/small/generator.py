# SPDX-License-Identifier: Apache-2.0
"""img3d-small: makes Gaussians from one picture with alpha, and recognises pictures unlike its training objects."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_base.errors import InputError, warn
from img3d_generators.lgm import UNetConfig
from img3d_generators.rows import SMALL_GENERATOR
from img3d_generators.small.columns import CELL, INPUT_SIZE, ColumnNetwork, column_inputs, in_volume
from img3d_generators.small.surface import gaussians_of
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.eight_bits import from_eight_bits
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

SMALL_WEIGHTS = Path(__file__).with_name("weights.safetensors")
MIN_COVERAGE = 0.4
"""Columns of which the object covers a smaller share stay empty: with them, the silhouette would be too large."""
MIN_PEAK = 0.6
"""Minimum of a column's highest probability; lower columns are raised, since the picture shows that the object is
somewhere in each of them."""
KNOWN, FAR = "known_objects", "far"
"""Names in the file of weights, besides the network's: the embeddings of the training objects, and the distance to the
nearest of them beyond which a picture is unlike all."""


@dataclass
class SmallGenerator:
    """The network, and the embeddings of its training objects."""

    network: ColumnNetwork
    known: Float[Tensor, "N F"]
    """Embedding of each training object."""
    far: float
    """Distance that hardly any view of a training object exceeds to the embedding of the nearest other object."""

    @torch.no_grad()
    def generate(self, image: Float[Tensor, "4 S S"]) -> ActivatedGaussians:
        """Generates the object's Gaussians, with +z towards the viewer of the picture and y up in it.

        Args:
            image: RGBA in [0, 1], straight alpha, of any size, with the checkpoint's border ratio.
        """
        picture = on_white(image)
        return gaussians_from(self.network, self.network.features(picture[None])[0], picture)

    @torch.no_grad()
    def strangeness(self, image: Float[Tensor, "4 S S"]) -> float:
        """Distance to the nearest training object, in multiples of `far`. Above 1, the picture is unlike all."""
        distances = torch.cdist(embedding(self.network, on_white(image)[None]), self.known)
        return float(distances.min()) / self.far


def gaussians_from(
    network: ColumnNetwork, features: Float[Tensor, "N F"], picture: Float[Tensor, "4 s s"]
) -> ActivatedGaussians:
    """What the network makes of a picture on white, with +z towards its viewer. Differentiable, but for the choice of
    bins.

    Args:
        network: The network.
        features: What it says of the picture's cells.
        picture: Colours on white, and alpha.
    """
    colours, shown = (each[0] for each in column_inputs(picture[None], MIN_COVERAGE))
    cells = shown.any(dim=1)
    if not cells.any():
        return _nothing()
    logits, rgb = network.columns(features[cells], colours[cells])
    found = logits.sigmoid() * shown[cells][..., None]
    found = found * (MIN_PEAK / found.amax(dim=-1, keepdim=True).clamp(min=1e-3)).clamp(min=1)

    def everywhere(values: Float[Tensor, "M K *C"]) -> Float[Tensor, "H W *C"]:
        return in_volume(values.new_zeros(*shown.shape, *values.shape[2:]).index_put((cells.nonzero()[:, 0],), values))

    return gaussians_of(everywhere(found), everywhere(rgb), everywhere(network.corrections(features[cells])))


def on_white(image: Float[Tensor, "4 S S"]) -> Float[Tensor, "4 s s"]:
    """The network's input: colours on white and alpha, resized to its size."""
    alpha = image[3:]
    full = torch.cat([image[:3] * alpha + 1 - alpha, alpha])[None]
    size = (INPUT_SIZE, INPUT_SIZE)
    return interpolate(full, size=size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def embedding(network: ColumnNetwork, pictures: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B F"]:
    """The embedding of a picture: the means of the encoder's second features over the object, normalised to length 1.

    Of the encoder's and the network's own features, these tell photos from pictures of training objects best.
    """
    features = network.encoded(pictures)[1]
    shown = (avg_pool2d(pictures[:, 3:], CELL) > MIN_COVERAGE).to(features)
    return normalize((features * shown).sum(dim=(2, 3)) / shown.sum(dim=(2, 3)).clamp(min=1), dim=1)


def load_small(path: Path = SMALL_WEIGHTS) -> SmallGenerator:
    """Loads the generator with its weights, in float32.

    Raises:
        InputError: The file is missing, damaged or for another network.
    """
    weights = from_eight_bits(read_state_dict(path), path)
    missing = [name for name in (KNOWN, FAR) if name not in weights]
    if missing:
        raise InputError(f"{path} lacks {' and '.join(missing)}: it is for another network")
    known, far = weights.pop(KNOWN), float(weights.pop(FAR))
    network = ColumnNetwork(UNetConfig(**checkpoint(SMALL_GENERATOR).architecture))
    load_weights(network, weights, path, torch.float32)
    return SmallGenerator(network, known, far)


@cache
def small_gaussians(name: str) -> Callable[[Tensor, int], Gaussians]:
    """Loads a row, once.

    Args:
        name: The row's name, for messages.
    """
    generator = load_small()
    last: tuple[Tensor, Gaussians] | None = None

    def generate(image: Tensor, seed: int) -> Gaussians:
        nonlocal last
        # A run asks twice for the same image: for the views that it shows, and for the Gaussians.
        if last is None or not torch.equal(last[0], image):
            if generator.strangeness(image) > 1:
                warn(
                    f"The image is unlike the low-poly objects that {name} was trained on: expect the given view and a "
                    "rough guess of the rest. Published weights do better: img3d-weights list"
                )
            last = image.clone(), generator.generate(image).asset(up="y")
        return deepcopy(last[1])

    return generate


def _nothing() -> ActivatedGaussians:
    return ActivatedGaussians(
        torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 3)
    )
