# SPDX-License-Identifier: Apache-2.0
"""Data parsers of generated assets: renders from all sides are a data set, on which any method can train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.pairing import VIEW_OF_TEXT, input_of
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import Generator, InputView, row
from img3d_methods.cached_views import check_views, directions_around, writing_views
from img3d_methods.generated.generated_asset import AssetFiles, GeneratedAssetOptions, Source, found_or_made, origin_of
from img3d_methods.generated.generated_views import are_kept, write_views
from img3d_methods.generated.single_image import Img3dSingleImage

A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)


@dataclass
class AssetViewsConfig(GeneratedAssetOptions, DataParserConfig):
    """The input of a generator, and the views of the asset that it makes."""

    num_views: int = 17
    """Number of views from all around. One of them is the input image if the asset faces its camera."""
    view_size: int = 256
    """Width and height of a view, in pixels."""
    cache_dir: Path | None = None
    """Where to keep the asset and the views, which are made only once. Default: .img3d beside the image, or
    ~/.cache/img3d if that is read-only."""


class Renderer(Protocol[A_contra]):
    """Renders assets of one kind."""

    def __call__(
        self, made: A_contra, poses: Float[Tensor, "V 3 4"], camera: InputView, size: int
    ) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
        """Renders of the asset on white, and their alpha.

        Args:
            made: The asset.
            poses: OpenGL axes, in the asset's world.
            camera: The field of view.
            size: Width and height in pixels.
        """
        ...


class AssetViews(Img3dSingleImage, Generic[A]):
    """Generates the asset and renders its views, or finds them in the cache.

    Raises InputError if the input cannot be used or weights are missing.
    """

    config: AssetViewsConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    files: AssetFiles[A]
    """How assets of this kind are stored. The recipe also identifies the views."""
    render: Renderer[A]
    """A static method that renders assets of this kind."""

    def __init__(self, config: AssetViewsConfig) -> None:
        super().__init__(config)  # pyright: ignore[reportArgumentType]
        self._asset: A | None = None

    def made(self) -> A:
        """The asset, once the outputs have been generated."""
        assert self._asset is not None
        return self._asset

    def _views_folder(self) -> Path:
        """The folder of the asset's views, which are made unless they are cached; also finds or makes the asset."""
        config = self.config
        check_views(config.num_views, config.view_size, min_views=2)
        origin = origin_of(config, config.cache_dir, self.files.recipe)
        self._asset = found_or_made(config, origin, self.files)
        name = origin.generator
        folder = origin.cache / f"{self.files.name}-views-{name}-{origin.key}-{config.num_views}-{config.view_size}"
        if are_kept(folder):
            return folder
        views, image = self._looked_at(row(name), origin.source)
        with writing_views(folder):
            write_views(views, image, name, folder)
        return folder

    def _looked_at(self, generator: Generator, source: Source) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
        """The views, on white and with alpha; and the prepared input image, or the first view."""
        config = self.config
        camera = VIEW_OF_TEXT if generator.takes == "views" else input_of(generator)
        azimuths, elevations = directions_around(config.num_views - 1)
        poses = orbit_camera_to_worlds((0, *azimuths), (0, *elevations), camera.radius)
        image = None
        if generator.takes == "image" and generator.load and generator.is_aligned:
            from img3d_generators.inputs import prepared_input

            assert isinstance(source, str)
            image = prepared_input(generator, Path(source))
        size = config.view_size
        if image is None:
            rgb, alpha = self.render(self.made(), poses, camera, size)
            return PosedViews(rgb, poses, camera.fov, alpha), torch.cat([without_white(rgb, alpha), alpha], dim=1)[0]
        premultiplied = torch.cat([image[:3] * image[3:], image[3:]])[None]
        seen = torch.nn.functional.interpolate(
            premultiplied, size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
        rgb, alpha = self.render(self.made(), poses[1:], camera, size)
        pictures = torch.cat([seen[:, :3] + 1 - seen[:, 3:], rgb]).clamp(0, 1)
        return PosedViews(pictures, poses, camera.fov, torch.cat([seen[:, 3:], alpha]).clamp(0, 1)), image
