# SPDX-License-Identifier: Apache-2.0
"""Files of an object's latents. They are written after every step, so that an interrupted run can continue, and so that
Gaussians and mesh can be decoded from the same latents."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import MALFORMED, load_npz, reason

MAX_BYTES = 1 << 28
"""Largest array in a file of latents."""


@dataclass(frozen=True)
class Latents:
    """The state of an object's generation: all that a file holds."""

    structure: Float[Tensor, "1 _ X Y Z"]
    """The latent of the structure."""
    structure_steps: int = 0
    """Number of its steps that are done."""
    coords: Int[Tensor, "N 3"] | None = None
    """The occupied voxels, once they are known."""
    details: Float[Tensor, "1 N _"] | None = None
    """The latents of these voxels, before they are scaled."""
    detail_steps: int = 0
    """Number of their steps that are done."""


class LatentsFile:
    """Reads and writes latents.

    Args:
        path: The file; None: nothing is read or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> Latents | None:
        """Reads the file; None if there is none, or, with a warning, if it is damaged."""
        if self._path is None or not self._path.is_file():
            return None
        names = [field.name for field in fields(Latents)]
        try:
            kept = load_npz(self._path, names, MAX_BYTES)
            structure, coords, details = (torch.from_numpy(kept[name]) for name in ("structure", "coords", "details"))
            voxels = (coords, details) if len(coords) else (None, None)
            return Latents(structure, int(kept["structure_steps"]), *voxels, int(kept["detail_steps"]))
        except (InputError, *MALFORMED) as error:
            warn(f"{self._path} is damaged ({reason(error)}); the object is made anew")
            return None

    def write(self, latents: Latents) -> None:
        """Writes the file. If that fails, warns, and writes no more."""
        if self._path is None:
            return
        values = {field.name: getattr(latents, field.name) for field in fields(Latents)}
        empty = {"coords": torch.zeros(0, 3, dtype=torch.long), "details": torch.zeros(1, 0, 1)}
        arrays = {name: empty[name] if value is None else value for name, value in values.items()}
        try:
            with write_atomically(self._path) as temporary, temporary.open("wb") as opened:
                np.savez(opened, **{name: np.asarray(_on_cpu(value)) for name, value in arrays.items()})
        except OSError as error:
            warn(f"{self._path} cannot be written ({error.strerror or error}): a run that is stopped starts anew")
            self._path = None


def _on_cpu(value: Tensor | int) -> Tensor | int:
    return value.cpu() if isinstance(value, Tensor) else value
