# SPDX-License-Identifier: Apache-2.0
"""Where the files are that a data set names: photos, masks, depth maps, points; paths as other computers wrote them.

A path that exists is right. Otherwise the folder is found first, then the file in it. A folder counts as found if any
of the files that are listed in it is there. The rungs, from the strictest on:

1. Backslashes separate folders, and a drive is dropped.
2. The longest tail of the path that exists: `/home/somebody/scene/images/1.jpg` is `images/1.jpg`, in the data set's
   folder, else in the nearest folder below it. Of a path that leads elsewhere (absolute, or with `..`) the name of the
   file is enough for a photo in the data set's folder or its `images/`; of a photo's name without a folder anywhere
   below. That a missing `test/1.png` is not taken for `train/1.png` is why it is not enough of others.
3. Letter case and the ways to write an accent in Unicode do not count.
4. A folder that has nothing of what is listed may have reduced copies beside it: `images_2`, `images_4`, ….
5. Another suffix, in the order of the kind's suffixes: a cut-out PNG in place of a JPEG. Names may lack theirs.

Links that git or unzip wrote as text files are followed; found paths keep their names, as with symbolic links, and
whatever opens them follows them again.

Where a rung leads to two files or folders, none is taken, and a line says so; also where a file belongs to another
name. In a folder that has any of its files under the path that is listed, the missing ones were taken away: they are
not looked for elsewhere.
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

from img3d_base.errors import some_names
from img3d_base.foreign_files import legible
from img3d_base.text_links import followed, said_of_links

MAX_FOLDERS = 10_000
"""Folders below a data set that are looked into, the nearest first."""
NOT_PHOTOS = re.compile(r"\..*|masks?|depths?|outputs|renders|exports|sparse|images_\d+", re.IGNORECASE)
"""Folders beside photos that hold other pictures: masks, results, and the reduced copies of ns-process-data."""
MAX_NAME, MAX_DEPTH, MAX_LOOKUPS = 4096, 16, 200_000
"""Characters of a path that is looked for, folders of it that count from its end, and folders that are looked at for
all paths together: what a hostile file lists must not take hours."""
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
    "separator": "are listed with backslashes, which are taken for Windows' separators",
    "place": "are not where the data set lists them",
    "case": "are listed in another spelling (upper and lower case, or accents)",
    "reduced": "are there as reduced copies only",
    "suffix": "have another suffix than the data set lists",
}


@dataclass(frozen=True)
class Kind:
    """A kind of file that data sets name."""

    plural: str
    """What several of them are called in a message."""
    suffixes: Parts
    """Of its formats, in lower case, the preferred ones first."""
    are_photos: bool = False


@dataclass(frozen=True)
class Place:
    """Where a data set says that some of its files are."""

    folders: Parts
    leads_elsewhere: bool
    """Whether the path is absolute or has `..` in it: it holds on the computer that wrote it, if anywhere."""


@dataclass
class Listing:
    """What lies in a folder; links (as text, too) count as what they lead to, pipes and devices not at all."""

    files: dict[str, list[str]] = field(default_factory=dict)
    """Names of files by their key."""
    stems: dict[str, list[str]] = field(default_factory=dict)
    """Names of files by the key of their stem."""
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Names of folders by their key."""


def is_file(path: Path) -> bool:
    """Like Path.is_file, but follows links in text files, too; names that the system refuses (too long, with a NUL)
    are just not there."""
    try:
        return followed(path).is_file()
    except (OSError, ValueError):
        return False


def key(name: str) -> str:
    """What names have in common that differ in letter case and in the way that accents are written only."""
    return unicodedata.normalize("NFC", name).casefold()


def listing(folder: Path) -> Listing:
    """What lies in a folder; nothing if it cannot be read."""
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
                except OSError:  # a link that leads in a circle
                    continue
    except (OSError, ValueError):
        pass
    return found


