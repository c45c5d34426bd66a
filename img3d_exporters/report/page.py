# SPDX-License-Identifier: Apache-2.0
"""Renders a report as one self-contained HTML page, which loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from img3d_exporters.report.figures import MAX_ERROR, error_scale
from img3d_exporters.report.pictures import MAX_COMPARISONS, Comparison, Comparisons, Picture

STYLE = Path(__file__).parent / "report.css"


@dataclass
class Figure:
    """A diagram."""

    title: str
    uri: str
    """A data URI."""
    caption: str


@dataclass
class SizeTable:
    """A table of file sizes."""

    title: str
    sizes: Mapping[str, int | None]
    """Bytes by name; None if not measured."""
    caption: str


@dataclass
class Report:
    """The content of a report. Sections with empty lists are omitted."""

    title: str
    method: str
    data: str
    """Name of the data's folder or file; empty if unknown."""
    finished: datetime
    """When the checkpoint was saved."""
    facts: dict[str, str]
    """Formatted values by name."""
    comparisons: Comparisons
    gap: str | None
    """The message about a large gap between held-out and training photos, if any."""
    scene: list[Figure]
    curve: list[Figure]
    without_curve: str
    """The message if there is no curve."""
    gaussians: list[Figure]
    sizes: list[SizeTable]
    thumbnails: list[Picture]
    num_photos: tuple[int, int]
    """Numbers of training and held-out photos."""
    versions: dict[str, str]
    """Versions of the programs that made the page, by name."""


