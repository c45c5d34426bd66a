# SPDX-License-Identifier: Apache-2.0
"""Finds the photos, masks, depth maps and points that a data set lists, perhaps by paths of another computer.

A path that exists is used as it is. Otherwise the folder is looked for first, then the file in it. A folder counts as
found if it contains any of the files listed in it. The following rules are tried in turn, the strictest first:

1. Backslashes separate folders, and a drive letter is dropped.
2. The longest tail of the path that exists (`images/1.jpg` of `/home/somebody/scene/images/1.jpg`), in the data set's
   folder, else in the nearest folder below it. The bare file name is accepted only for photos: for a path that leads
   elsewhere (absolute, or with `..`) in the data set's folder or its `images/`; for a path without a folder anywhere
   below. Otherwise a missing `test/1.png` would be taken for `train/1.png`.
3. Letter case and Unicode normalisation of accents are ignored.
4. A folder without any of the listed files may have reduced copies beside it: `images_2`, `images_4`, ….
5. Another suffix, in the order of the kind's suffixes: a cut-out PNG in place of a JPEG. Names may lack a suffix.

Text links (`img3d_base.text_links`) are followed; found paths keep their names, as with symbolic links, and whatever
opens them must follow them again.

If a rule leads to two files or folders, or to a file that belongs to another name, none is used and a line says so. If
a folder has any of its files at the listed path, the missing ones are taken for deleted and not looked for elsewhere.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from img3d_base.errors import counted, some_names
from img3d_base.foreign_files import legible
from img3d_base.text_links import followed, said_of_links

MAX_FOLDERS = 10_000
"""Most folders below a data set that are searched, the nearest first."""
NOT_PHOTOS = re.compile(
    r"\..*|masks?|depths?|outputs|renders|exports|sparse|images_\d+"
    r"|@eaDir|thumb(nail)?s|__MACOSX|#recycle|\$RECYCLE\.BIN",
    re.IGNORECASE,
)
"""Names of folders beside photos that hold other pictures: masks, results, reduced copies of ns-process-data;
thumbnails (@eaDir: Synology's), metadata of macOS' archives, deleted files."""
MAX_NAME, MAX_DEPTH, MAX_LOOKUPS = 4096, 16, 200_000
"""Limits against hostile files: characters of a listed path, its folders (counted from the end) that are compared, and
folders examined for all paths together."""
PHOTO_FOLDER = "images"
Parts = tuple[str, ...]
Assumption = Literal["separator", "place", "case", "reduced", "suffix"]
Assumptions = frozenset[Assumption]
NOTHING: Assumptions = frozenset()
PLACE: Assumptions = frozenset({"place"})
CASE: Assumptions = frozenset({"case"})
REDUCED: Assumptions = frozenset({"reduced"})
SEPARATOR: Assumptions = frozenset({"separator"})
SUFFIX: Assumptions = frozenset({"suffix"})
SAID: dict[Assumption, str] = {
    "separator": "listed with backslashes, which are taken for Windows' separators",
    "place": "not at the listed path",
    "case": "listed in another spelling (upper and lower case, or accents)",
    "reduced": "available only at reduced size",
    "suffix": "listed with another suffix",
}


@dataclass(frozen=True)
class Kind:
    """A kind of file that data sets name."""

    plural: str
    """Its plural noun in messages."""
    suffixes: Parts
    """The suffixes of its file formats, in lower case, the preferred ones first."""
    are_photos: bool = False

    def are(self, number: int) -> str:
        """The beginning of a sentence about some of them: "1 photo is", "2 photos are"."""
        return f"{counted(number, self.plural.removesuffix('s'), self.plural)} {'is' if number == 1 else 'are'}"


@dataclass(frozen=True)
class Place:
    """A folder as a data set lists it."""

    folders: Parts
    leads_elsewhere: bool
    """Whether the path is absolute or contains `..`, hence may be valid only on the computer that wrote it."""


@dataclass
class Listing:
    """The contents of a folder. Links, text links included, count as their targets; pipes and devices are left out."""

    files: dict[str, list[str]] = field(default_factory=dict)
    """File names by their `key`."""
    stems: dict[str, list[str]] = field(default_factory=dict)
    """File names by the `key` of their stem."""
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Folder names by their `key`."""


def is_file(path: Path) -> bool:
    """Like Path.is_file, but follows text links too, and returns False for invalid names (too long, with a NUL)."""
    try:
        return followed(path).is_file()
    except (OSError, ValueError):
        return False


def key(name: str) -> str:
    """A form of a name without letter case and in one Unicode normalisation: equal for equivalent spellings."""
    return unicodedata.normalize("NFC", name).casefold()


def listing(folder: Path) -> Listing:
    """Lists a folder; an empty listing if it cannot be read."""
    found = Listing()
    try:
        with os.scandir(followed(folder)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = entry.name
                try:
                    if entry.is_file() and not followed(folder / name).is_dir():
                        found.files.setdefault(key(name), []).append(name)
                        found.stems.setdefault(key(PurePosixPath(name).stem), []).append(name)
                    elif entry.is_file() or entry.is_dir():
                        found.folders.setdefault(key(name), []).append(name)
                except OSError:  # a cycle of links
                    continue
    except (OSError, ValueError):
        pass
    return found


def folders_below(folder: Path, not_entered: re.Pattern[str] = NOT_PHOTOS) -> Iterator[tuple[Path, Listing, int]]:
    """Walks a folder and the folders below it breadth-first, by name within a level; yields path, contents and depth.

    Links are followed. Each folder is visited once, however many links lead to it, under its own name in preference to
    that of a link at the same depth.

    Args:
        folder: The root; its depth is 0.
        not_entered: Names of folders that are skipped together with everything below them.
    """
    seen: set[tuple[int, int]] = set()
    level, depth = [folder], 0
    while level:
        following: list[Path] = []
        for each in level:
            try:
                status = os.stat(followed(each))
            except OSError:
                continue
            identity = status.st_dev, status.st_ino
            if identity in seen:
                continue
            if len(seen) == MAX_FOLDERS:
                return
            seen.add(identity)
            contents = listing(each)
            yield each, contents, depth
            names = [name for names in contents.folders.values() for name in names]
            following += [each / name for name in names if not not_entered.fullmatch(name)]
        level = sorted(following, key=lambda path: (path.is_symlink() or followed(path) != path, path))
        depth += 1


class FileResolver:
    """Finds the files of one data set, and records the assumptions it made.

    Args:
        folder: The data set's folder.
        prefixes: Folders in it that listed paths may be relative to, in order of preference; "" for the folder itself.
    """

    def __init__(self, folder: Path, prefixes: Sequence[str] = ("",)):
        self._folder = folder
        self._prefixes = [PurePosixPath(prefix).parts for prefix in prefixes]
        self._listing = cache(listing)
        self._levels: dict[int, list[Path]] | None = None
        self._with_folder: dict[str, dict[int, list[Path]]] = {}
        self._folders: dict[tuple[Kind, Place], tuple[Path, Assumptions] | None] = {}
        self._photos: set[Path] = set()
        self._lookups = 0
        self._assumed: dict[tuple[Kind, Assumption], dict[str, Path]] = {}
        self._unclear: dict[Kind, dict[str, str]] = {}
        self._problems: dict[str, None] = {}  # a dict as an ordered set

    def find(self, names: Sequence[str], kind: Kind) -> list[Path]:
        """The paths of the listed files; a file that is not found keeps its listed path. Call it for photos first.

        Args:
            names: The paths of this kind, as the data set lists them.
            kind: The kind of file.
        """
        roots = [self._folder.joinpath(*prefix) for prefix in self._prefixes]
        exact = {name: next((root / name for root in roots if is_file(root / name)), None) for name in names}
        found = {name: path for name, path in exact.items() if path is not None}
        for name, path in found.items():
            listed = _taken_apart(name, windows=False)
            if listed is not None:
                self._folders.setdefault((kind, listed[0]), (path.parent, NOTHING))
        taken = set(found.values()) | (set() if kind.are_photos else self._photos)
        guesses: dict[str, tuple[Path, Assumptions]] = {}
        for windows in (False, True):
            missing = [name for name in exact if name not in found and name not in guesses]
            guesses.update(self._guess(missing, kind, windows))
        for name, (path, assumptions) in self._not_taken(guesses, taken, kind).items():
            found[name] = path
            for assumption in assumptions:
                self._assumed.setdefault((kind, assumption), {})[name] = path
        if kind.are_photos:
            self._photos.update(found.values())
        self._problems.update(dict.fromkeys(said_of_links(found.values(), kind.plural)))
        return [found.get(name, roots[0] / name) for name in names]

    def folder(self, name: str, kind: Kind) -> Path | None:
        """A folder of the data set that contains files of a kind, found by rules 3 and 4; None if there is none."""
        for candidates in self._at([self._folder], (name,), NOTHING):
            for path, assumptions in candidates:
                files = [file for files in self._listing(path).files.values() for file in files]
                if any(PurePosixPath(file).suffix.lower() in kind.suffixes for file in files):
                    if assumptions:
                        self._problems[f"{name} has no {kind.plural}: those in {path} are used"] = None
                    links = said_of_links((path / file for file in files), kind.plural)
                    self._problems.update(dict.fromkeys(links))
                    return path
        return None

    def named(self, name: str) -> Path:
        """The file or folder of a fixed name in any spelling; the name as given if none matches or several do.

        Args:
            name: Its path in the data set, with / between folders.
        """
        path = self._folder
        for part in PurePosixPath(name).parts:
            contents = self._listing(path)
            spelled = [*contents.files.get(key(part), []), *contents.folders.get(key(part), [])]
            if part not in spelled and len(spelled) > 1:
                choice = legible(" or ".join(spelled))
                self._problems[f"{path} has {choice} in place of {part}: move or rename one of them"] = None
            if part not in spelled and len(spelled) != 1:
                return self._folder / name
            path /= part if part in spelled else spelled[0]
        if path != self._folder / name:
            self._problems[f"{legible(str(path))} is taken for {name}"] = None
        return path

    @property
    def assumptions(self) -> list[str]:
        """One line for each combination of kind and assumption, and one for each ambiguity."""
        lines = []
        for (kind, assumption), files in self._assumed.items():
            name, path = next(iter(files.items()))
            lines.append(f"{kind.are(len(files))} {SAID[assumption]}: {legible(name)} is {legible(str(path))}")
        for kind, files in self._unclear.items():
            name, choice = next(iter(files.items()))
            lines.append(f"{kind.are(len(files))} ambiguous: {legible(name)} may be {choice}; move or rename one")
        return [*lines, *self._problems]

    def _guess(self, names: list[str], kind: Kind, windows: bool) -> dict[str, tuple[Path, Assumptions]]:
        """Finds files that are not where they are listed, by name; `windows`: reads listed paths as Windows does."""
        places: dict[Place, dict[str, str]] = {}
        for name in names:
            listed = _taken_apart(name, windows)
            if listed is not None:
                places.setdefault(listed[0], {})[name] = listed[1]
        guesses = {}
        for place, files in places.items():
            found = self._folder_of(place, list(files.values()), kind)
            if found is None:
                continue
            folder, assumed = found
            if windows and not assumed & PLACE:  # the message about another place covers the separators
                assumed |= SEPARATOR
            for name, file in files.items():
                matches, how = self._matches(folder, file, kind)
                if len(matches) == 1:
                    guesses[name] = folder / matches[0], assumed | how
                elif matches:
                    self._unclear.setdefault(kind, {})[name] = f"{legible(' or '.join(matches))} in {folder}"
        return guesses

    def _folder_of(self, place: Place, files: list[str], kind: Kind) -> tuple[Path, Assumptions] | None:
        """The actual folder for a listed one: it contains some of the files listed there."""
        if (kind, place) not in self._folders:
            self._folders[kind, place] = None
            stems = {key(stem) for file in files for stem in (file, PurePosixPath(file).stem)}
            for candidates in self._candidates(place, kind):
                possible = [each for each in candidates if not stems.isdisjoint(self._listing(each[0]).stems)]
                good = [each for each in possible if any(self._matches(each[0], file, kind)[0] for file in files)]
                if self._lookups > MAX_LOOKUPS:
                    self._problems[
                        "more folders are listed than are searched for; files not found so far stay missing"
                    ] = None
                    break
                if good:
                    self._folders[kind, place] = good[0] if len(good) == 1 else None
                if len(good) > 1:
                    where = " or ".join(str(folder) for folder, _ in good[:3])
                    listed = legible("/".join(place.folders)) if place.folders else "no folder"
                    self._problems[f"the {kind.plural} listed in {listed} may be in {where}: move or rename one"] = None
                if good:
                    break
        return self._folders[kind, place]

    def _candidates(self, place: Place, kind: Kind) -> Iterator[list[tuple[Path, Assumptions]]]:
        """Candidate folders for a listed one, rule by rule; those of one rule are equally good."""
        folders, elsewhere, here = place.folders, place.leads_elsewhere, [self._folder]
        if not elsewhere:
            for prefix in self._prefixes:
                yield from self._at(here, prefix + folders, NOTHING)
        for length in range(len(folders), 0, -1):
            tail = folders[-length:]
            if elsewhere or length < len(folders):
                for prefix in self._prefixes:
                    yield from self._at(here, prefix + tail, PLACE)
            for level in self._levels_with(tail[0]):
                yield from self._at(level, tail, PLACE)
        if not kind.are_photos:
            return
        if elsewhere or key("/".join(folders)) == PHOTO_FOLDER:
            yield [(self._folder, PLACE)]
        if elsewhere or not folders:
            yield from self._at(here, (PHOTO_FOLDER,), PLACE)
        if not elsewhere and not folders:
            for level in self._below().values():
                yield [(folder, PLACE) for folder in level]

    def _at(
        self, anchors: Sequence[Path], folders: Parts, assumed: Assumptions
    ) -> Iterator[list[tuple[Path, Assumptions]]]:
        """Folders below any of the anchors: with exactly these names, then in other spellings, then reduced copies."""
        exact = [anchor.joinpath(*folders) for anchor in anchors]
        yield [(path, assumed) for path in exact]
        spelled = [path for anchor in anchors for path in self._in_any_spelling(anchor, folders)]
        yield [(path, assumed | CASE) for path in spelled if path not in exact]
        reduced: dict[int, list[Path]] = {}
        for anchor in anchors:
            for factor, path in self._reduced(anchor, folders):
                reduced.setdefault(factor, []).append(path)
        for factor in sorted(reduced):
            yield [(path, assumed | REDUCED) for path in reduced[factor]]

    def _in_any_spelling(self, anchor: Path, folders: Parts) -> list[Path]:
        found = [anchor]
        for folder in folders:
            self._lookups += len(found)
            found = [path / name for path in found for name in self._listing(path).folders.get(key(folder), [])]
        return found

    def _reduced(self, anchor: Path, folders: Parts) -> Iterator[tuple[int, Path]]:
        """Reduced copies, with a factor after one of the names (`images_2/left` for `images/left`), and the factor."""
        for i, folder in enumerate(folders):
            copy = re.compile(re.escape(key(folder)) + "_([0-9]+)")
            for parent in self._in_any_spelling(anchor, folders[:i]):
                names = [name for names in self._listing(parent).folders.values() for name in names]
                self._lookups += len(names)
                for name in names:
                    factor = copy.fullmatch(key(name))
                    if factor is not None:
                        for path in self._in_any_spelling(parent / name, folders[i + 1 :]):
                            yield int(factor[1]), path

    def _below(self) -> dict[int, list[Path]]:
        """The folders below the data set's folder, by depth."""
        if self._levels is None:
            self._levels = {}
            for folder, contents, depth in folders_below(self._folder):
                if depth > 0:
                    self._levels.setdefault(depth, []).append(folder)
                    for name in contents.folders:
                        for wanted in {name, re.sub("_[0-9]+$", "", name)}:
                            self._with_folder.setdefault(wanted, {}).setdefault(depth, []).append(folder)
        return self._levels

    def _levels_with(self, name: str) -> Iterator[list[Path]]:
        """The folders below the data set's folder that contain a folder of that name or a reduced copy, by depth."""
        self._below()
        yield from self._with_folder.get(key(name), {}).values()

    def _matches(self, folder: Path, name: str, kind: Kind) -> tuple[list[str], Assumptions]:
        """The files in a folder that match a name equally well, and the assumptions made."""
        contents = self._listing(folder)
        same = contents.files.get(key(name), [])
        if same:
            return ([name], NOTHING) if name in same else (same, CASE)
        suffix = PurePosixPath(name).suffix
        has_suffix = suffix.lower() in kind.suffixes
        stem = name.removesuffix(suffix) if has_suffix else name
        formats = {suffix: [] for suffix in kind.suffixes}
        for file in contents.stems.get(key(stem), []):
            formats.get(PurePosixPath(file).suffix.lower(), []).append(file)
        files = next(filter(None, formats.values()), [])
        exact = [file for file in files if PurePosixPath(file).stem == stem]
        assumed = SUFFIX if has_suffix else NOTHING
        return (exact, assumed) if exact else (files, assumed | CASE)

    def _not_taken(
        self, guesses: dict[str, tuple[Path, Assumptions]], taken: set[Path], kind: Kind
    ) -> dict[str, tuple[Path, Assumptions]]:
        """Drops guesses that lead to a file listed under its own name, or to the same file as another guess."""
        count = Counter(path for path, _ in guesses.values())
        bad = {name: None for name, (path, how) in guesses.items() if how and (path in taken or count[path] > 1)}
        if bad:
            line = f"{kind.are(len(bad))} missing, and the files of similar names are listed under other names"
            self._problems[f"{line} ({some_names([legible(name) for name in bad])})"] = None
        return {name: guess for name, guess in guesses.items() if name not in bad}


def _taken_apart(name: str, windows: bool) -> tuple[Place, str] | None:
    """Splits a listed path, read as POSIX or Windows does, into folder and file name.

    Returns:
        None for a path that is empty or too long, and for a Windows reading that is the same as POSIX's.
    """
    if len(name) > MAX_NAME:
        return None
    path = PureWindowsPath(name) if windows else PurePosixPath(name)
    if windows and "\\" not in name and not path.drive:
        return None
    parts: list[str] = []
    elsewhere = path.anchor != ""
    for part in path.parts[1 if path.anchor else 0 :]:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            elsewhere = True
    return (Place(tuple(parts[-1 - MAX_DEPTH : -1]), elsewhere), parts[-1]) if parts else None
