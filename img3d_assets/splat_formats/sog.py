# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas's SOG, the smallest format: lossless pictures whose pixels are Gaussians, described by a JSON file.

https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog/. Version 2 is written, as one zip file;
versions 1 and 2 are read, from a zip file or from a folder's meta.json. Our own code, with Pillow for the pictures:
sogs (PyPI) writes only version 1 and needs CUDA, and gsply only reads.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_assets.quantised import LOGITS_OF_BYTES, bytes_of, from_smallest_three, levels, smallest_three
from img3d_assets.splat_formats.counts import check_packed
from img3d_assets.splat_formats.morton import morton_order
from img3d_assets.splat_formats.palettes import codebook, nearest_codes, palette
from img3d_base.errors import InputError, some_names
from img3d_base.foreign_files import (
    inside,
    open_zip,
    parse_json,
    read_bytes,
    reason,
    require_regular,
    shown,
    zip_member,
)

META = "meta.json"
LARGEST_COMPONENT = 252
"""The alpha channel of a quaternion is this number plus the index of its largest component."""
PALETTE_ROW, MAX_PALETTE = 64, 65536
MAX_META_BYTES = 4 << 20
"""Largest meta.json: its codebooks take 20,000 bytes."""
PIXELS_PER_GAUSSIAN, FEW_PIXELS = 2, 65536
"""Most pixels of a picture: this many per Gaussian, since the last rows may be empty, plus this constant."""


def write(splats: Gaussians, file: BinaryIO) -> None:
    """Writes one zip file, with the Gaussians in Morton order."""
    with zipfile.ZipFile(file, "w") as archive:  # not compressed: the pictures already are
        for name, contents in sog_files(splats[morton_order(splats.means)]).items():
            archive.writestr(zipfile.ZipInfo(name), contents)


