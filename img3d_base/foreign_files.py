# SPDX-License-Identifier: Apache-2.0
"""Checks for files from elsewhere, which may lie about their sizes, names and contents. Every reader uses them.

The rules: only regular files are opened (a FIFO would block, a device would never end); names in a file must stay
inside the folder of that file; a claimed size is compared with the bytes present before memory is allocated for it;
compressed data is unpacked up to a limit; the nesting depth and the number of values of JSON are limited; nothing is
unpickled. Each violation is an InputError of one line, which readers let through. Messages quote text from a file only
through `shown` or `legible`.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeGuard
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import zstandard

from img3d_base.errors import InputError

MAX_JSON_BYTES = 256 << 20
"""Largest JSON text. A transforms.json of 100,000 photos has about 60 MB."""
MAX_JSON_DEPTH = 200
"""Deepest nesting in a JSON text. Real files stay below 20; Python's parser gives up at about 1,000."""
MAX_JSON_VALUES = 8_000_000
"""Most values in a JSON text; each takes about 100 bytes. A transforms.json of 100,000 photos has 3 million."""
MAX_EXPANSION, ALWAYS_EXPANDED = 100, 64 << 20
"""Compressed data may unpack to this many times its size (splats take up to 30), and in any case to this many bytes."""
CHUNK_BYTES = 1 << 20
UNZIPPING = (
    *(EOFError, NotImplementedError, OSError, RuntimeError, ValueError),
    *(lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""Exceptions that zipfile raises on damaged members."""
NPY_HEADERS = (
    *(AttributeError, EOFError, LookupError, MemoryError, OverflowError, RecursionError, SyntaxError, TypeError),
    *(ValueError, tokenize.TokenError),
)
"""Exceptions that NumPy raises on damaged .npy headers, which are Python literals."""
TOO_DEEP = f"is JSON nested more than {MAX_JSON_DEPTH} levels deep: it is damaged, or another kind of file"
MALFORMED = (OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)
"""Exceptions that readers raise on structured files (JSON and the like) whose content is not what they expect."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
"""First line of the small text file that stands for a file that Git LFS has not fetched."""
NOT_FETCHED = "in Git LFS and not fetched (run `git lfs pull`)"
"""Continues a sentence after "is" or "are"."""
SHOWN_LENGTH, LONGEST_REASON = 60, 120


def shown(text: object) -> str:
    """Text from a file, quoted for a message: shortened, on one line, without control characters."""
    quoted = repr(text if len(str(text)) <= SHOWN_LENGTH else f"{str(text)[:SHOWN_LENGTH]}…")
    return quoted if len(quoted) <= 3 * SHOWN_LENGTH else f"{quoted[: 3 * SHOWN_LENGTH]}…'"


def legible(text: str) -> str:
    """Text from a file for a message: unquoted if it is short and printable, as most names are, else as `shown`."""
    return text if text.isprintable() and len(text) <= 2 * SHOWN_LENGTH else shown(text)


def reason(error: Exception) -> str:
    """The first line of an error's message, shortened and printable: libraries quote text from files in theirs."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return "".join(letter for letter in line[:LONGEST_REASON] if letter.isprintable())


def require_regular(path: Path) -> Path:
    """Returns the path if it is a regular file or a link to one.

    Raises:
        InputError: It is missing, a folder, a FIFO, a socket or a device, or the name is invalid.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{shown(path)} is not a valid file name") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InputError(f"{path} is {kind}, not a file")
    return path


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file, or a link to one, for reading.

    Raises:
        InputError: As for `require_regular`, or permission to read it is missing.
    """
    require_regular(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """The contents of a regular file.

    Args:
        path: The file.
        max_bytes: Larger files are refused.

    Raises:
        InputError: It cannot be read, is not a regular file, or is too large.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise InputError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read of such a file")
            return file.read() if max_bytes is None else file.read(max_bytes)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise InputError(f"{path} is too large for this computer's memory") from error


def inside(file: Path, name: str, *, percent_encoded: bool = False) -> Path:
    """The path of a regular file that another file names; it must lie in that file's folder or below.

    Args:
        file: The file that contains the name.
        name: The name as written there, with / between folders.
        percent_encoded: Whether the name is a URI, as in glTF.

    Raises:
        InputError: It leads out of the folder (by `..`, as an absolute path, through a link), or is not a regular file.
    """
    decoded = unquote(name) if percent_encoded else name
    parts = PurePosixPath(decoded).parts
    if not parts or PureWindowsPath(decoded).drive or decoded.startswith(("/", "\\")) or ".." in parts:
        raise InputError(f"{file} names {shown(name)}: names may not lead out of its folder")
    path = file.parent.joinpath(*parts)
    try:
        require_regular(path)
    except InputError as error:
        what = str(error).removeprefix(str(path)).removeprefix(shown(path)).strip()
        raise InputError(f"{file} names {shown(name)}, which {what}") from error
    if not path.resolve().is_relative_to(file.parent.resolve()):
        raise InputError(f"{file} names {shown(name)}, which links to a file outside its folder")
    return path


def check_claim(claimed: int, available: int, what: str) -> int:
    """Returns the number of bytes that a header claims, after comparing it with the number present.

    Args:
        claimed: The claim, untrusted: any sign and size.
        available: The number of bytes present.
        what: What would take that space, for the message: `its 2,147,483,648 Gaussians`.

    Raises:
        InputError: The claim is negative or exceeds `available`.
    """
    if not 0 <= claimed <= available:
        raise InputError(f"{what} would take {claimed:,} bytes, but {available:,} are there: it is cut off or damaged")
    return claimed


def check_expansion(unpacked: int, packed: int, what: str) -> int:
    """Returns the number of bytes that data will take in memory, after comparing it with its size in the file.

    Args:
        unpacked: The size in memory, untrusted: any sign and size.
        packed: The size in the file.
        what: The data, for the message: `its 2,147,483,648 Gaussians`.

    Raises:
        InputError: It is more than `MAX_EXPANSION` times the size in the file, and more than `ALWAYS_EXPANDED`.
    """
    if not 0 <= unpacked <= max(ALWAYS_EXPANDED, MAX_EXPANSION * packed):
        raise InputError(
            f"{what} would take {unpacked:,} bytes, but the file has {packed:,}: "
            "it is damaged, or made to fill the memory"
        )
    return unpacked


def parse_json(text: bytes | str, what: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parses a JSON text of limited nesting and length.

    Args:
        text: The text; bytes are UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: The file's name, for messages.
        max_bytes: Longer texts are refused.

    Raises:
        InputError: It is not JSON, or nested too deeply, or too long.
    """
    if len(text) > max_bytes:
        raise InputError(f"{what} has {len(text):,} bytes of JSON; at most {max_bytes:,} are read")
    try:
        encoded = text.encode() if isinstance(text, str) else text
        values = encoded.count(b"[") + encoded.count(b"{") + encoded.count(b",")
        if values > MAX_JSON_VALUES:
            raise InputError(f"{what} has {values:,} values in its JSON; at most {MAX_JSON_VALUES:,} are read")
        value = json.loads(encoded)
    except RecursionError as error:
        raise InputError(f"{what} {TOO_DEEP}") from error
    except ValueError as error:  # also UnicodeDecodeError
        raise InputError(f"{what} is not valid JSON ({reason(error)}); is it truncated?") from error
    if _depth_exceeds(value, MAX_JSON_DEPTH):
        raise InputError(f"{what} {TOO_DEEP}")
    return value


def is_json_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed JSON value is an object."""
    return isinstance(value, dict)


def is_json_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a parsed JSON value is a list."""
    return isinstance(value, list)


def _depth_exceeds(value: Any, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            child
            for each in layer
            if isinstance(each, (dict, list))
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, (dict, list))
        ]
        if not layer:
            return False
    return True


def read_json(path: Path) -> Any:
    """Parses a JSON file of limited nesting and length.

    Raises:
        InputError: It cannot be read, or is not JSON of a sensible depth and length.
    """
    return parse_json(read_bytes(path, MAX_JSON_BYTES), str(path))


@contextmanager
def open_zip(path: Path) -> Generator[zipfile.ZipFile, None, None]:
    """Opens a zip archive for reading.

    Raises:
        InputError: It is not a zip archive, damaged, or cannot be read.
    """
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (EOFError, NotImplementedError, OSError, ValueError, struct.error, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a valid zip archive: {reason(error)}") from error
        archive.filename = str(path)
        with archive:
            yield archive


def zip_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Unpacks a member of a zip archive, up to a limit.

    Raises:
        InputError: There is no such member, it is encrypted, damaged, or larger than the limit.
    """
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise InputError(f"{archive.filename} has no {shown(name)} in it") from error
    if member.flag_bits & 1:
        raise InputError(f"{archive.filename} is encrypted; unpack it with its password first")
    try:
        with archive.open(member) as file:
            return read_limited(file, max_bytes, f"{shown(name)} in {archive.filename}")
    except UNZIPPING as error:
        raise InputError(f"{shown(name)} in {archive.filename} is damaged: {reason(error)}") from error


def read_limited(file: IO[bytes], max_bytes: int, what: str) -> bytes:
    """Reads a stream to its end, up to a limit.

    Raises:
        InputError: There is more than `max_bytes`.
    """
    parts: list[bytes] = []
    total = 0
    while part := file.read(min(CHUNK_BYTES, max_bytes + 1 - total)):
        parts.append(part)
        total += len(part)
        if total > max_bytes:
            raise InputError(f"{what} unpacks to more than {max_bytes:,} bytes, the most that it can have")
    return b"".join(parts)


def gunzip(contents: bytes, max_bytes: int, what: str) -> bytes:
    """Unpacks gzip data up to a limit.

    Raises:
        InputError: It is damaged, cut off, or larger than the limit.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(contents, max_bytes + 1)
    except zlib.error as error:
        raise InputError(f"{what} is damaged: {reason(error)}") from error
    if len(unpacked) > max_bytes:
        raise InputError(f"{what} unpacks to more than {max_bytes:,} bytes, the most that it can have")
    if not unpacker.eof:
        raise InputError(f"{what} is cut off")
    return unpacked


def begin_gunzip(contents: bytes | memoryview, max_bytes: int, what: str) -> bytes:
    """The first `max_bytes` that gzip data unpacks to, or all of it if that is less.

    Raises:
        InputError: It is damaged.
    """
    try:
        return zlib.decompressobj(wbits=31).decompress(contents, max_bytes)
    except zlib.error as error:
        raise InputError(f"{what} is damaged: {reason(error)}") from error


def unzstd(contents: bytes | memoryview, max_bytes: int, what: str) -> bytes:
    """Unpacks a Zstandard frame up to a limit, whatever size the frame claims.

    Raises:
        InputError: It is damaged, cut off, or larger than the limit.
    """
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(contents) as reader:
            return read_limited(reader, max_bytes, what)
    except zstandard.ZstdError as error:
        raise InputError(f"{what} is damaged: {reason(error)}") from error


def load_npy(path: Path, max_bytes: int | None = None) -> npt.NDArray[Any]:
    """Reads the numeric array in a .npy file, after comparing its header with the file's size.

    Args:
        path: The file.
        max_bytes: Larger arrays are refused. (A sparse file takes little space on disk but its full size in memory.)

    Raises:
        InputError: It is not a .npy file, holds objects, is shorter than its header says, or too large.
    """
    with open_regular(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size, max_bytes, str(path))


def load_npz(path: Path, names: Collection[str], max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """Reads numeric arrays in a .npz file, after comparing their headers with the bytes present.

    Args:
        path: The file.
        names: The names of the arrays.
        max_bytes: Arrays that unpack to more are refused.

    Raises:
        InputError: It is not a .npz file, lacks one of the arrays, is damaged, holds objects, or an array is too large.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    with open_zip(path) as archive:
        for name in names:
            contents = zip_member(archive, f"{name}.npy", max_bytes)
            arrays[name] = _array(io.BytesIO(contents), len(contents), None, f"{name} in {path}")
    return arrays


def _array(file: IO[bytes], size: int, max_bytes: int | None, what: str) -> npt.NDArray[Any]:
    """Reads the array that begins at the file's current position; `size` is the file's size in bytes."""
    try:
        npy: Any = np.lib.format  # NumPy 1 leaves it untyped
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"version {version} of the format is not supported")
        shape, _, dtype = read_header[version](file, max_header_size=10_000)
        if dtype.kind not in "biuf":
            raise ValueError(f"it does not hold numbers, but {shown(dtype)}")
        claimed = dtype.itemsize
        for length in shape:
            claimed *= length
        check_claim(claimed, size - file.tell(), f"{what}: its array {shown(shape)}")
        if max_bytes is not None and claimed > max_bytes:
            raise InputError(f"{what} has {claimed:,} bytes; at most {max_bytes:,} are read of such a file")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror or error}") from error
    except NPY_HEADERS as error:
        raise InputError(f"{what} is not a valid .npy file: {reason(error)}") from error
