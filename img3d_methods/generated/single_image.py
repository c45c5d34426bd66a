# SPDX-License-Identifier: Apache-2.0
"""`img3d-single-image`: turns one image of an object into posed views from all sides, on which any method can train."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from img3d_base.atomic_files import writable_cache
from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, warn
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.checkpoints import checkpoint
from img3d_generators.pairing import best_view_generator, networks_for
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import row
from img3d_generators.rows import OWN_GENERATOR
from img3d_methods.cached_views import writing_views
from img3d_methods.generated.generated_views import read_views, write_views
from img3d_methods.generated.visual_hull import points_in_hull

NUM_SEED_POINTS = 10_000
RECIPE = 3
"""Part of the cache key. Increment it with every change that alters the views, so that cached views are made again."""
GREY = 128
READ_ERRORS = (OSError, ValueError, KeyError, TypeError)


@dataclass
class Img3dSingleImageDataParserConfig(DataParserConfig):
    """One image of an object, and how to generate views of its other sides."""

    _target: type = field(default_factory=lambda: Img3dSingleImage)
    data: Path = Path()
    """An image of one object, or a folder of images. If the background is neither transparent nor plain, the object
    is segmented (by rembg if installed, else roughly by colour)."""
    index: int = 0
    """Which image of a folder, in the order of their names."""
    generator: str = "auto"
    """The generator of the views. "zero123plus-v1.2", "instantmesh-zero123plus-white" and "zero123plus-v1.1" need
    weights (`img3d-weights list`), are not for commercial use, and take an hour on a CPU; "img3d-tiny" comes with
    img3d and takes a second, but handles simple objects only. "auto": the best one whose weights are installed."""
    num_steps: int = 28
    """Denoising steps of Zero123++; 75 for fine detail."""
    guidance: float = 4.0
    """Guidance scale: how closely Zero123++ follows the image."""
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
        views, _, _ = read_views(folder)
        size, count = views.images.shape[-1], len(views)
        to_z_up = torch.from_numpy(Y_UP_TO_Z_UP).float()
        scale = 1 / float(views.camera_to_worlds[0, :, 3].norm())  # cameras at distance 1, as Nerfstudio scales poses
        poses = to_z_up[:, :3] @ views.camera_to_worlds
        poses[:, :, 3] *= scale
        metadata: dict[str, Any] = {"alpha_color": torch.ones(3), "views_folder": str(folder)}
        if split == "train":
            points = points_in_hull(views, NUM_SEED_POINTS)
            if len(points) > 0:
                metadata["points3D_xyz"] = scale * points @ to_z_up[:, :3].T
                metadata["points3D_rgb"] = torch.full((len(points), 3), GREY, dtype=torch.uint8)
        return DataparserOutputs(
            image_filenames=[folder / "images" / f"view_{i}.png" for i in range(count)],
            cameras=Cameras(
                camera_to_worlds=poses,
                fx=views.focal,
                fy=views.focal,
                cx=size / 2,
                cy=size / 2,
                width=size,
                height=size,
                camera_type=CameraType.PERSPECTIVE,
                metadata={},  # not None: `ns-export cameras` writes into it
            ),
            alpha_color=torch.ones(3),
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            metadata=metadata,
            dataparser_transform=to_z_up,
            dataparser_scale=scale,
        )

    def _views_folder(self) -> Path:
        """The folder of the image's views, which are made unless they are cached."""
        from img3d_generators.image_preparation import single_images

        config = self.config
        images = single_images(config.data)
        if not 0 <= config.index < len(images):
            raise InputError(f"--index is {config.index}, but {config.data} has images 0 to {len(images) - 1}")
        path = images[config.index]
        generator = self._generator()
        folder = writable_cache(path.parent, config.cache_dir) / f"views-{self._key(path, generator)}"
        if folder.is_dir():
            try:
                read_views(folder)
            except READ_ERRORS as error:
                warn(f"{folder} is damaged ({error or type(error).__name__}); its views are made anew")
                shutil.rmtree(folder)
            else:
                print_line(f"Views of {path.name} from the cache {folder}")
                return folder
        views, image = self._generated(path, generator)
        with writing_views(folder):
            write_views(views, image, generator, folder)
        print_line(f"Views of {path.name}: {len(views)}, kept in {folder}")
        return folder

    def _generator(self) -> str:
        named = self.config.generator
        if named != "auto":
            networks_for(named)  # raises InputError if it makes no views
            return named
        best = best_view_generator()
        if best != OWN_GENERATOR:
            return best
        CONSOLE.print(
            "No published weights are installed (see `img3d-weights list`): img3d-tiny, which comes with img3d, "
            "makes a rough guess; it handles simple objects only.",
            style="yellow",
            soft_wrap=True,
        )
        return best

    def _key(self, path: Path, generator: str) -> str:
        """Cache key of the image and everything that its views depend on."""
        from img3d_pictures.background import rembg_is_installed

        config = self.config
        try:
            digest = hashlib.sha256(path.read_bytes())
            digest.update(repr((RECIPE, rembg_is_installed())).encode())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        files = [checkpoint(name).files for name in row(generator).checkpoints]
        digest.update(repr((files, config.num_steps, config.guidance, config.seed)).encode())
        return f"{generator}-{digest.hexdigest()[:16]}"

    def _generated(self, path: Path, generator: str) -> tuple[PosedViews, Tensor]:
        # Imported late: diffusers and transformers take seconds to import, and cached views need neither.
        config, maker = self.config, row(generator)
        if maker.gives == "views":
            return maker.loaded()(path, config.seed, num_steps=config.num_steps, guidance=config.guidance)
        from img3d_generators.rendered_views import rendered_views

        return rendered_views(generator, path, config.seed)
