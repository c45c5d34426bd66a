# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline for a mesh that is reconstructed from the training photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from img3d_base.atomic_files import writable_cache
from img3d_methods.mvs.model import Img3dMvsModel
from img3d_methods.mvs.presets import PRESETS, MvsPreset, with_options
from img3d_methods.training.datamanager import Img3dDatamanager
from img3d_methods.training.pipeline import Img3dPipeline, Img3dPipelineConfig
from img3d_methods.training.presets import PresetName

if TYPE_CHECKING:
    from img3d_kernels.stereo.views import DepthMap
    from img3d_methods.mvs.photos import MvsPhotos
    from img3d_methods.representation import PhotoWithDepth


@dataclass
class Img3dMvsPipelineConfig(Img3dPipelineConfig):
    """Photos, and how finely they are reconstructed."""

    _target: type = field(default_factory=lambda: Img3dMvsPipeline)
    preset: PresetName = "balanced"
    """Trades time for quality: the size of the photos that are compared (longest side 400, 800 or 1600 pixels), passes
    of refinement, triangles and texture."""
    image_size: int = 0
    """Longest side in pixels of the photos that are compared; 0: the preset's. The texture is made from the photos as
    they are read (--max-image-size of the data parser)."""
    faces: int = 0
    """Maximum number of triangles; 0: the preset's."""
    texture_size: int = 0
    """Width and height of the texture in pixels; 0: the preset's."""

    def resolved(self) -> MvsPreset:
        """The preset with the options that were given instead of its own.

        Raises:
            InputError: An option is out of range.
        """
        return with_options(PRESETS[self.preset], self.image_size, self.faces, self.texture_size)

    def photos_with_depth(self, datamanager: Img3dDatamanager) -> Iterator[PhotoWithDepth]:
        """The training photos with their depth maps from the cache; what is missing there is made again."""
        photos, maps = depth_of_photos(self, datamanager, self.resolved())
        yield from zip(photos.colors, photos.views, maps, strict=True)


class Img3dMvsPipeline(Img3dPipeline):
    """Fills an `Img3dMvsModel` from photos."""

    config: Img3dMvsPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def reconstruct(self) -> None:
        """Makes the mesh, or finishes what an interrupted run began.

        Raises:
            InputError: The photos have too little in common, or an option is out of range.
        """
        from img3d_methods.mvs.reconstruction import cache_of, reconstructed  # late: entry points import this module

        preset = self.config.resolved()
        photos = photos_of(self.datamanager, preset)
        found = reconstructed(photos, preset, cache_of(photos, preset, cache_folder(self.config)))
        cast(Img3dMvsModel, self.model).set_reconstruction(found.mesh, found.cloud, found.background, found.backdrop)


def photos_of(datamanager: Img3dDatamanager, preset: MvsPreset) -> MvsPhotos:
    """The photos that a mesh is made of: not those that are held out."""
    from img3d_methods.mvs.photos import MvsPhotos

    return MvsPhotos(datamanager.train_dataparser_outputs, preset.image_size)


def depth_of_photos(
    config: Img3dPipelineConfig, datamanager: Img3dDatamanager, preset: MvsPreset
) -> tuple[MvsPhotos, list[DepthMap]]:
    """The training photos and their depth maps, from the cache where it has them.

    Args:
        config: Of the pipeline of any method; tells the folder of the cache.
        datamanager: Has the photos.
        preset: Trades time for quality.
    """
    from img3d_methods.mvs.depth_stage import depth_maps  # late: entry points import this module
    from img3d_methods.mvs.reconstruction import cache_of

    photos = photos_of(datamanager, preset)
    return photos, depth_maps(photos, preset, cache_of(photos, preset, cache_folder(config)))


def cache_folder(config: Img3dPipelineConfig) -> Path:
    """The folder for what is kept between runs.

    Raises:
        InputError: No folder can be written.
    """
    datamanager: Any = config.datamanager
    data = datamanager.data if datamanager.data is not None else datamanager.dataparser.data
    cache_dir = getattr(datamanager.dataparser, "cache_dir", None)
    return writable_cache(data if data.is_dir() else data.parent, cache_dir)
