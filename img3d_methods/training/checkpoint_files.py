# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files that are either complete or absent.

Nerfstudio writes to the final name and then deletes older checkpoints, so a full disk costs both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch


def checkpoint_path(folder: Path, step: int) -> Path:
    """Nerfstudio's file name of the checkpoint written after `step`."""
    return folder / f"step-{step:09d}.ckpt"


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in `folder`, ascending; empty if it does not exist."""
    numbers = (path.stem.removeprefix("step-") for path in folder.glob("step-*.ckpt"))
    return sorted(int(number) for number in numbers if number.isdecimal())  # copies have other names


def write_checkpoint(state: dict[str, Any], path: Path, partial_path: Path) -> None:
    """Writes `state` so that `path` appears only once its contents are safely on disk.

    Args:
        state: What `torch.save` takes.
        path: The checkpoint.
        partial_path: A temporary file on the same file system. It must not be in the checkpoints' folder, since
            Nerfstudio takes every file there for a checkpoint.

    Raises:
        OSError: The file could not be written, for instance because the disk is full; neither file is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial_path, "wb") as file:
            writer = _ErrorKeeper(file)
            try:
                torch.save(state, writer)  # pyright: ignore[reportArgumentType]
            except Exception:
                if writer.error is not None:
                    raise writer.error from None  # torch turns it into a RuntimeError about its zip file
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial_path, path)
    except BaseException:
        partial_path.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a checkpoint with torch's safe loader.

    Raises:
        ValueError: The file is damaged or not a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, KeyError, … for damaged files
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__})") from error


class _ErrorKeeper:
    """A file for `torch.save` that remembers the first error of writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, if the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
