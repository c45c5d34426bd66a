# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas's SOG, the smallest: lossless pictures whose pixels are Gaussians, and a JSON text that tells how.

The format: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog/. Version 2 is written, as one
zip file; that and the older one are read, from a zip or from a folder's meta.json. Pillow does the pictures; sogs
(PyPI) writes the older version only, on CUDA only, and gsply only reads.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from PIL import Image

from img3d_assets.quantised import bytes_of, from_smallest_three, levels, logits, smallest_three
from img3d_exporters.formats.palettes import codebook, nearest_codes, palette
from img3d_exporters.morton import morton_order
from img3d_methods.splats import SH_COEFFICIENTS, Splats

META = "meta.json"
LARGEST_COMPONENT = 252
"""A quaternion's alpha channel says which component is largest, from here on."""
PALETTE_ROW, LARGEST_PALETTE = 64, 65536


def write(splats: Splats, file: BinaryIO) -> None:
    """One zip file, neighbours in space one after another."""
    with zipfile.ZipFile(file, "w") as archive:  # stored: the pictures are compressed already
        for name, contents in sog_files(splats[morton_order(splats.means)]).items():
            archive.writestr(zipfile.ZipInfo(name), contents)


def sog_files(splats: Splats, palette_size: int | None = None) -> dict[str, bytes]:
    """Contents by name, the Gaussians in the given order.

    Args:
        splats: At least one, all finite.
        palette_size: Entries for harmonics; None: for each entry one Gaussian or two, and many where there are
            millions, as the format's own program has it.
    """
    width = -(-int(np.ceil(np.sqrt(len(splats)))) // 4) * 4  # multiples of 4, as the format's own program has them
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
            palette_size or min(LARGEST_PALETTE, 2 ** max(10, int(np.log2(len(splats))))),
        )
        codes = codebook(entries)
        rows = -(-len(entries) // PALETTE_ROW)
        centroids = nearest_codes(entries, codes).reshape(-1, 3)  # a pixel is a coefficient, for all three channels
        files["shN_centroids.webp"] = _webp(centroids, PALETTE_ROW * count, rows)
        files["shN_labels.webp"] = picture(labels & 255, labels >> 8)
        meta["shN"] = {
            "count": len(entries),
            "bands": splats.sh_degree,
            "codebook": codes.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
    return {META: json.dumps(meta).encode(), **files}


def read(path: Path) -> Splats:
    """The Gaussians of a bundle, or of the folder whose meta.json it is.

    Raises:
        ValueError: It is another kind of file, or its parts do not fit; or what zipfile, json and Pillow raise.
    """
    if path.suffix == ".json":
        return _splats(lambda name: (path.parent / name).read_bytes(), path.name)
    with zipfile.ZipFile(path) as archive:
        return _splats(archive.read, META)


def _splats(contents: Callable[[str], bytes], meta_name: str) -> Splats:
    meta = json.loads(contents(meta_name))
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise ValueError(f"it has version {version} of the format: 1 and 2 are known")
    num = int(meta["count"] if version == 2 else meta["means"]["shape"][0])

    def pixels(part: str, file: int = 0) -> UInt8[np.ndarray, "N 4"]:
        name = meta[part]["files"][file]
        values = _pixels(contents(name)).reshape(-1, 4)
        if len(values) < num:
            raise ValueError(f"{name} has {len(values)} pixels for {num} Gaussians")
        return values[:num]

    def values(part: str, bytes_: UInt8[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """What the bytes mean: entries of a codebook; in version 1, places between two extremes."""
        if version == 2:
            return np.asarray(meta[part]["codebook"], np.float64)[bytes_]
        low, high = np.asarray(meta[part]["mins"], np.float64), np.asarray(meta[part]["maxs"], np.float64)
        return low + bytes_ / 255 * (high - low)

    low, high = (np.asarray(meta["means"][end], np.float64) for end in ("mins", "maxs"))
    steps = pixels("means")[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    logs = low + steps / 65535 * (high - low)
    quats = pixels("quats")
    largest = np.maximum(quats[:, 3], LARGEST_COMPONENT).astype(np.int64) - LARGEST_COMPONENT
    sh0 = pixels("sh0")
    if version == 2:
        sh_dc, opacities = values("sh0", sh0[:, :3]), logits(sh0[:, 3] / 255)
    else:
        sh_dc, opacities = np.split(values("sh0", sh0), [3], axis=1)
        opacities = opacities[:, 0]
    sh_rest = np.zeros((num, 0, 3), np.float32)
    if "shN" in meta:
        centroids = _pixels(contents(meta["shN"]["files"][0]))
        count = centroids.shape[1] // PALETTE_ROW
        if count not in SH_COEFFICIENTS.values():
            raise ValueError(f"its palette has {count} spherical harmonics coefficients: 3, 8 or 15 make sense")
        entries = values("shN", centroids[..., :3]).astype(np.float32).reshape(-1, count, 3)
        labels = pixels("shN", 1).astype(np.int64)
        sh_rest = entries[labels[:, 0] + 256 * labels[:, 1]]
    return Splats(
        (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32),
        from_smallest_three(largest, (quats[:, :3] / 255 - 0.5) * np.sqrt(2)).astype(np.float32),
        values("scales", pixels("scales")[:, :3]).astype(np.float32),
        opacities.astype(np.float32),
        sh_dc.astype(np.float32),
        sh_rest,
        antialiased=bool(meta.get("antialias", False)),
    )


def _column(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.reshape(len(values), -1).astype(np.uint8)


def _webp(values: npt.NDArray[Any], width: int, height: int) -> bytes:
    """Bytes `[N, 2 to 4]` as the pixels of a lossless picture, row by row."""
    pixels = np.zeros((width * height, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    content = io.BytesIO()
    # "exact" keeps the colours of pixels without opacity, which an encoder may forget.
    image = Image.fromarray(pixels.reshape(height, width, 4))
    image.save(content, "WEBP", lossless=True, exact=True, quality=75, method=4)
    return content.getvalue()


def _pixels(contents: bytes) -> UInt8[np.ndarray, "H W 4"]:
    with Image.open(io.BytesIO(contents)) as image:
        return np.asarray(image.convert("RGBA"))
