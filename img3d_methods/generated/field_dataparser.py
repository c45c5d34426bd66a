# SPDX-License-Identifier: Apache-2.0
"""`img3d-generated-field`: the field that a generator makes of an image, views or a text, with renders of it from all
sides, on which any method can train."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.fields.triplane_files import ENDING, read_triplane, write_triplane
from img3d_base.errors import warn
from img3d_base.progress import with_progress
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.pairing import VIEW_OF_TEXT, input_of
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import Generator, InputView, row
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import check_views, directions_around, square_cameras, writing_views
from img3d_methods.generated.generated_asset import AssetFiles, GeneratedAssetOptions, found_or_made, origin_of
from img3d_methods.generated.generated_views import READ_ERRORS, read_views, write_views
from img3d_methods.generated.single_image import Img3dSingleImage

FIELD_FILES = AssetFiles(
    TriplaneField, "field", "a triplane", ENDING, read_triplane, write_triplane, told=lambda _: "Field", recipe=2
)
"""The recipe stands for the views, too."""


@dataclass
class Img3dGeneratedFieldDataParserConfig(GeneratedAssetOptions, DataParserConfig):
    """What a field is generated from, and how to look at it."""

    _target: type = field(default_factory=lambda: Img3dGeneratedField)
    num_views: int = 17
    """Number of views: the image itself, if the generator looks at one, and renders from all around."""
    view_size: int = 256
    """Width and height of a view, in pixels."""
    cache_dir: Path | None = None
    """Where to keep the field and the views, which are made only once. Default: .img3d beside the image, or
    ~/.cache/img3d if that is read-only."""


class Img3dGeneratedField(Img3dSingleImage):
    """Generates the field and renders its views, or finds them in the cache.

    Raises InputError if the input cannot be used or weights are missing.
    """

    config: Img3dGeneratedFieldDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dGeneratedFieldDataParserConfig) -> None:
        super().__init__(config)  # pyright: ignore[reportArgumentType]
        self._field: TriplaneField | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        assert self._field is not None
        to_z_up = torch.from_numpy(Y_UP_TO_Z_UP[:, :3]).float()
        outputs.metadata["field"] = self._field.turned(to_z_up, outputs.dataparser_scale, "z")
        return outputs

    def _views_folder(self) -> Path:
        """The folder of the field's views, which are made unless they are cached; also finds or makes the field."""
        config = self.config
        check_views(config.num_views, config.view_size, min_views=2)
        origin = origin_of(config, config.cache_dir, FIELD_FILES.recipe)
        self._field = found_or_made(config, origin, FIELD_FILES)
        name = origin.generator
        folder = origin.cache / f"field-views-{name}-{origin.key}-{config.num_views}-{config.view_size}"
        if folder.is_dir():
            try:
                read_views(folder)
            except READ_ERRORS as error:
                warn(f"{folder} is damaged ({error or type(error).__name__}); its views are made anew")
                shutil.rmtree(folder)
            else:
                return folder
        views, image = self._looked_at(self._field, row(name), origin.source)
        with writing_views(folder):
            write_views(views, image, name, folder)
        return folder

    def _looked_at(
        self, made: TriplaneField, generator: Generator, source: str | PosedViews
    ) -> tuple[PosedViews, Float[Tensor, "4 S S"]]:
        """The views, on white and with alpha; and the prepared input image, or the first view."""
        config = self.config
        camera = VIEW_OF_TEXT if generator.takes == "views" else input_of(generator)
        azimuths, elevations = directions_around(config.num_views - 1)
        poses = orbit_camera_to_worlds((0, *azimuths), (0, *elevations), camera.radius)
        image = None
        if generator.takes == "image" and generator.load:
            from img3d_generators.inputs import prepared_input

            assert isinstance(source, str)
            image = prepared_input(generator, Path(source))
        size = config.view_size
        if image is None:
            rgb, alpha = rendered(made, poses, camera, size)
            return PosedViews(rgb, poses, camera.fov, alpha), torch.cat([without_white(rgb, alpha), alpha], dim=1)[0]
        premultiplied = torch.cat([image[:3] * image[3:], image[3:]])[None]
        seen = torch.nn.functional.interpolate(
            premultiplied, size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
        rgb, alpha = rendered(made, poses[1:], camera, size)
        pictures = torch.cat([seen[:, :3] + 1 - seen[:, 3:], rgb]).clamp(0, 1)
        return PosedViews(pictures, poses, camera.fov, torch.cat([seen[:, 3:], alpha]).clamp(0, 1)), image


@torch.no_grad()
def rendered(
    made: TriplaneField, poses: Float[Tensor, "V 3 4"], camera: InputView, size: int
) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
    """Renders of a field on white, and the accumulations.

    Args:
        made: The field.
        poses: OpenGL axes, in the field's world.
        camera: The field of view.
        size: Width and height in pixels.
    """
    from img3d_methods.field.field_model import Img3dFieldModelConfig  # late: entry points import this module

    box = SceneBox(aabb=made.bounds.detach())
    model = Img3dFieldModelConfig().setup(scene_box=box, num_train_data=1, metadata={"field": made}).eval()
    cameras = square_cameras(poses, focal_length(camera.fov, size), size)
    pictures = [
        model.get_outputs_for_camera(cameras[i : i + 1])
        for i in with_progress(range(len(poses)), "Rendering views of the field", len(poses))
    ]
    rgb, alpha = (torch.stack([picture[name] for picture in pictures]) for name in ("rgb", "accumulation"))
    return rgb.permute(0, 3, 1, 2).clamp(0, 1), alpha.permute(0, 3, 1, 2).clamp(0, 1)
