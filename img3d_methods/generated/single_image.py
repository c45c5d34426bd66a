# SPDX-License-Identifier: Apache-2.0
"""`img3d-single-image`: turns one image of an object, or a text, into posed views from all sides, on which any method
can train."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from torch import Tensor

from img3d_base.atomic_files import writable_cache
from img3d_base.console import CONSOLE, print_line
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.pairing import best_view_generator, networks_for
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import row
from img3d_generators.rows import SMALL_GENERATOR
from img3d_generators.zero123plus.samplers import Quality
from img3d_methods.cached_views import object_outputs, square_cameras, writing_views
from img3d_methods.generated.generated_views import (
    are_kept,
    is_views_folder,
    read_given_views,
    view_files,
    write_views,
)
from img3d_methods.generated.options import RenamedGuidanceScale
from img3d_methods.generated.sources import image_of, key_of, needed_prompt
from img3d_methods.generated.visual_hull import points_in_hull

NUM_SEED_POINTS = 10_000
RECIPE = 3
"""Part of the cache key. Increment it with every change that alters the views, so that cached views are made again."""
GREY = 128


@dataclass
class Img3dSingleImageDataParserConfig(RenamedGuidanceScale, DataParserConfig):
    """One image of an object, and how to generate views of its other sides."""

    _target: type = field(default_factory=lambda: Img3dSingleImage)
    data: Path = Path()
    """An image of one object, or a folder of images; or a folder of posed views, which are used as they are. If an
    image's background is neither transparent nor plain, the object is segmented (by rembg if installed, else roughly
    by colour)."""
    index: int = 0
    """Which image of a folder, in the order of their names."""
    generator: str = "auto"
    """The generator of the views. "zero123plus-v1.2", "instantmesh-zero123plus-white" and "zero123plus-v1.1" need
    weights (`img3d-weights list`), are not for commercial use, and take an hour on a CPU; "img3d-small" comes with
    img3d and takes a second, but handles simple objects only. "auto": the best one whose weights are installed."""
    num_steps: int = 28
    """Denoising steps of Zero123++; 75 for fine detail."""
    quality: Quality = "full"
    """Sampler of Zero123++: "full" is the authors'; "fast" is DPM-Solver++ with half of the steps, which takes half the
    time. Its views differ from the authors'."""
    prompt: str = ""
    """The text, for a generator that takes a text instead of an image."""
    guidance_scale: float = 4.0
    """Scale of Zero123++'s classifier-free guidance: how closely it follows the image."""
    seed: int = 0
    """Random seed of the generator's noise."""
    cache_dir: Path | None = None
    """Where to keep the views, which are made only once. Default: .img3d beside the image, or ~/.cache/img3d if that
    is read-only."""


@dataclass
class Img3dSingleImage(DataParser):
    """Makes the views, or finds them in the cache. All views are used both for training and for evaluation.

    Raises InputError if the image cannot be used or weights are missing.
    """

    config: Img3dSingleImageDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dSingleImageDataParserConfig):
        super().__init__(config=config)
        self._folder: Path | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        self._folder = folder = self._folder or self._views_folder()
        views, _, _ = read_given_views(folder)
        size = views.images.shape[-1]
        to_z_up = torch.from_numpy(Y_UP_TO_Z_UP).float()
        scale = 1 / float(views.camera_to_worlds[0, :, 3].norm())  # cameras at distance 1, as Nerfstudio scales poses
        poses = to_z_up[:, :3] @ views.camera_to_worlds
        poses[:, :, 3] *= scale
        metadata: dict[str, Any] = {"views_folder": str(folder)}
        if split == "train":
            points = points_in_hull(views, NUM_SEED_POINTS)
            if len(points) > 0:
                metadata["points3D_xyz"] = scale * points @ to_z_up[:, :3].T
                metadata["points3D_rgb"] = torch.full((len(points), 3), GREY, dtype=torch.uint8)
        return object_outputs(view_files(folder), square_cameras(poses, views.focal, size), metadata, to_z_up, scale)

    def _views_folder(self) -> Path:
        """The folder of the views, which are made unless they are given or cached."""
        config = self.config
        if is_views_folder(config.data):
            return config.data
        generator = self._generator()
        if row(generator).takes == "text":
            source, name, beside = needed_prompt(config.prompt), f'"{config.prompt}"', config.data
        else:
            source = image_of(config.data, config.index)
            name, beside = source.name, source.parent
        folder = writable_cache(beside, config.cache_dir) / f"views-{self._key(source, generator)}"
        if are_kept(folder):
            print_line(f"Views of {name} from the cache {folder}")
            return folder
        views, image = self._generated(source, generator)
        with writing_views(folder):
            write_views(views, image, generator, folder)
        print_line(f"Views of {name}: {len(views)}, kept in {folder}")
        return folder

    def _generator(self) -> str:
        named = self.config.generator
        if named != "auto":
            networks_for(named)  # raises InputError if it makes no views
            return named
        best = best_view_generator()
        if best != SMALL_GENERATOR:
            return best
        CONSOLE.print(
            f"No published weights are installed (see `img3d-weights list`): {best}, which comes with img3d, makes a "
            "rough guess; it handles simple objects only.",
            style="yellow",
            soft_wrap=True,
        )
        return best

    def _key(self, source: Path | str, generator: str) -> str:
        """Cache key of the image or text and everything that its views depend on."""
        config = self.config
        settings = (RECIPE, config.num_steps, config.guidance_scale, config.seed, *self._sampler().values())
        return f"{generator}-{key_of(source, [generator], settings)}"

    def _sampler(self) -> dict[str, str]:
        """The option `quality` if it is not the default, which view generators of other packages need not know."""
        return {} if self.config.quality == "full" else {"quality": self.config.quality}

    def _generated(self, source: Path | str, generator: str) -> tuple[PosedViews, Tensor]:
        # Imported late: diffusers and transformers take seconds to import, and cached views need neither.
        config, maker = self.config, row(generator)
        if maker.gives == "views":
            options = {"num_steps": config.num_steps, "guidance_scale": config.guidance_scale, **self._sampler()}
            return maker.loaded()(source, config.seed, **options)
        from img3d_generators.rendered_views import rendered_views

        return rendered_views(generator, source, config.seed)