def sog_files(splats: Gaussians, palette_size: int | None = None) -> dict[str, bytes]:
    """The contents of the files by name, with the Gaussians in the given order.

    Args:
        splats: At least one, all finite.
        palette_size: Number of palette entries for harmonics; None: the largest power of two up to the number of
            Gaussians, from 1024 to 65,536, as in PlayCanvas's program.
    """
    width = -(-int(np.ceil(np.sqrt(len(splats)))) // 4) * 4  # multiples of 4, as in PlayCanvas's program
    height = -(-len(splats) // width // 4) * 4 or 4

    def picture(*channels: npt.NDArray[Any]) -> bytes:
        return _webp(np.concatenate([_column(channel) for channel in channels], axis=1), width, height)

    logs = np.sign(splats.means) * np.log1p(np.abs(splats.means.astype(np.float64)))
    low, high = logs.min(axis=0), logs.max(axis=0)
    means = levels((logs - low) / np.where(high > low, high - low, 1), bits=16)
    largest, others = smallest_three(splats.quats)
    scales, colors = codebook(splats.log_scales), codebook(splats.sh_dc)
    files = {
        "means_l.webp": picture(means & 255),
        "means_u.webp": picture(means >> 8),
        "quats.webp": picture(bytes_of(others / np.sqrt(2) + 0.5), LARGEST_COMPONENT + largest),
        "scales.webp": picture(nearest_codes(splats.log_scales, scales)),
        "sh0.webp": picture(nearest_codes(splats.sh_dc, colors), bytes_of(splats.alphas())),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "img3d"},
        "count": len(splats),
        "antialias": splats.antialiased,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colors.tolist(), "files": ["sh0.webp"]},
    }
    if splats.sh_degree:
        count = splats.sh_rest.shape[1]
        entries, labels = palette(
            splats.sh_rest.reshape(len(splats), -1),
            palette_size or min(MAX_PALETTE, 2 ** max(10, int(np.log2(len(splats))))),
        )
        codes = codebook(entries)
        rows = -(-len(entries) // PALETTE_ROW)
        centroids = nearest_codes(entries, codes).reshape(-1, 3)  # a pixel is one coefficient in all three channels
        files["shN_centroids.webp"] = _webp(centroids, PALETTE_ROW * count, rows)
        files["shN_labels.webp"] = picture(labels & 255, labels >> 8)
        meta["shN"] = {
            "count": len(entries),
            "bands": splats.sh_degree,
            "codebook": codes.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
    return {META: json.dumps(meta).encode(), **files}


def read(path: Path) -> Gaussians:
    """Reads the Gaussians of a zip file, or of the folder whose meta.json is given.

    The files of a zip may be in a folder inside it, as if the folder had been zipped.

    Raises:
        InputError: It is another kind of file, damaged, or its parts do not match.
    """
    if path.suffix.lower() == ".json":
        meta = parse_json(read_bytes(path, MAX_META_BYTES), str(path))
        size = sum(inside(path, name).stat().st_size for name in _picture_names(path, meta))
        return _splats(path, meta, lambda name, most: read_bytes(inside(path, name), most), size)
    size = require_regular(path).stat().st_size
    with open_zip(path) as archive:
        name = _meta_name(path, archive.namelist())
        meta = parse_json(zip_member(archive, name, MAX_META_BYTES), f"{name} in {path}")
        folder = name.removesuffix(META)
        return _splats(path, meta, lambda name, most: zip_member(archive, folder + name, most), size)


def _meta_name(path: Path, names: list[str]) -> str:
    """The name of the SOG's meta.json in a zip archive: the least deeply nested one."""
    # Some Windows programs write backslashes between folders.
    found = [name for name in names if re.split(r"[/\\]", name)[-1] == META and not name.startswith("__MACOSX/")]
    if not found:
        raise InputError(
            f"{path} is a zip archive without a {META} in it, hence not a SOG: unpack it, and give the file in it "
            f"({some_names([*map(shown, names)]) or 'it is empty'})"
        )
    depths = [len(re.split(r"[/\\]", name)) for name in found]
    first = [name for name, depth in zip(found, depths, strict=True) if depth == min(depths)]
    if len(first) > 1:
        raise InputError(f"{path} has several SOGs in it ({some_names([*map(shown, first)])}): unpack it, and give one")
    return first[0]


def _picture_names(path: Path, meta: Any) -> set[str]:
    """The names of all pictures of a SOG.

    Raises:
        InputError: `meta` does not describe a SOG.
    """
    if not isinstance(meta, dict) or not isinstance(meta.get("means"), dict):
        if isinstance(meta, dict) and "lodLevels" in meta:
            raise InputError(
                f"{path} is the index of a streamed SOG: give the {META} in one of its folders, or its source file"
            )
        raise InputError(f"{path} does not describe a SOG: it has no means")
    if "files" not in meta["means"]:
        raise InputError(
            f"{path} does not describe a SOG: it names no pictures of its means, as in gsplat's PNG compression; "
            "export it as PLY"
        )
    names = [name for part in meta.values() if isinstance(part, dict) for name in part.get("files", [])]
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{path} has {shown(name)} where the name of a picture should be")
    return set(names)


def _splats(path: Path, meta: Any, contents: Callable[[str, int], bytes], size: int) -> Gaussians:
    """Decodes the Gaussians.

    Args:
        path: The file, for messages.
        meta: The parsed meta.json.
        contents: Returns the contents of a picture's file by its name, of at most the given number of bytes.
        size: Total size of the pictures in bytes.
    """
    _picture_names(path, meta)
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise InputError(f"{path} has version {shown(version)} of the SOG format: 1 and 2 are supported")
    claimed = meta["count"] if version == 2 else meta["means"]["shape"][0]
    num = check_packed(claimed, 3 if "shN" in meta else 0, size, path)

    def picture(part: str, file: int, most_pixels: int) -> UInt8[np.ndarray, "H W 4"]:
        name = meta[part]["files"][file]
        return _pixels(contents(name, 4 * most_pixels + MAX_META_BYTES), f"{shown(name)} of {path}", most_pixels)

    def pixels(part: str, file: int = 0) -> UInt8[np.ndarray, "N 4"]:
        values = picture(part, file, PIXELS_PER_GAUSSIAN * num + FEW_PIXELS).reshape(-1, 4)
        if len(values) < num:
            raise InputError(f"{path} has a picture of {len(values):,} pixels ({part}) for {num:,} Gaussians")
        return values[:num]

    def numbers(part: str, name: str, most: int) -> Float[np.ndarray, "..."]:
        """A number or a short list of numbers from meta.json."""
        found = np.asarray(meta[part][name], np.float64)
        if found.ndim > 1 or found.size > most:
            raise InputError(f"{path} is damaged: {name} of its {part} is not a list of at most {most} numbers")
        return found

    def values(part: str, bytes_: UInt8[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Decodes bytes: by a codebook or, in version 1, linearly between two extremes."""
        if version == 2:
            return numbers(part, "codebook", 256).astype(np.float32)[bytes_]
        low, high = (numbers(part, end, 4).astype(np.float32) for end in ("mins", "maxs"))
        return low + bytes_ / np.float32(255) * (high - low)

    low, high = (numbers("means", end, 3) for end in ("mins", "maxs"))
    steps = pixels("means")[:, :3].astype(np.uint16) + (pixels("means", 1)[:, :3].astype(np.uint16) << 8)
    logs = low + steps / 65535 * (high - low)
    quats = pixels("quats")
    largest = np.maximum(quats[:, 3], LARGEST_COMPONENT).astype(np.int64) - LARGEST_COMPONENT
    sh0 = pixels("sh0")
    if version == 2:
        sh_dc, opacities = values("sh0", sh0[:, :3]), LOGITS_OF_BYTES[sh0[:, 3]]
    else:
        sh_dc, opacities = np.split(values("sh0", sh0), [3], axis=1)
        opacities = opacities[:, 0]
    sh_rest = np.zeros((num, 0, 3), np.float32)
    if "shN" in meta:
        centroids = picture("shN", 0, PALETTE_ROW * SH_COEFFICIENTS[3] * (MAX_PALETTE // PALETTE_ROW))
        count = centroids.shape[1] // PALETTE_ROW
        if count not in SH_COEFFICIENTS.values():
            raise InputError(f"{path} is damaged: its palette has {count} harmonics coefficients, not 3, 8 or 15")
        entries = values("shN", centroids[..., :3]).astype(np.float32).reshape(-1, count, 3)
        labels = pixels("shN", 1)[:, :2].astype(np.int32)
        sh_rest = entries[labels[:, 0] + 256 * labels[:, 1]]
    splats = Gaussians(
        np.zeros((num, 3), np.float32),
        from_smallest_three(largest, (quats[:, :3] / 255 - 0.5) * np.sqrt(2)).astype(np.float32),
        values("scales", pixels("scales")[:, :3]),
        opacities.astype(np.float32),
        sh_dc.astype(np.float32),
        sh_rest,
        antialiased=meta.get("antialias") is True or meta.get("model") == "antialiased",
    )
    return splats.at(np.sign(logs) * np.expm1(np.abs(logs)))


def _column(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.reshape(len(values), -1).astype(np.uint8)


def _webp(values: npt.NDArray[Any], width: int, height: int) -> bytes:
    """Encodes bytes `[N, 2 to 4]` as the pixels of a lossless WebP picture, row by row."""
    pixels = np.zeros((width * height, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    content = io.BytesIO()
    # "exact" keeps the colours of transparent pixels, which an encoder may otherwise change.
    image = Image.fromarray(pixels.reshape(height, width, 4))
    image.save(content, "WEBP", lossless=True, exact=True, quality=75, method=4)
    return content.getvalue()


def _pixels(contents: bytes, what: str, most: int) -> UInt8[np.ndarray, "H W 4"]:
    try:
        width, height = _webp_size(contents)
        if width * height > most:
            raise InputError(f"{what} has {width} x {height} pixels, more than the {most:,} it can have: it is damaged")
        with Image.open(io.BytesIO(contents), formats=["WEBP"]) as image:
            if image.size != (width, height):
                raise ValueError("its headers contradict each other")
            return np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise InputError(f"{what} is not a valid WebP picture: {reason(error)}") from error


def _webp_size(contents: bytes) -> tuple[int, int]:
    """Width and height from the header; Pillow reports them only after allocating three times the memory of the pixels.

    The layout: https://developers.google.com/speed/webp/docs/riff_container.
    """
    if contents[:4] != b"RIFF" or contents[8:12] != b"WEBP":
        raise ValueError("it has no WebP header")
    kind = contents[12:16]
    if kind == b"VP8L":  # lossless: 14 bits each, after a byte of signature
        bits = struct.unpack_from("<I", contents, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":  # extended: 24 bits each
        words = struct.unpack_from("<HBHB", contents, 24)
        return words[0] + (words[1] << 16) + 1, words[2] + (words[3] << 16) + 1
    width, height = struct.unpack_from("<2H", contents, 26)  # lossy: two bits of each are a scale
    return width & 0x3FFF, height & 0x3FFF
