# SPDX-License-Identifier: Apache-2.0
"""`img3d-export report`: collects the content of a run's report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_files import FORMATS, PLY, write_splats
from img3d_base import output_files
from img3d_base.errors import InputError
from img3d_base.output_files import written_whole
from img3d_base.progress import duration, with_progress
from img3d_exporters.load_run import Run
from img3d_exporters.report.curve import training_curve
from img3d_exporters.report.figures import histogram, scene_view
from img3d_exporters.report.page import Figure, Report, SizeTable, page
from img3d_exporters.report.pictures import Comparisons, compare, thumbnails
from img3d_exporters.report.scene import Side, plan, splats_of_points
from img3d_methods.representation import trained_steps
from img3d_methods.training.checkpoint_files import checkpoint_path
from img3d_methods.training.curve import CurvePoint
from img3d_methods.training.held_out_gap import gap_message, training_psnr
from img3d_methods.viewing.curve_figures import gaussians_curve, loss_curve, psnr_curve

ENDINGS = (".html", ".htm")
MAX_THINNESS = 1000
"""Ratio of axes above which differences are invisible."""
WITHOUT_CURVE = "This run has no record of it: neither a training_curve.csv nor Tensorboard events."
WITHOUT_TRAINING = "This run was not trained: it is shown as generated or read."
SLOW, MAX_FOR_SLOW = ".sog", 300_000
"""A format whose palettes take half a minute for this many Gaussians; it is not written for more just to be
measured."""


def check_output(path: Path, force: bool) -> None:
    """Raises InputError if the report may not be written, before any slow work."""
    output_files.check_output(path, ENDINGS, "a report", force)


def write_report(run: Run, path: Path) -> None:
    """Writes the page, whole or not at all; it needs no other file and no network.

    Raises:
        InputError: A photo of the run cannot be read, or the page cannot be written.
    """
    contents = page(report_of(run)).encode()
    with written_whole(path) as temporary:
        temporary.write_bytes(contents)


def report_of(run: Run) -> Report:
    """Collects the content of the page.

    Args:
        run: The run, loaded with test_mode "test".

    Raises:
        InputError: A photo of the run cannot be read.
    """
    config, folder = run.config, run.config.get_base_dir()
    train = run.datamanager.train_dataset
    assert train is not None
    try:
        comparisons, pictures = compare(run), thumbnails(run)
    except OSError as error:
        raise InputError(f"A photo of this run cannot be read: {error}.") from error
    splats = _splats(run)
    curve = training_curve(folder)
    saved = checkpoint_path(config.get_checkpoint_dir(), run.step)
    data = config.pipeline.datamanager.data
    held_out = comparisons.mean("psnr") if comparisons.held_out else None
    trained_on = training_psnr(curve, max(_doublings(run), default=0))
    return Report(
        title=run.name,
        method=config.method_name or type(run.model).__name__,
        data=data.name if data is not None else "",
        finished=datetime.fromtimestamp(saved.stat().st_mtime),
        facts=_facts(run, splats, curve),
        comparisons=comparisons,
        gap=None if held_out is None else gap_message(trained_on, held_out, len(train)),
        scene=_scene_figures(run, splats, comparisons.held_out),
        curve=_curve_figures(run, curve, comparisons),
        without_curve=WITHOUT_CURVE if _num_steps(run) else WITHOUT_TRAINING,
        gaussians=_gaussian_figures(splats) if splats is not None else [],
        sizes=[_files(folder)] if splats is None else [_files(folder), _exports(splats)],
        thumbnails=pictures,
        num_photos=(len(train), comparisons.num_photos if comparisons.held_out else 0),
        versions={name: version(name) for name in ("img3d", "nerfstudio", "torch")},
    )


def _splats(run: Run) -> Gaussians | None:
    """The visible Gaussians; None for other methods."""
    asset = run.representation.asset()
    if not isinstance(asset, Gaussians):
        return None
    splats = asset.visible()
    return splats if len(splats) > 0 else None


def _facts(run: Run, splats: Gaussians | None, curve: Sequence[CurvePoint]) -> dict[str, str]:
    """Key figures of the run, by name."""
    facts = {}
    if splats is not None:
        facts["Gaussians"] = f"{len(splats):,}"
    facts["training steps"] = f"{_num_steps(run):,}"
    if curve:
        facts["training time"] = duration(curve[-1].seconds)
    return facts


def _num_steps(run: Run) -> int:
    return trained_steps(run.config, run.step)


# --------------------------------------------------------------------------------------------------------- diagrams


def _scene_figures(run: Run, splats: Gaussians | None, held_out: bool) -> list[Figure]:
    train, others = run.datamanager.train_dataset, run.datamanager.eval_dataset
    assert train is not None
    other_cameras = others.cameras if held_out and others is not None else None
    groups = [train.cameras] if other_cameras is None else [train.cameras, other_cameras]
    centers = np.concatenate([cameras.camera_to_worlds[:, :3, 3].cpu().numpy() for cameras in groups])
    if splats is not None:
        drawn, shown = splats, "The Gaussians, and the cameras"
    else:
        drawn = _seed_points(train.metadata)
        shown = "The cameras" if drawn is None else "The seed points of the data, and the cameras"

    def view(title: str, side: Side, caption: str, nearest: str) -> Figure:
        scene = plan(side, drawn, centers)
        cut = f" Everything {nearest} is cut away." if scene.cut else ""
        return Figure(title, scene_view(side, scene, train.cameras, other_cameras), f"{caption}{cut}")

    units = f"A unit of the axes is {1 / run.dataparser_scale:.3g} of the original poses'."
    return [
        view("From above", "above", f"{shown}; pyramids open in the viewing direction. {units}", "above all cameras"),
        view("From the side", "side", "The same from −y, with z up, without distant parts.", "in front of all cameras"),
    ]


def _seed_points(metadata: dict[str, Any]) -> Gaussians | None:
    """The points of structure from motion, if the data parser read them."""
    positions, colors = metadata.get("points3D_xyz"), metadata.get("points3D_rgb")
    if positions is None or colors is None or len(positions) == 0:
        return None
    return splats_of_points(positions.cpu().numpy(), colors.cpu().numpy() / 255)


def _curve_figures(run: Run, curve: Sequence[CurvePoint], comparisons: Comparisons) -> list[Figure]:
    if len(curve) < 2:
        return []
    doublings = [step for step in _doublings(run) if step <= curve[-1].step]
    held_out = comparisons.mean("psnr") if comparisons.held_out else None
    dotted = " Dotted: steps from which training images have twice the size." if doublings else ""
    figures = [
        Figure(
            "Training PSNR",
            psnr_curve(curve, held_out, doublings),
            f"Higher is better. Dots: single training photos; line: their running mean.{dotted}",
        ),
        Figure(
            "Loss", loss_curve(curve, doublings), "The quantity that training minimises; dots and line as for PSNR."
        ),
    ]
    if any(point.gaussians for point in curve):
        figures.append(
            Figure("Number of Gaussians", gaussians_curve(curve), "Splitting adds Gaussians, pruning removes them.")
        )
    return figures


def _doublings(run: Run) -> list[int]:
    """Steps from which training images have twice the size."""
    return run.representation.resolution_doublings(run.config.max_num_iterations)


def _gaussian_figures(splats: Gaussians) -> list[Figure]:
    scales = np.exp(splats.log_scales.astype(np.float64))
    sizes, alphas = np.exp(splats.log_scales.astype(np.float64).mean(axis=1)), splats.alphas()
    thinness = scales.max(axis=1) / np.maximum(scales.min(axis=1), scales.max(axis=1) / MAX_THINNESS)
    rest = (
        f" The last bar contains everything from {MAX_THINNESS:,} up." if thinness.max() > 0.99 * MAX_THINNESS else ""
    )
    return [
        Figure(
            "Size",
            histogram(sizes, "size (units of the run)", logarithmic=True),
            f"Geometric mean of each Gaussian's three standard deviations; dashed: the median, {np.median(sizes):.2g}.",
        ),
        Figure(
            "Opacity",
            histogram(alphas, "opacity", logarithmic=False),
            f"0 is transparent, 1 is opaque; dashed: the median, {np.median(alphas):.2f}. Invisible ones are omitted.",
        ),
        Figure(
            "Shape",
            histogram(thinness, "longest axis ÷ shortest", logarithmic=True),
            f"1 is a ball, a large value a disc or needle; dashed: the median, {np.median(thinness):.1f}.{rest}",
        ),
    ]


# ------------------------------------------------------------------------------------------------------------ sizes


def _files(folder: Path) -> SizeTable:
    """Sizes of the files and folders in the run's folder."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    sizes = {
        f"{path.name}/" if path.is_dir() else path.name: sum(
            file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
        )
        for path in entries
    }
    return SizeTable(
        "In the run's folder", sizes, "To continue or export the run, keep config.yml and nerfstudio_models/."
    )


def _exports(splats: Gaussians) -> SizeTable:
    """Sizes of the splats in each format."""
    endings = [PLY, *FORMATS]
    tried = [ending for ending in endings if ending != SLOW or len(splats) <= MAX_FOR_SLOW]
    sizes: dict[str, int | None] = dict.fromkeys(endings)
    with tempfile.TemporaryDirectory() as folder:
        for ending in with_progress(tried, "Sizes of exports", len(tried)):
            path = Path(folder) / f"splats{ending}"
            write_splats(splats, path, "z")
            sizes[ending] = path.stat().st_size
            path.unlink()
    caption = (
        f"The {len(splats):,} visible Gaussians, with spherical harmonics of degree {splats.sh_degree}. These files "
        "were written only to be measured, and not kept."
    )
    if len(tried) < len(endings):
        caption += f" A {SLOW} of so many takes minutes and was not measured."
    return SizeTable("As img3d-export splat writes them", dict(sorted(sizes.items(), key=_by_size)), caption)


def _by_size(item: tuple[str, int | None]) -> int:
    return -(item[1] or 0)
