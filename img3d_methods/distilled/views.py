# SPDX-License-Identifier: Apache-2.0
"""`img3d-distilled`: the data of an object that a guidance shapes: one image with its camera, or only the cameras that
show the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig, DataparserOutputs
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_base.atomic_files import remove, writable_cache
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.rows import guidance_row
from img3d_generators.image_preparation import prepared_image
from img3d_generators.posed_views import PosedViews
from img3d_methods.cached_views import check_views, directions_around, writing_views
from img3d_methods.distilled.options import camera_of
from img3d_methods.generated.generated_views import TRANSFORMS, write_views
from img3d_methods.generated.single_image import Img3dSingleImage
from img3d_methods.generated.sources import image_of

NUM_SHOWN = 16
"""Number of views of a result without an image."""


@dataclass
class Img3dDistilledDataParserConfig(DataParserConfig):
    """An image and its camera, or only the cameras that show the result. The pipeline sets what is not an option of the
    user's."""

    _target: type = field(default_factory=lambda: Img3dDistilled)
    data: Path = Path()
    """An image of one object, or a folder of images; not needed for a text."""
    index: int = 0
    """Which image of a folder, in the order of their names."""
    view_size: int = 256
    """Width and height of the views on which the object is shaped, in pixels. The first steps see smaller ones."""
    cache_dir: Path | None = None
    """Where to keep the views. Default: .img3d beside the image, or ~/.cache/img3d if that is read-only."""
    guidance: str = ""
    """The name of the guidance; the pipeline sets it."""
    elevation: float = 0.0
    """Elevation of the image's camera in degrees; the pipeline sets it."""
    run: str = ""
    """Distinguishes runs without an image; the pipeline sets it."""


class Img3dDistilled(Img3dSingleImage):
    """Frames the image, or makes empty views, which the run's own renders replace when it is finished.

    Raises InputError if the image cannot be used.
    """

    config: Img3dDistilledDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        for name in ("points3D_xyz", "points3D_rgb"):  # one silhouette says nothing of depth
            outputs.metadata.pop(name, None)
        return outputs

    def _views_folder(self) -> Path:
        config = self.config
        check_views(NUM_SHOWN, config.view_size, min_views=1)
        camera = camera_of(config.guidance)
        if not config.guidance or guidance_row(config.guidance).shows != "image":
            folder = writable_cache(config.data, config.cache_dir) / f"distilled-{config.run}-{config.view_size}"
            if not (folder / TRANSFORMS).is_file():
                write_result(empty_views(camera.fov, camera.radius, config.view_size), folder)
            return folder
        file = image_of(config.data, config.index)
        image = prepared_image(file, camera.border_ratio)
        digest = hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16]
        name = f"given-{config.guidance}-{digest}-{config.elevation:g}-{config.view_size}"
        folder = writable_cache(file.parent, config.cache_dir) / name
        if not (folder / TRANSFORMS).is_file():
            with writing_views(folder):
                write_views(given_view(image, config, camera.fov, camera.radius), image, config.guidance, folder)
        return folder


def given_view(
    image: Float[Tensor, "4 S S"], config: Img3dDistilledDataParserConfig, fov: float, radius: float
) -> PosedViews:
    """The image as a view, in the size of the run's views."""
    premultiplied = torch.cat([image[:3] * image[3:], image[3:]])[None]
    size = (config.view_size, config.view_size)
    seen = torch.nn.functional.interpolate(
        premultiplied, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    seen = seen.clamp(0, 1)
    pose = orbit_camera_to_worlds((0.0,), (config.elevation,), radius)
    return PosedViews((seen[:, :3] + 1 - seen[:, 3:]).clamp(0, 1), pose, fov, seen[:, 3:])


def empty_views(fov: float, radius: float, size: int) -> PosedViews:
    """Blank views from all around."""
    poses = orbit_camera_to_worlds(*directions_of_result(), radius)
    return PosedViews(torch.ones(NUM_SHOWN, 3, size, size), poses, fov, torch.zeros(NUM_SHOWN, 1, size, size))


def directions_of_result() -> tuple[list[float], list[float]]:
    """Azimuths and elevations, in degrees, of the views of a result without an image."""
    return directions_around(NUM_SHOWN)


def write_result(views: PosedViews, folder: Path) -> None:
    """Replaces the views in a folder by those of the result.

    Raises:
        InputError: They cannot be written.
    """
    assert views.alphas is not None
    first = torch.cat([without_white(views.images, views.alphas), views.alphas], dim=1)[0]
    with writing_views(folder):
        if folder.exists():
            remove(folder)
        write_views(views, first, "", folder)
