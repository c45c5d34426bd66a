# SPDX-License-Identifier: Apache-2.0
"""Tables of numbers in PLY files (Turk 1994): text, or binary of either byte order.

Replaces plyfile (PyPI), which refuses headers with comments that are not ASCII, and allocates as much memory as the
header claims.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from img3d_base.errors import InputError
from img3d_base.foreign_files import check_claim, open_regular, reason, shown

MAX_HEADER_BYTES, MAX_ROWS = 1 << 20, 100_000_000
BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}


@dataclass
class _Element:
    name: str
    count: int
    columns: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names of the properties and their NumPy types."""
    has_lists: bool = False


@dataclass
class PlyTables:
    """The elements read from a PLY file."""

    comments: list[str]
    tables: dict[str, npt.NDArray[Any]]
    """For each wanted element that the file has, a structured array with a field for each property."""


def read_ply(path: Path, wanted: Collection[str]) -> PlyTables:
    """Reads elements whose properties are all scalar numbers, such as vertices.

    Args:
        path: The file.
        wanted: Names of the elements to read; others are skipped.

    Raises:
        InputError: It is not a PLY file, cut off or damaged, or elements with lists precede a wanted one.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        byte_order, comments, elements, start = _header(path, file.read(MAX_HEADER_BYTES))
        file.seek(start)
        tables: dict[str, npt.NDArray[Any]] = {}
        last = max((i for i, element in enumerate(elements) if element.name in wanted), default=-1)
        for element in elements[: last + 1]:
            what = f"{path}: its {element.count:,} rows of {shown(element.name)}"
            if element.name in wanted and MAX_ROWS < element.count <= size:
                raise InputError(f"{what} are too many: at most {MAX_ROWS:,} are read")
            if byte_order == "=":
                check_claim(element.count * max(1, 2 * len(element.columns) - 1), size - file.tell(), what)
                if element.name in wanted:
                    tables[element.name] = _text_table(path, file, element)
                else:
                    for _ in range(element.count):
                        file.readline()
                continue
            if element.has_lists:
                raise InputError(
                    f"{path} has lists in its {shown(element.name)}, which cannot be skipped to reach what follows them"
                )
            dtype, start = _dtype(path, element, byte_order), file.tell()
            length = check_claim(element.count * dtype.itemsize, size - start, what)
            if element.name in wanted:
                tables[element.name] = _binary_table(file, element.count, dtype)
            file.seek(start + length)
    return PlyTables(comments, tables)


def _header(path: Path, contents: bytes) -> tuple[str, list[str], list[_Element], int]:
    """Parses the header: byte order, comments, elements, and the offset of the data in bytes."""
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", contents)
    if first is None:
        raise InputError(f'{path} is not a PLY file: it does not begin with "ply"')
    newline = first[1]
    # Headers edited on Windows may have both kinds of newlines. After CR alone, LF would be data.
    end = re.search(rb"[\r\n]end_header[ \t]*" + (newline if newline == b"\r" else rb"\r?\n"), contents)
    if end is None:
        raise InputError(f"{path} has a PLY header without an end: it is cut off or damaged")
    byte_order = ""
    comments: list[str] = []
    elements: list[_Element] = []
    # "replace": comments in a legacy Windows code page are no reason to refuse the file.
    for line in re.split(r"\r\n|\n|\r", contents[first.end() : end.start()].decode("utf-8", "replace")):
        words = line.split()
        try:
            match words:
                case []:
                    continue
                case ["format", name, _]:
                    byte_order = BYTE_ORDERS[name]
                case ["comment" | "obj_info", *_]:
                    comments.append(line.strip().partition(" ")[2].strip())
                case ["element", name, count]:
                    elements.append(_Element(name, int(count)))
                case ["property", "list", _, _, _]:
                    elements[-1].has_lists = True
                case ["property", kind, name]:
                    elements[-1].columns.append((name, TYPES[kind]))
                case _:
                    raise ValueError
        except (LookupError, ValueError) as error:
            raise InputError(f"{path} has a PLY header with an invalid line: {shown(line)}") from error
    if not byte_order:
        raise InputError(f"{path} has a PLY header without a format line")
    return byte_order, comments, elements, end.end()


def _dtype(path: Path, element: _Element, byte_order: str) -> np.dtype[Any]:
    try:
        return np.dtype([(name, byte_order + kind) for name, kind in element.columns])
    except ValueError as error:
        raise InputError(f"{path} has a PLY header with invalid properties: {reason(error)}") from error


def _binary_table(file: IO[bytes], count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if count * dtype.itemsize == 0:
        return np.empty(count if dtype.itemsize else 0, dtype)
    return np.memmap(file, dtype, "r", file.tell(), count)


def _text_table(path: Path, file: IO[bytes], element: _Element) -> npt.NDArray[Any]:
    if element.has_lists:
        raise InputError(f"{path} has lists in its {shown(element.name)}, where numbers are expected")
    table = np.empty(element.count, _dtype(path, element, "="))
    if table.nbytes == 0:
        return table
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # NumPy warns of a file without any row; the check of the shape below refuses it
            rows = np.loadtxt(file, np.float64, comments=None, max_rows=element.count, ndmin=2, encoding="latin1")
    except ValueError as error:
        raise InputError(f"{path} has text where numbers are expected: {reason(error)}") from error
    if rows.shape != (element.count, len(element.columns)):
        raise InputError(
            f"{path} has {len(rows):,} rows of {rows.shape[1]} numbers instead of {element.count:,} of "
            f"{len(element.columns)}: it is cut off or damaged"
        )
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # values too large for their type: damage, which callers check for
        for i, (name, _) in enumerate(element.columns):
            table[name] = rows[:, i]
    return table
