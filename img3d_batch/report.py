# SPDX-License-Identifier: Apache-2.0
"""The report of a batch: one HTML page, a row for each item, with pictures of what went in and came out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from img3d_base.errors import InputError, counted
from img3d_base.output_files import written_whole
from img3d_base.progress import duration
from img3d_batch.items import Item
from img3d_batch.work import LOG, PICTURE, Result
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.photo_folders import image_files
from img3d_pictures.reading import read_upright

REPORT, INPUT_PICTURE = "report.html", "input.jpg"
SIDE = 192
STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 1rem auto; max-width: 70rem; padding: 0 1rem;
    color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .5rem; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid #8886; } img { max-width: 12rem; max-height: 9rem; } .failed { color: #c33; }
"""


def write_report(items: Sequence[Item], results: Sequence[Result], folder: Path, seconds: float) -> Path:
    """Writes report.html beside the items' folders.

    Args:
        items: The items.
        results: Their results, in the same order.
        folder: The batch's output folder.
        seconds: How long the batch took.

    Returns:
        Its path.
    """
    rows = "\n".join(_row(item, result, folder) for item, result in zip(items, results, strict=True))
    failed = sum(not result.ok for result in results)
    together = sum(result.seconds for result in results)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>img3d batch</title><style>{STYLE}</style></head><body>
<h1>{counted(len(items), "item")}, {failed} failed</h1>
<p>{duration(seconds)}; the items took {duration(together)} together.</p>
<table><thead><tr><th>Item</th><th>From</th><th>Made</th><th>Time</th><th>Memory</th><th>Files</th></tr></thead>
<tbody>
{rows}
</tbody></table></body></html>
"""
    path = folder / REPORT
    with written_whole(path) as temporary:
        temporary.write_text(page, "utf8")
    return path


def _row(item: Item, result: Result, folder: Path) -> str:
    own = quote(item.name)
    source = f"<q>{html.escape(item.text)}</q>" if item.text else ""
    if _input_picture(item, folder / item.name):
        source += f'<img src="{own}/{INPUT_PICTURE}" alt="The first picture of {html.escape(item.name)}">'
    made = f'<img src="{own}/{PICTURE}" alt="A turn around {html.escape(item.name)}">' if result.ok else ""
    if not result.ok:
        made = f'<span class="failed">{html.escape(result.message)}</span>'
    links = [*(name for name in result.files if name != PICTURE), LOG]
    files = "<br>".join(f'<a href="{own}/{quote(name)}">{html.escape(name)}</a>' for name in links)
    cells = (
        f"<strong>{html.escape(item.name)}</strong><br>{html.escape(item.method)}",
        *(source, made, duration(result.seconds), f"{result.peak_gb:.1f} GB", files),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _input_picture(item: Item, folder: Path) -> bool:
    """Whether there is a small picture of the input in the item's folder; makes it if possible."""
    path = folder / INPUT_PICTURE
    if path.is_file():
        return True
    if item.data is None or not item.data.exists():
        return False
    photos = image_files(item.data) if item.data.is_dir() else [item.data]
    for photo in photos:
        if photo.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        try:
            pixels = np.asarray(read_upright(photo, SIDE, alpha_color=(1.0, 1.0, 1.0)))
        except InputError:
            continue
        with written_whole(path) as temporary:
            Image.fromarray(pixels[..., :3]).save(temporary, "JPEG", quality=85)
        return True
    return False
