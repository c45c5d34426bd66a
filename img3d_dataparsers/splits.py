# SPDX-License-Identifier: Apache-2.0
"""Splitting photos into training and held-out ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from nerfstudio.data.utils.dataparsers_utils import (
    get_train_eval_split_all,
    get_train_eval_split_filename,
    get_train_eval_split_fraction,
    get_train_eval_split_interval,
)

from img3d_base.errors import InputError, counted, some_names, warn
from img3d_base.foreign_files import read_bytes
from img3d_pictures.file_resolver import PHOTO_FOLDER, FileResolver, is_file
from img3d_pictures.photo_folders import PHOTOS

EvalMode = Literal["fraction", "filename", "interval", "all"]
LISTS = {"train": "train_list.txt", "val": "validation_list.txt", "test": "test_list.txt"}
"""Files in a data set's folder that list the photos of a split, one per line, as in Nerfstudio's COLMAP parser."""
MAX_LIST_BYTES = 64 << 20


def lists_in(folder: Path, paths: list[Path]) -> dict[str, set[Path]]:
    """The splits that the lists in a data set's folder define; empty if there are none.

    Args:
        folder: The data set's folder.
        paths: Its photos; a list may name them relative to the folder, relative to its `images/`, or by file name.

    Raises:
        InputError: A list cannot be read, or names a photo that does not exist.
    """
    splits = {}
    known = set(paths)
    for split, name in LISTS.items():
        if not (folder / name).is_file():
            continue
        try:
            lines = read_bytes(folder / name, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{folder / name} cannot be read: {error}") from error
        names = sorted({line.strip() for line in lines if line.strip()})
        listed = _named(names, paths, folder)
        # There has been a warning about existing photos that cannot be used.
        missing = [name for name, path in listed.items() if not is_file(path)]
        if missing:
            raise InputError(
                f"{folder / name} names {counted(len(missing), 'missing photo')}: {some_names(missing)}; correct it"
            )
        splits[split] = known & set(listed.values())
    return splits


def _named(names: list[str], paths: list[Path], folder: Path) -> dict[str, Path]:
    """The photos that names in a list refer to; a bare file name is accepted if it is unique."""
    count = Counter(path.name for path in paths)
    by_name = {path.name: path for path in paths if count[path.name] == 1}
    files = FileResolver(folder, ("", PHOTO_FOLDER))
    found = dict(zip(names, files.find(names, PHOTOS), strict=True))
    listed = {name: path if is_file(path) else by_name.get(name, path) for name, path in found.items()}
    for assumption in files.assumptions:
        warn(assumption)
    return listed


def indices_of_split(
    paths: list[Path],
    split: str,
    given: dict[str, set[Path]],
    eval_mode: EvalMode,
    eval_interval: int,
    train_split_fraction: float,
) -> npt.NDArray[np.int64]:
    """Indices into `paths` of the photos of one split.

    Args:
        paths: All photos, in order.
        split: "train", "val" or "test".
        given: The data set's own lists, which take precedence; "val" and "test" replace each other, and photos in no
            list belong to the split that has no list.
        eval_mode: As in Nerfstudio's data parsers.
        eval_interval: For "interval": photos 0, n, 2n, … are held out.
        train_split_fraction: For "fraction": the share of training photos.

    Raises:
        InputError: The split is empty, or an option has an invalid value.
    """
    if given:
        train, held_out = _given_split(paths, split, given)
    else:
        if eval_mode == "interval" and eval_interval < 1:
            raise InputError(f"--eval-interval is {eval_interval}, but must be at least 1")
        if eval_mode == "fraction" and not 0 < train_split_fraction <= 1:
            raise InputError(f"--train-split-fraction is {train_split_fraction}, but must be in (0, 1]")
        try:
            train, held_out = {
                "interval": lambda: get_train_eval_split_interval(paths, eval_interval),
                "fraction": lambda: get_train_eval_split_fraction(paths, train_split_fraction),
                "filename": lambda: get_train_eval_split_filename(paths),
                "all": lambda: get_train_eval_split_all(paths),
            }[eval_mode]()
        except ValueError as error:
            raise InputError(f"--eval-mode filename: {error}") from error
    indices = train if split == "train" else held_out
    if len(indices) == 0:
        kind = "left to train on" if split == "train" else "held out for evaluation"
        raise InputError(
            f"none of the {len(paths)} photos is {kind}; choose another --eval-mode or --eval-interval, "
            "or correct the data set's own lists"
        )
    return np.asarray(indices, dtype=np.int64)


def _given_split(
    paths: list[Path], split: str, given: dict[str, set[Path]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    eval_names = ("test", "val") if split == "test" else ("val", "test")
    eval_list: set[Path] | None = next((given[name] for name in eval_names if name in given), None)
    train_list = given.get("train")
    all_held_out = given.get("val", set()) | given.get("test", set())
    train = [i for i, path in enumerate(paths) if (path in train_list if train_list is not None else True)]
    if train_list is None:
        train = [i for i in train if paths[i] not in all_held_out]
    if eval_list is None:
        eval_list = set(paths) - (train_list or set())
    held_out = [i for i, path in enumerate(paths) if path in eval_list]
    return np.array(train, dtype=np.int64), np.array(held_out, dtype=np.int64)
