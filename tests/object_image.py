# SPDX-License-Identifier: Apache-2.0
"""An image of one object on nothing, as shops have them: what a generator is given in tests."""

from __future__ import annotations

from pathlib import Path

from img3d_generators.image_preparation import to_pil
from img3d_generators.procedural_objects import object_views


def write_object_image(path: Path, seed: int = 1) -> Path:
    """A held-out procedural object from the front, RGBA."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil(object_views(seed, "held-out", num_inputs=1, num_novel=0).rgba(0)).save(path)
    return path
