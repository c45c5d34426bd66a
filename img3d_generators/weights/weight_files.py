# SPDX-License-Identifier: Apache-2.0
"""Finds, fetches and verifies the weights of checkpoints. Nothing is downloaded without being asked for.

Each checkpoint has a folder, `$IMG3D_WEIGHTS/NAME` or `~/.cache/img3d/weights/NAME`, laid out as its repository. The
folder holds links: fetched files are in the Hugging Face hub's own cache, and a user's own files stay where they
are.
"""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path

from img3d_base.atomic_files import user_cache, write_atomically
from img3d_base.errors import InputError, some_names, warn
from img3d_generators.weights.checkpoints import PACKAGE, Checkpoint, CheckpointFile, checkpoint
from img3d_generators.weights.recorded_checksums import read_checksums, record_checksum
from img3d_generators.weights.state_dicts import git_blob_sha1_of, sha256_of

SHA1_DIGITS, SHA256_DIGITS = 40, 64


def weights_folder() -> Path:
    """The folder of all checkpoints' folders: IMG3D_WEIGHTS, or a folder in the user's cache."""
    return Path(os.environ.get("IMG3D_WEIGHTS") or user_cache() / "weights")


def available(name: str) -> Path | None:
    """The folder with all files of a checkpoint; None if some are not on this machine. Downloads nothing.

    Raises:
        InputError: There is no such checkpoint.
    """
    known = checkpoint(name)
    missing = missing_files(known)
    cached = {file.path: path for file in missing if (path := _in_hub_cache(known, file)) is not None}
    if len(cached) < len(missing):
        return None
    try:
        for file in missing:
            _link(cached[file.path], folder_of(known) / file.path)
    except OSError:  # the folder is not writable
        return None
    return folder_of(known)


def to_use(name: str) -> Path:
    """The folder with all files of a checkpoint; at the first use, warns if the licence is non-commercial.

    Raises:
        InputError: The files are not on this machine.
    """
    folder = available(name)
    if folder is None:
        raise InputError(f"The weights of {name} are not installed.\n{how_to_get(name)}")
    known = checkpoint(name)
    said = weights_folder() / f".{name}.licence"
    if known.is_non_commercial and not said.exists():
        warn(f"the weights of {name} are under {known.licence}: not for commercial purposes ({known.licence_url})")
        try:
            said.touch()
        except OSError:  # then the warning is repeated each time
            pass
    return folder


def how_to_get(name: str) -> str:
    """The commands that install a checkpoint, in at most two lines."""
    known = checkpoint(name)
    if known.repository is None:
        return f"{name} comes with {known.comes_with}: install {known.comes_with} again"
    main = known.files[0].path if len(known.files) == 1 else "a folder with the files of its repository"
    return (
        f"img3d-weights fetch {name}   ({known.size}, {known.licence}, from huggingface.co/{known.repository})\n"
        f"img3d-weights path {name} FILE   (if you have it already: {main})"
    )


def folder_of(known: Checkpoint) -> Path:
    """The folder where a checkpoint's files are or would be."""
    return (known.home or PACKAGE) if known.repository is None else weights_folder() / known.name


def missing_files(known: Checkpoint) -> list[CheckpointFile]:
    """Files that are missing from the checkpoint's folder or do not have their known size."""
    folder = folder_of(known)
    return [file for file in known.files if not _has_size(folder / file.path, file)]


def fetch(name: str) -> Path:
    """Downloads missing files of a checkpoint into the hub's cache, resuming earlier downloads, and verifies them.

    Every file is compared with its published checksum and with the one that the hub gives. Where none was published,
    the hub's is recorded.

    Returns:
        The checkpoint's folder.

    Raises:
        InputError: The hub cannot be reached, the disk is full, or a file is not the published one.
    """
    known = checkpoint(name)
    for file in missing_files(known):
        path = _download(known, file)
        _link(path, folder_of(known) / file.path)
        _record(known, file, path)
    return folder_of(known)


def register(name: str, path: Path) -> list[CheckpointFile]:
    """Registers a user's own files for a checkpoint, after verifying them. They stay where they are.

    Args:
        name: The checkpoint's name.
        path: One of its files, or a folder laid out as its repository.

    Returns:
        The files that were registered.

    Raises:
        InputError: There is no such path, or a file is not the checkpoint's.
    """
    known = checkpoint(name)
    if known.repository is None:
        raise InputError(f"{name} comes with {known.comes_with}: there is nothing to register")
    found = _files_in(known, path)
    recorded = read_checksums(_record_of(known))
    problems = [problem for file, where in found if (problem := problem_of(file, where, recorded.get(file.path, "")))]
    if problems:
        raise InputError(f"{some_names(problems, 1)}; nothing was registered")
    try:
        for file, where in found:
            _link(where.absolute(), folder_of(known) / file.path)
            _record(known, file, where)
    except OSError as error:
        raise InputError(f"{folder_of(known)} cannot be written: {error.strerror or error}") from None
    return [file for file, _ in found]


