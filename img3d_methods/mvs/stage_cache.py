# SPDX-License-Identifier: Apache-2.0
"""Keeps the results of a reconstruction's stages in files, so that an interrupted run continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from img3d_base.atomic_files import remove, save_arrays
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import load_npz

Arrays = dict[str, npt.NDArray[Any]]
Layout = Mapping[str, tuple[str, tuple[int | None, ...]]]
"""For each array, its dtype and its shape; None stands for any length."""
MAX_BYTES = 1 << 32
"""Maximum size of an array that is read."""


class StageCache:
    """A folder of .npz files, each whole or absent.

    Args:
        folder: Its name identifies everything that the results depend on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._may_write = True

    def path(self, name: str) -> Path:
        """The file of a stage."""
        return self.folder / f"{name}.npz"

    def read(self, name: str, layout: Layout) -> Arrays | None:
        """The arrays of a stage; None if it is not there or, with a warning, if it is damaged."""
        if not self.path(name).is_file():
            return None
        try:
            arrays = load_npz(self.path(name), layout, MAX_BYTES)
            for key, (dtype, shape) in layout.items():
                _check(arrays[key], dtype, shape, f"{key} in {self.path(name)}")
        except InputError as error:
            warn(f"{error}; it is made again")
            return None
        return arrays

    def write(self, name: str, **arrays: npt.ArrayLike) -> None:
        """Writes the arrays of a stage; warns once if they cannot be written, since the work can continue without."""
        if not self._may_write:
            return
        try:
            save_arrays(self.path(name), **arrays)
        except OSError as error:
            self._may_write = False
            warn(f"{self.folder} cannot be written ({error.strerror or error}): if this is interrupted, it begins anew")

    def kept(self, name: str, layout: Layout, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a stage, read or made and written."""
        arrays = self.read(name, layout)
        if arrays is None:
            arrays = make()
            self.write(name, **arrays)
        return arrays

    def remove(self, pattern: str) -> None:
        """Removes the stages whose names match a pattern, as far as the file system permits."""
        for path in self.folder.glob(f"{pattern}.npz"):
            try:
                remove(path)
            except OSError:
                return


def _check(array: npt.NDArray[Any], dtype: str, shape: tuple[int | None, ...], what: str) -> None:
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise InputError(f"{what} is not what a reconstruction keeps")