def page(report: Report) -> str:
    """The HTML of the page."""
    parts = [
        _header(report),
        _comparisons(report.comparisons, report.gap),
        _figures("Where everything is", report.scene),
        _figures("How training went", report.curve) or _section("How training went", f"<p>{report.without_curve}</p>"),
        _figures("What the Gaussians are like", report.gaussians),
        _sizes(report.sizes),
        _thumbnails(report),
    ]
    versions = ", ".join(f"{escape(name)} {escape(number)}" for name, number in report.versions.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="generator" content="img3d-export report">
<title>{escape(report.title)}: report</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
{"".join(parts)}
<footer>Made by img3d-export report with {versions}.</footer>
</body>
</html>
"""


def _header(report: Report) -> str:
    training, held_out = report.num_photos
    photos = f"{training:,}" if held_out == 0 else f"{training:,} + {held_out:,}"
    facts = {
        **_means(report.comparisons),
        **report.facts,
        f"{report.comparisons.noun}s" if held_out == 0 else "photos + held out": photos,
    }
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    source = f" · from {escape(report.data)}" if report.data else ""
    return f"""<header>
<h1>{escape(report.title)}</h1>
<p>{escape(report.method)}{source} · {report.finished.day} {report.finished:%B %Y, %H:%M}</p>
<dl>{tiles}</dl>
</header>
"""


def _means(comparisons: Comparisons) -> dict[str, str]:
    psnr, ssim = comparisons.mean("psnr"), comparisons.mean("ssim")
    of = "held out" if comparisons.held_out else "trained on"
    means = {}
    if psnr is not None:
        means[f"PSNR, {of}"] = f"{psnr:.2f} dB"
    if ssim is not None:
        means[f"SSIM, {of}"] = f"{ssim:.3f}"
    return means


# ------------------------------------------------------------------------------------------------- renders and photos


def _comparisons(comparisons: Comparisons, gap: str | None) -> str:
    shown, measured = comparisons.shown(), comparisons.measured
    total, noun = comparisons.num_photos, comparisons.noun
    beside = "beside the model's renders from the same viewpoint"
    text = _count(len(shown), total, noun)
    if comparisons.held_out:
        text += f" that training never saw, {beside}."
    elif comparisons.generated:
        text += f" that a network generated from one image, {beside}. The metrics tell how closely it matches them."
    else:
        text += f" that training saw, {beside}: none was held out, and from other viewpoints renders may be worse."
    if len(measured) < total:
        text += f" Since rendering is slow here, only {len(measured)} were measured."
    rows = "".join(_comparison(comparison, noun) for comparison in shown)
    note = "" if gap is None else f"<p><strong>{escape(gap)}</strong></p>"
    return _section(f"Renders beside {noun}s", f"<p>{text}</p>{note}{_error_legend()}{rows}{_table(measured, noun)}")


def _count(shown: int, total: int, noun: str) -> str:
    if total == 1:
        return f"The one {noun}"
    return f"{shown} of {total:,} {noun}s" if shown < total else f"All {total:,} {noun}s"


def _comparison(comparison: Comparison, noun: str) -> str:
    pictures = {noun: comparison.photo, "render": comparison.render, "error": comparison.error}
    cells = "".join(
        f"<figure>{_image(picture, f'{what}: {comparison.name}')}<figcaption>{what}</figcaption></figure>"
        for what, picture in pictures.items()
    )
    numbers = "".join(f"<span>{_metric(name, value)}</span>" for name, value in comparison.metrics.items())
    return f"<article>{cells}<p><b>{escape(comparison.name)}</b>{numbers}</p></article>"


def _error_legend() -> str:
    stops = ", ".join(f"rgb{color}" for color in error_scale())
    levels = round(255 * MAX_ERROR)
    return (
        f'<div class="legend"><span>Error: 0</span><i style="background:linear-gradient(90deg, {stops})"></i>'
        f"<span>≥ {MAX_ERROR:g} ({levels} of 255 levels), mean of red, green and blue</span></div>"
    )


def _table(measured: Sequence[Comparison], noun: str) -> str:
    names = list(measured[0].metrics)
    head = "".join(f"<th>{_METRIC_NAMES[name]}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td>{''.join(f'<td>{_number(n, each.metrics[n])}</td>' for n in names)}</tr>"
        for each in measured
    )
    opened = " open" if len(measured) > MAX_COMPARISONS else ""
    return (
        f"<details{opened}><summary>Measurements: {len(measured)}</summary>"
        f'<table class="metrics"><tr><th>{noun}</th>{head}</tr>{rows}</table></details>'
    )


_METRIC_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}


def _number(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric == "psnr" else f"{value:.3f}"


def _metric(metric: str, value: float) -> str:
    return f"{metric.upper()} {_number(metric, value)}{' dB' if metric == 'psnr' else ''}"


# ------------------------------------------------------------------------------------------------------------- others


def _figures(title: str, figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    cells = "".join(
        f'<figure><h3>{escape(figure.title)}</h3><img src="{figure.uri}" alt="{escape(figure.title)}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in figures
    )
    return _section(title, f'<div class="figures">{cells}</div>')


def _sizes(tables: Sequence[SizeTable]) -> str:
    return _section("Files", f'<div class="tables">{"".join(map(_size_table, tables))}</div>')


def _size_table(table: SizeTable) -> str:
    largest = max((size or 0 for size in table.sizes.values()), default=0) or 1
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_readable(size)}</td>"
        f'<td><i style="width:{100 * (size or 0) / largest:.1f}%"></i></td></tr>'
        for name, size in table.sizes.items()
    )
    return (
        f"<figure><h3>{escape(table.title)}</h3><table>{rows}</table>"
        f"<figcaption>{escape(table.caption)}</figcaption></figure>"
    )


def _readable(size: int | None) -> str:
    if size is None:
        return "not measured"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _thumbnails(report: Report) -> str:
    pictures = "".join(_image(picture, picture.name) for picture in report.thumbnails)
    total = sum(report.num_photos)
    if report.comparisons.generated:
        text = f"First the image. {_count(len(report.thumbnails) - 1, total, 'view')} that a network generated from it."
    else:
        text = f"{_count(len(report.thumbnails), total, 'photo')}."
    return _section("Input", f'<p>{text}</p><div class="thumbnails">{pictures}</div>')


def _section(title: str, contents: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{contents}</section>\n"


def _image(picture: Picture, name: str) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="{picture.uri}" {size} alt="{escape(name)}" title="{escape(name)}">'