def _files_in(known: Checkpoint, path: Path) -> list[tuple[CheckpointFile, Path]]:
    if path.is_dir():
        found = [(file, path / file.path) for file in known.files if (path / file.path).is_file()]
        if not found:
            raise InputError(f"{path} has none of the files of {known.name}, such as {known.files[-1].path}")
        return found
    if not path.is_file():
        raise InputError(f"There is no {path}")
    if len(known.files) == 1:
        return [(known.files[0], path)]
    named = [file for file in known.files if Path(file.path).name == path.name]
    beside = [file for file in named if Path(file.path).parent.name == path.absolute().parent.name]
    own = [file for file in named if file.source is not None]  # the one file of another repository
    for candidates in (beside, own, named):
        if len(candidates) == 1:
            return [(candidates[0], path)]
    raise InputError(
        f"{path} could be several of the files of {known.name}, or none: give the folder that holds "
        f"{some_names([file.path for file in named or known.files[:3]])}"
    )


def problems_of(known: Checkpoint) -> list[str]:
    """Problems of a checkpoint's files, each in one line; missing files are skipped."""
    recorded = read_checksums(_record_of(known))
    paths = [(file, folder_of(known) / file.path, recorded.get(file.path, "")) for file in known.files]
    return [problem for file, path, first in paths if path.is_file() and (problem := problem_of(file, path, first))]


def problem_of(file: CheckpointFile, path: Path, recorded: str = "") -> str | None:
    """Why a file is not the published one or is truncated; None if nothing indicates that.

    Checks size and checksum if they are known; files in the hub's cache are named by the hub's own checksum.

    Args:
        file: What is known of it.
        path: Where it is.
        recorded: Its checksum when it was first installed, if none was published.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{path} has {size:,} bytes instead of {file.size:,}: it is another file, or cut short"
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{path} is cut short or not a safetensors file ({error})"
    if path.suffix == ".bin" and not zipfile.is_zipfile(path):
        return f"{path} is cut short or not a weights file"
    others = {recorded: "the file installed first", _hub_checksum(path): "the hub's", file.sha256: "the published file"}
    for expected, other in others.items():  # the same checksum is looked at once
        actual = git_blob_sha1_of(path) if len(expected) == SHA1_DIGITS else sha256_of(path) if expected else ""
        if not actual.startswith(expected):
            return f"{path} has another checksum ({actual[:16]}…) than {other} ({expected[:16]}…)"
    return None


def _record_of(known: Checkpoint) -> Path:
    return weights_folder() / f".{known.name}.checksums.json"


def _record(known: Checkpoint, file: CheckpointFile, path: Path) -> None:
    """Records the checksum of a file of which none was published."""
    if not file.sha256:
        record_checksum(_record_of(known), file.path, _hub_checksum(path) or sha256_of(path))


def _hub_checksum(path: Path) -> str:
    """The hub's checksum of a file in its cache; empty for other files.

    The cache names files by their ETags: a SHA-256 for large files, a git blob's SHA-1 for small ones.
    """
    name = path.resolve().name
    is_checksum = len(name) in (SHA1_DIGITS, SHA256_DIGITS) and not set(name) - set("0123456789abcdef")
    return name if is_checksum else ""


def _has_size(path: Path, file: CheckpointFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size)


def _in_hub_cache(known: Checkpoint, file: CheckpointFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository = file.repository or known.repository
    if repository is None:
        return None
    cached = try_to_load_from_cache(repository, file.source or file.path, revision=file.revision or known.revision)
    return Path(cached) if isinstance(cached, str) and _has_size(Path(cached), file) else None


def _download(known: Checkpoint, file: CheckpointFile) -> Path:
    """Downloads one file into the hub's cache."""
    from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()  # otherwise it reports every attempt to reach the hub
    repository, source = file.repository or known.repository, file.source or file.path
    if repository is None:
        raise InputError(
            f"{known.name} comes with {known.comes_with}, but {folder_of(known) / file.path} is missing: install "
            f"{known.comes_with} again"
        )
    manual = (
        f"fetch {source} of huggingface.co/{repository} on another machine, then: img3d-weights path {known.name} FILE"
    )
    try:
        path = Path(hf_hub_download(repository, source, revision=file.revision or known.revision))
    except LocalEntryNotFoundError:
        raise InputError(f"The Hugging Face hub cannot be reached; {manual}") from None
    except GatedRepoError:
        raise InputError(
            f"huggingface.co/{repository} requires accepting its terms: do so in a browser, then run `hf auth login`"
        ) from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise InputError(f"{HF_HUB_CACHE} is full: free some space there, or set HF_HOME to another disk") from None
        raise InputError(f"{source} of huggingface.co/{repository} cannot be downloaded ({_reason(error)})") from None
    problem = problem_of(file, path, read_checksums(_record_of(known)).get(file.path, ""))
    if problem is None and not (file.sha256 or _hub_checksum(path)):
        problem = f"{path} cannot be verified: no checksum of it was published, and the hub gave none"
    if problem is not None:
        path.resolve().unlink()  # the next fetch starts over
        path.unlink(missing_ok=True)
        raise InputError(f"{problem}; it was removed: fetch it again")
    return path


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return strerror or next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _link(source: Path, path: Path) -> None:
    """Links `path` to `source`, or copies it if the system has no symbolic links."""
    if path.is_file() and path.samefile(source):
        return
    with write_atomically(path) as temporary:
        try:
            temporary.symlink_to(source)
        except OSError:
            shutil.copyfile(source, temporary)