def folders_below(folder: Path, not_entered: re.Pattern[str] = NOT_PHOTOS) -> Iterator[tuple[Path, Listing, int]]:
    """A folder and those below it, each with what lies in it and its depth; the nearest first, then by name.

    Links are followed. Each folder comes once, however many links lead to it and if they lead in a circle, and under
    its own name rather than that of a link of the same depth.

    Args:
        folder: where to begin; its depth is 0.
        not_entered: names of folders that are left out, with all that is below them.
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
            lying = listing(each)
            yield each, lying, depth
            names = [name for names in lying.folders.values() for name in names]
            following += [each / name for name in names if not not_entered.fullmatch(name)]
        level = sorted(following, key=lambda path: (path.is_symlink() or followed(path) != path, path))
        depth += 1


class FileResolver:
    """Finds the files of one data set, and remembers what it had to assume.

    Args:
        folder: the data set's.
        prefixes: folders in it that paths may count from, the best first; "" for itself.
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
        self._problems: dict[str, None] = {}  # ordered, and each once

    def find(self, names: Sequence[str], kind: Kind) -> list[Path]:
        """The files that are meant; for those not found, the paths as listed. Photos are to be looked for first.

        Args:
            names: the paths of this kind that the data set lists, as it writes them.
            kind: what they are.
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
        """The folder of a name in the data set's that has files of a kind in it, by rungs 3 and 4; None without one."""
        for candidates in self._at([self._folder], (name,), NOTHING):
            for path, assumptions in candidates:
                files = [file for files in self._listing(path).files.values() for file in files]
                if any(PurePosixPath(file).suffix.lower() in kind.suffixes for file in files):
                    if assumptions:
                        self._problems[f"the {kind.plural} are those in {path}, as {name} has none"] = None
                    links = said_of_links((path / file for file in files), kind.plural)
                    self._problems.update(dict.fromkeys(links))
                    return path
        return None

    def named(self, name: str) -> Path:
        """The file or folder of a fixed name, in any spelling; as it is named if there is none, or none but several.

        Args:
            name: its path in the data set, with / between folders.
        """
        path = self._folder
        for part in PurePosixPath(name).parts:
            lying = self._listing(path)
            spelled = [*lying.files.get(key(part), []), *lying.folders.get(key(part), [])]
            if part not in spelled and len(spelled) > 1:
                choice = legible(" or ".join(spelled))
                self._problems[f"{path} has {choice} in place of {part}: move one of them away"] = None
            if part not in spelled and len(spelled) != 1:
                return self._folder / name
            path /= part if part in spelled else spelled[0]
        if path != self._folder / name:
            self._problems[f"{legible(str(path))} is taken for {name}"] = None
        return path

    @property
    def assumptions(self) -> list[str]:
        """One line for each kind of file and of assumption, and one for whatever could not be told apart."""
        lines = []
        for (kind, assumption), files in self._assumed.items():
            name, path = next(iter(files.items()))
            lines.append(f"{len(files)} {kind.plural} {SAID[assumption]}: {legible(name)} is {legible(str(path))}")
        for kind, files in self._unclear.items():
            name, choice = next(iter(files.items()))
            lines.append(
                f"{len(files)} {kind.plural} are not clear, move one of two away: {legible(name)} may be {choice}"
            )
        return [*lines, *self._problems]

    def _guess(self, names: list[str], kind: Kind, windows: bool) -> dict[str, tuple[Path, Assumptions]]:
        """What files that are not where they are listed seem to be, by their names."""
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
            if windows and not assumed & PLACE:  # that a path is another computer's says enough
                assumed |= SEPARATOR
            for name, file in files.items():
                matches, how = self._matches(folder, file, kind)
                if len(matches) == 1:
                    guesses[name] = folder / matches[0], assumed | how
                elif matches:
                    self._unclear.setdefault(kind, {})[name] = f"{legible(' or '.join(matches))} in {folder}"
        return guesses

    def _folder_of(self, place: Place, files: list[str], kind: Kind) -> tuple[Path, Assumptions] | None:
        """The folder that a place means, in which some of the files are that are listed there."""
        if (kind, place) not in self._folders:
            self._folders[kind, place] = None
            stems = {key(stem) for file in files for stem in (file, PurePosixPath(file).stem)}
            for candidates in self._candidates(place, kind):
                lying = [each for each in candidates if not stems.isdisjoint(self._listing(each[0]).stems)]
                good = [each for each in lying if any(self._matches(each[0], file, kind)[0] for file in files)]
                if self._lookups > MAX_LOOKUPS:
                    self._problems["more folders are listed than are looked for; what is missing stays missing"] = None
                    break
                if good:
                    self._folders[kind, place] = good[0] if len(good) == 1 else None
                if len(good) > 1:
                    where = " or ".join(str(folder) for folder, _ in good[:3])
                    listed = legible("/".join(place.folders)) if place.folders else "no folder"
                    self._problems[f"the {kind.plural} listed in {listed} may be in {where}: move one away"] = None
                if good:
                    break
        return self._folders[kind, place]

    def _candidates(self, place: Place, kind: Kind) -> Iterator[list[tuple[Path, Assumptions]]]:
        """Folders that a place may mean, rung by rung; those on one rung are equally good."""
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
        """Folders in any of the anchors: of these very names, then in other spellings, then reduced copies."""
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
        """Folders with a factor after one of the names (`images_2/left` for `images/left`), and the factors."""
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
        """The folders below the data set's, by their depth."""
        if self._levels is None:
            self._levels = {}
            for folder, lying, depth in folders_below(self._folder):
                if depth > 0:
                    self._levels.setdefault(depth, []).append(folder)
                    for name in lying.folders:
                        for wanted in {name, re.sub("_[0-9]+$", "", name)}:
                            self._with_folder.setdefault(wanted, {}).setdefault(depth, []).append(folder)
        return self._levels

    def _levels_with(self, name: str) -> Iterator[list[Path]]:
        """The folders below the data set's that have a folder of that name in them, or a reduced copy, by depth."""
        self._below()
        yield from self._with_folder.get(key(name), {}).values()

    def _matches(self, folder: Path, name: str, kind: Kind) -> tuple[list[str], Assumptions]:
        """The files in a folder that a name means, all equally well, and what that assumes."""
        lying = self._listing(folder)
        same = lying.files.get(key(name), [])
        if same:
            return ([name], NOTHING) if name in same else (same, CASE)
        suffix = PurePosixPath(name).suffix
        has_suffix = suffix.lower() in kind.suffixes
        stem = name.removesuffix(suffix) if has_suffix else name
        formats = {suffix: [] for suffix in kind.suffixes}
        for file in lying.stems.get(key(stem), []):
            formats.get(PurePosixPath(file).suffix.lower(), []).append(file)
        files = next(filter(None, formats.values()), [])
        exact = [file for file in files if PurePosixPath(file).stem == stem]
        assumed = SUFFIX if has_suffix else NOTHING
        return (exact, assumed) if exact else (files, assumed | CASE)

    def _not_taken(
        self, guesses: dict[str, tuple[Path, Assumptions]], taken: set[Path], kind: Kind
    ) -> dict[str, tuple[Path, Assumptions]]:
        """The guesses without files that are listed by their own name, or that several names would lead to."""
        count = Counter(path for path, _ in guesses.values())
        bad = {name: None for name, (path, how) in guesses.items() if how and (path in taken or count[path] > 1)}
        if bad:
            line = f"{len(bad)} {kind.plural} are not there, and what is named like them belongs to others"
            self._problems[f"{line} ({some_names([legible(name) for name in bad])})"] = None
        return {name: guess for name, guess in guesses.items() if name not in bad}


def _taken_apart(name: str, windows: bool) -> tuple[Place, str] | None:
    """Place and name of a file by its path as POSIX or Windows reads it; None without, or if Windows reads the same."""
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
