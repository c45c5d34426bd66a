# SPDX-License-Identifier: Apache-2.0
"""Golden numbers: what reference implementations made of seeded weights and inputs, as parity tests read them.

`IMG3D_GOLDEN` names the folder; without it, it is `../shared/golden` beside the repository. Each fixture is
`<name>.npz` (arrays) and `<name>.json` (the sidecar). `seeded_weights.py` beside them is the rule that gave weights and
pictures. Tests take every number from the sidecar, so that they pass on a folder that was made with other seeds, sizes
and steps: they run once for every fixture of a family that is there, and skip with a reason where none is.

Fields that tests read:

| field | of | meaning |
|---|---|---|
| `fixture` | all | the fixture's name; its beginning says the family: `lgm_`, `zero123plus_`, `triposr_` |
| `arrays` | all | names of the arrays, each with its `meaning` and, optionally, a `tolerance` (largest deviation) |
| `seed` | networks | of the weights; null where there are none |
| `weights_rule` | networks | text; `gain=<number>` in it is the rule's gain, 1 where it is not said |
| `parameters` | LGM | how many weights the network has |
| `config` | LGM | `input_size`, `fovy`, `mid_attention`, channels and attention of the U-Net's levels |
| `constructor_defaults` | LGM | the U-Net's `layers_per_block`, the normalisations' `groups` |
| `pictures` | LGM | names, sizes and seed of the input pictures, read where there is no array `images_uint8` |
| `images_sha256` | LGM | checksum of these pictures' bytes |
| `config.pose_sets` | rays | `azimuth_deg`, `elevation_deg`, `radius`, `fovy_deg` of each set of cameras |
| `config.h`, `config.w` | rays | size of the pictures in pixels |
| `meaning` | rays | of LGM's default cameras: `azimuths <numbers>, radius <number>, fovy <number>` |
| `config` | Zero123++ | configurations of the four networks, the scheduler and the two preprocessings |
| `config`, `vit_config` | TripoSR | configurations of its parts, and of its ViT |
| `picture` | TripoSR | name, size and seed of the input picture, where there is no array `image_uint8` |
| `image_sha256` | TripoSR | checksum of that picture's bytes |
| `picture_large` | TripoSR extras | name, size and seed of a picture, and the size to which it is reduced |
| `mesh` | TripoSR extras | `resolution` and `threshold` of the extracted surface |
| `weights_rule` | later ones | `fill_parameters` in it: buffers are not drawn, `….gamma` is 1 + 2 times the draw |
| `config`, `samplers`, `sampler` | TRELLIS | constructor arguments of its networks, and settings of the samplers |
| `call` | Zero123++ | `num_inference_steps`, `guidance_scale`, `height`, `width` |
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "golden"
FOLDER = Path(os.environ.get("IMG3D_GOLDEN", DEFAULT_FOLDER))


@dataclass(frozen=True)
class Golden:
    """One fixture."""

    name: str
    sidecar: dict[str, Any]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the npz."""
        with np.load(FOLDER / f"{self.name}.npz") as arrays:
            return dict(arrays)

    def tolerance(self, array: str, default: float) -> float:
        """The largest deviation that is allowed in an array: the sidecar's, or the test's where it has none."""
        return self.sidecar["arrays"][array].get("tolerance", default)

    def sampled(self, array: str, values: Any) -> Any:
        """Every so many rows of values, as many as an array has of them."""
        return values[:: math.ceil(len(values) / len(self.arrays[array]))]

    def fill(self, module: nn.Module, rename: Callable[[str], str] | None = None) -> None:
        """Gives a network the fixture's weights; `rename` maps its keys to the published ones."""
        if "fill_parameters" in self.sidecar.get("weights_rule", ""):
            fill_parameters(module, self.sidecar["seed"], rename)
            return
        gain = re.search(r"gain=([0-9.eE+-]*\d)", self.sidecar.get("weights_rule", ""))
        gain = float(gain[1]) if gain else 1.0
        seeded_weights().fill_module(module, seed=self.sidecar["seed"], gain=gain, rename=rename)

    def pictures(self) -> np.ndarray:
        """The input pictures, uint8 `[V, H, W, 3]`: stored, or made by the rule that the sidecar states."""
        if "images_uint8" in self.arrays:
            return self.arrays["images_uint8"]
        rule = re.search(r'image\("(.*)<i>", (\d+), (\d+), seed=(\d+)\)', self.sidecar["pictures"])
        assert rule is not None, self.sidecar["pictures"]
        height, width, seed = map(int, rule.groups()[1:])
        views = range(len(self.arrays["c2w"]))
        pictures = np.stack([seeded_weights().image(f"{rule[1]}{i}", height, width, seed=seed) for i in views])
        assert hashlib.sha256(pictures.tobytes()).hexdigest() == self.sidecar["images_sha256"]
        return pictures

    def picture(self, field: str = "picture") -> np.ndarray:
        """One picture, uint8 `[H, W, 3]`, made by the rule in a field of the sidecar."""
        rule = re.search(r'image\("(.*)", (\d+), (\d+), (\d+)(?:, block=(\d+))?\)', self.sidecar[field])
        assert rule is not None, self.sidecar[field]
        block = {} if rule[5] is None else {"block": int(rule[5])}
        return seeded_weights().image(rule[1], *map(int, rule.groups()[1:4]), **block)


def golden_fixtures(family: str, *arrays: str, long: bool = False) -> pytest.MarkDecorator:
    """Runs a test once for every fixture of a family, as its argument `golden`.

    Args:
        family: how the fixtures' names begin.
        arrays: arrays that a fixture must have for this test.
        long: whether to leave the runs out of CI.
    """
    marks = [pytest.mark.long] if long else []
    found = [one for one in _sidecars() if one.name.startswith(family) and set(arrays) <= set(one.sidecar["arrays"])]
    parameters = [pytest.param(one, id=one.name, marks=marks) for one in found]
    if not parameters:
        named = f" with {', '.join(arrays)}" if arrays else ""
        reason = f"no {family}*{named} in {FOLDER} (set IMG3D_GOLDEN)"
        parameters = [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return pytest.mark.parametrize("golden", parameters, scope="module")


def fill_parameters(module: nn.Module, seed: int, rename: Callable[[str], str] | None = None) -> None:
    """The rule of later fixtures: buffers stay as they are, and what ends in .gamma is a gain around 1."""
    with torch.no_grad():
        for key, value in module.named_parameters():
            name = rename(key) if rename else key
            drawn = torch.from_numpy(np.ascontiguousarray(seeded_weights().draw(name, tuple(value.shape), seed)))
            value.copy_(1 + 2 * drawn if name.endswith(".gamma") else drawn)


@functools.cache
def _sidecars() -> list[Golden]:
    sidecars = ((path, json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json")))
    return [Golden(path.stem, sidecar) for path, sidecar in sidecars if "fixture" in sidecar]


@functools.cache
def seeded_weights() -> Any:
    """The module with the rule of weights and pictures: `fill_module`, `image`.

    Taken from the folder of golden numbers, or from the default one where that has none.
    """
    files = (folder / "seeded_weights.py" for folder in (FOLDER, DEFAULT_FOLDER))
    file = next(filter(Path.is_file, files), None)
    if file is None:
        pytest.skip(f"no seeded_weights.py in {FOLDER}")
    spec = importlib.util.spec_from_file_location("seeded_weights", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.self_check()
    return module
