# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run's report: its input, and its renders beside held-out photos."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from PIL import Image
from torch import Tensor

from img3d_base.progress import with_progress
from img3d_base.threaded import in_threads
from img3d_exporters.report.figures import error_map
from img3d_methods.generated.generated_views import INPUT
from img3d_methods.viewing.figures import data_uri
from img3d_pictures.reading import read_upright, resize

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.data.datamanagers.base_datamanager import DataManager
    from nerfstudio.data.datasets.base_dataset import InputDataset
    from nerfstudio.models.base_model import Model

    from img3d_exporters.load_run import Run

THUMBNAIL, COMPARISON = 160, 480
"""Longer sides, in pixels."""
MAX_THUMBNAILS, MAX_COMPARISONS = 24, 8
SECONDS_TO_RENDER = 90.0
"""If rendering all held-out photos would take longer than this, fewer are rendered."""
MIN_RENDERS = 2
"""Minimum number of rendered photos, however long they take."""
METRICS = ("psnr", "ssim", "lpips")
"""Names of the models' metrics; the last one only if its weights are on disk."""


@dataclass
class Picture:
    """A JPEG."""

    uri: str
    """A data URI."""
    width: int
    height: int
    name: str
    """What it shows."""


@dataclass
class Comparison:
    """A photo and the model's render from its camera."""

    name: str
    metrics: dict[str, float]
    """As `ns-eval` measures them, among them "psnr" (dB) and "ssim"."""
    photo: Picture
    render: Picture
    error: Picture
    """The difference, in the colours of `report.figures.error_map`."""


@dataclass
class Comparisons:
    """The comparisons of a run."""

    measured: list[Comparison]
    num_photos: int
    """The number of photos from which they were chosen evenly."""
    held_out: bool
    """Whether training saw none of them."""
    generated: bool
    """Whether they are views generated from one image rather than photos."""

    @property
    def noun(self) -> str:
        """The word for one of them."""
        return "view" if self.generated else "photo"

    def mean(self, metric: str) -> float | None:
        """The mean of a metric; None if it was not measured."""
        values = [comparison.metrics[metric] for comparison in self.measured if metric in comparison.metrics]
        return sum(values) / len(values) if values else None

    def shown(self) -> list[Comparison]:
        """The comparisons to show, at most `MAX_COMPARISONS`."""
        return [self.measured[i] for i in evenly(len(self.measured), MAX_COMPARISONS)]


def evenly(count: int, at_most: int) -> list[int]:
    """Indices of at most `at_most` of `count` items, evenly spaced, including the first and last."""
    return sorted(set(np.linspace(0, count - 1, min(count, at_most)).round().astype(int).tolist()))


# ------------------------------------------------------------------------------------------------ input


def thumbnails(run: Run) -> list[Picture]:
    """Thumbnails of some of the run's photos, chosen evenly; for a generated object, first the input image.

    Raises:
        InputError: A photo cannot be read.
    """
    train, held_out = run.datamanager.train_dataset, run.datamanager.eval_dataset
    assert train is not None
    paths = sorted({*train.image_filenames, *(held_out.image_filenames if held_out is not None else ())})
    paths = [paths[i] for i in evenly(len(paths), MAX_THUMBNAILS)]
    views_folder = train.metadata.get("views_folder")
    if views_folder is not None:
        paths.insert(0, Path(views_folder) / INPUT)
    return in_threads(_thumbnail, paths, "Photos")


def _thumbnail(path: Path) -> Picture:
    return _picture(read_upright(path, THUMBNAIL, alpha_color=(1.0, 1.0, 1.0)), path.name, THUMBNAIL)


def _picture(pixels: UInt8[np.ndarray, "H W 3"], name: str, longest_side: int) -> Picture:
    width, height = _fitting(pixels, longest_side)
    file = io.BytesIO()
    Image.fromarray(resize(pixels, width, height)).save(file, "JPEG", quality=85)
    return Picture(data_uri(file.getvalue(), "image/jpeg"), width, height, name)


def _fitting(pixels: np.ndarray, longest_side: int) -> tuple[int, int]:
    """Width and height of the picture, reduced to this longer side if larger."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest_side / max(width, height))
    return max(1, round(scale * width)), max(1, round(scale * height))


# --------------------------------------------------------------------------------------------------- what it renders


@torch.no_grad()
def compare(run: Run) -> Comparisons:
    """Compares the held-out photos, or, if there are none, training photos with the model's renders.

    Photos and metrics are those of `ns-eval`, which asks the model for both.

    Raises:
        InputError: A photo cannot be read.
    """
    train, dataset = run.datamanager.train_dataset, run.datamanager.eval_dataset
    assert train is not None
    if dataset is None or len(dataset) == 0:
        dataset = train
    views = _views(run.datamanager, dataset)
    began = time.monotonic()
    measured = [_compare(run.model, views(0), dataset.image_filenames[0])]
    seconds = time.monotonic() - began
    _, *others = evenly(len(dataset), max(MIN_RENDERS, int(SECONDS_TO_RENDER / max(seconds, 1e-9))))
    for index in with_progress(others, "Rendering beside photos", len(others)):
        measured.append(_compare(run.model, views(index), dataset.image_filenames[index]))
    held_out = not set(dataset.image_filenames) <= set(train.image_filenames)
    return Comparisons(measured, len(dataset), held_out, generated="views_folder" in train.metadata)


def _views(datamanager: DataManager, dataset: InputDataset) -> Callable[[int], tuple[Cameras, dict[str, Any]]]:
    """A function that returns the camera `[1]` and the photo of an index, as used for evaluating the method."""
    if isinstance(datamanager, FullImageDatamanager):  # undistorts photos and their cameras when reading them
        photos = datamanager.cached_eval if dataset is datamanager.eval_dataset else datamanager.cached_train
        return lambda index: (dataset.cameras[index : index + 1].to(datamanager.device), photos[index])
    return FixedIndicesEvalDataloader(dataset, device=cast(Any, datamanager.device)).get_camera


def _compare(model: Model, view: tuple[Cameras, dict[str, Any]], path: Path) -> Comparison:
    camera, batch = view
    outputs = model.get_outputs_for_camera(camera)
    metrics, images = model.get_image_metrics_and_images(outputs, batch)
    # Nerfstudio's models return the photo, on their background, beside their renders, with the best render last.
    side_by_side = images["img"].cpu()
    width = outputs["rgb"].shape[1]
    photo, render = side_by_side[:, :width].clamp(0, 1), side_by_side[:, -width:].clamp(0, 1)
    error = (photo - render).abs().mean(dim=-1).numpy()
    error = cv2.resize(error, _fitting(error, COMPARISON), interpolation=cv2.INTER_AREA)

    def picture(pixels: Tensor, name: str) -> Picture:
        return _picture((255 * pixels).round().byte().numpy(), name, COMPARISON)

    return Comparison(
        path.name,
        {name: float(metrics[name]) for name in METRICS if name in metrics},
        picture(photo, "photo"),
        picture(render, "render"),
        _picture(error_map(error), "error", COMPARISON),
    )
