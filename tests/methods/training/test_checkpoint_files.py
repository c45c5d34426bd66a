# SPDX-License-Identifier: Apache-2.0
"""A checkpoint is there and whole, or not there: whatever the disk does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from full_disk import files_limited_to

from img3d_methods.training.checkpoint_files import checkpoint_path, checkpoint_steps, read_checkpoint, write_checkpoint


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path / "models", 12)
    write_checkpoint({"step": 12, "value": torch.arange(5)}, path, tmp_path / "partial")
    assert path.name == "step-000000012.ckpt"
    state = read_checkpoint(path)
    assert state["step"] == 12 and torch.equal(state["value"], torch.arange(5))
    assert not (tmp_path / "partial").exists()


def test_copies_beside_checkpoints_are_none(tmp_path: Path) -> None:
    for name in ("step-000000070.ckpt", "step-000000009.ckpt", "step-000000089.backup.ckpt", "step-last.ckpt"):
        (tmp_path / name).touch()
    assert checkpoint_steps(tmp_path) == [9, 70] and checkpoint_steps(tmp_path / "none") == []


def test_a_full_disk_leaves_the_old_file_and_no_new_one(tmp_path: Path) -> None:
    path, partial = checkpoint_path(tmp_path, 1), tmp_path / "partial"
    write_checkpoint({"step": 1}, path, partial)
    before = path.read_bytes()
    big = {"step": 2, "value": torch.zeros(1_000_000)}
    with files_limited_to(100_000), pytest.raises(OSError, match="File too large"):
        write_checkpoint(big, path, partial)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_checkpoint(big, path, partial)
    assert read_checkpoint(path)["step"] == 2


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        write_checkpoint({}, tmp_path / "file" / "step-000000001.ckpt", tmp_path / "partial")


def test_an_error_that_is_not_the_disks_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)pickle|local"):
        write_checkpoint({"value": lambda: None}, tmp_path / "a.ckpt", tmp_path / "partial")
    assert list(tmp_path.iterdir()) == []


def test_steps_are_listed_in_order(tmp_path: Path) -> None:
    for step in (20, 3, 100):
        write_checkpoint({"step": step}, checkpoint_path(tmp_path, step), tmp_path / "partial")
    (tmp_path / "notes.txt").write_text("")
    assert checkpoint_steps(tmp_path) == [3, 20, 100]
    assert checkpoint_steps(tmp_path / "nowhere") == []


@pytest.mark.parametrize("damage", [b"", b"hello", b"PK\x03\x04 half a zip file"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "step-000000001.ckpt"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"step-000000001.ckpt is not a readable checkpoint"):
        read_checkpoint(path)
