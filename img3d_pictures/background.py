# SPDX-License-Identifier: Apache-2.0
"""Masks of the object in each photo: on a turntable the object turns while the background stands still.

The network is U²-Net (Qin et al., "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection", 2020),
run by rembg. It is selected by name, because the licence of newer rembg's default model forbids commercial use.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from img3d_base.atomic_files import write_atomically
from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, some_names, warn
from img3d_base.progress import with_progress
from img3d_base.text_links import followed
from img3d_base.threaded import in_threads
from img3d_pictures.object_by_colour import ObjectByColour
from img3d_pictures.opening import open_picture
from img3d_pictures.orientation import EXIF_ORIENTATION, UPRIGHT, orientation, stored_size
from img3d_pictures.reading import read_upright

MODEL = "u2net"
WEIGHTS_URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
WEIGHTS_SIZE = "176 MB"
WEIGHTS_LICENCE = "Apache-2.0, https://github.com/xuebinqin/U-2-Net"
INPUT_SIZE = 1024
"""Longer side in pixels of the network's input, which it reduces to 320: large photos need not be read in full."""
MIN_OBJECT = 0.001
"""Smallest share of a photo that counts as an object."""


@runtime_checkable
class Session(Protocol):
    """The part of rembg's sessions that is used here."""

    def predict(self, img: Image.Image) -> Sequence[Image.Image]:
        """Masks of an upright RGB picture, of its size, mode L, 255 where the object is; only the first one is used."""
        ...


def remove_backgrounds(
    photos: Sequence[Path], cache: Path, open_session: Callable[[], Session] | None = None
) -> list[Path]:
    """Makes masks of the object in each photo; masks in the cache are reused, also after an interruption.

    A mask is stored in the orientation of its photo's pixels, with the same EXIF orientation tag, so that the two match
    whether a reader applies the tag or not.

    Args:
        photos: The files. Masks are cached by content, not by name or place.
        cache: The folder in which the masks get a sub-folder.
        open_session: Loads the segmentation model; called only if a mask has to be made. None: rembg with U²-Net.

    Returns:
        One PNG for each photo: mode L, 255 on the object, 0 elsewhere.

    Raises:
        InputError: rembg or its weights are not available, a photo cannot be read, or a mask cannot be written.
    """
    folder = cache / f"masks-{MODEL}"
    masks = [folder / f"{digest}.png" for digest in in_threads(_digest, photos, "Looking for masks")]
    to_make = {mask: photo for photo, mask in zip(photos, masks, strict=True) if not mask.is_file()}
    if to_make:
        session = (open_session or open_u2net)()
        progress = with_progress(to_make.items(), "Removing backgrounds of photos", len(to_make))
        empty = [photo.name for mask, photo in progress if _make_mask(session, photo, mask) < MIN_OBJECT]
        if empty:
            warn(f"no object was found in {len(empty)} of {len(to_make)} photos: {some_names(empty)}")
    kept = len(set(masks)) - len(to_make)
    print_line(f"Masks: {len(to_make)} made, {kept} from the cache {folder}")
    return masks


def _digest(photo: Path) -> str:
    try:
        return hashlib.sha256(followed(photo).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{photo} cannot be read: {error.strerror}") from None


def _make_mask(session: Session, photo: Path, path: Path) -> float:
    """Writes a photo's mask; returns the object's share of its pixels."""
    with open_picture(photo) as image:
        (width, height), turned = stored_size(image), orientation(image)
    picture = Image.fromarray(read_upright(photo, INPUT_SIZE, alpha_color=(1.0, 1.0, 1.0)))
    _, to_stored = UPRIGHT.get(turned, (None, None))
    mask = session.predict(picture)[0].convert("L")
    if to_stored is not None:
        mask = mask.transpose(to_stored)
    soft = np.asarray(mask.resize((width, height), Image.Resampling.BICUBIC))
    is_object = soft > 127  # binary: COLMAP uses every pixel that is not 0
    exif = Image.Exif()
    if to_stored is not None:
        exif[EXIF_ORIENTATION] = turned
    try:
        with write_atomically(path) as temporary:
            Image.fromarray(255 * is_object.astype(np.uint8)).save(temporary, format="PNG", exif=exif)
    except OSError as error:
        raise InputError(
            f"the mask of {photo} cannot be kept in {path.parent}: {error.strerror or error}; free some space there, "
            "or give another folder with --cache-dir"
        ) from None
    return float(is_object.mean())


def rembg_is_installed() -> bool:
    """Whether the packages that `open_u2net` needs are installed; the weights may be missing."""
    return not _missing_packages()


def _missing_packages() -> list[str]:
    return [name for name in ("rembg", "onnxruntime") if importlib.util.find_spec(name) is None]


def open_object_finder() -> Session:
    """rembg if it is installed and its weights are available, else segmentation by colour, with a warning."""
    if rembg_is_installed():
        try:
            return open_u2net()
        except InputError as error:
            warn(f"{error}; until then objects are found by their colours")
    return ObjectByColour()


def open_u2net() -> Session:
    """rembg with U²-Net, whose weights are downloaded unless rembg has them already.

    Raises:
        InputError: rembg is not installed, or the weights cannot be downloaded.
    """
    missing = _missing_packages()
    if missing:
        raise InputError(f"removing backgrounds needs {' and '.join(missing)}: run pip install 'img3d[background]'")
    with CONSOLE.status("Starting rembg: about a minute the first time, when it compiles parts of itself"):
        from rembg.session_factory import new_session  # pyright: ignore[reportMissingImports]  # an extra
        from rembg.sessions.u2net import U2netSession  # pyright: ignore[reportMissingImports]  # an extra

    weights = Path(U2netSession.u2net_home()) / f"{MODEL}.onnx"
    if not weights.is_file():
        print_line(
            f"Removing backgrounds needs the weights of U²-Net ({WEIGHTS_SIZE}; {WEIGHTS_LICENCE}): downloading "
            f"{WEIGHTS_URL} to {weights}"
        )
    try:
        U2netSession.download_models()
    except (OSError, ValueError) as error:  # no network or disk space; a wrong checksum
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the weights of U²-Net cannot be downloaded ({reason}); download {WEIGHTS_URL} elsewhere and put it at "
            f"{weights}"
        ) from None
    return new_session(MODEL)
