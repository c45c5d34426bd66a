# SPDX-License-Identifier: Apache-2.0
"""`img3d-generated-field`: the field that a generator makes from an image, views or a text, with renders of it from all
sides, on which any method can train."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.fields.triplane_files import ENDING, read_triplane, write_triplane
from img3d_base.progress import with_progress
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.registry import InputView
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras
from img3d_methods.generated.asset_views import AssetViews, AssetViewsConfig
from img3d_methods.generated.generated_asset import AssetFiles

FIELD_FILES = AssetFiles(
    TriplaneField, "field", "a triplane", ENDING, read_triplane, write_triplane, described=lambda _: "Field", recipe=2
)


@torch.no_grad()
def rendered(
    made: TriplaneField, poses: Float[Tensor, "V 3 4"], camera: InputView, size: int
) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
    """A `Renderer` of fields."""
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


@dataclass
class Img3dGeneratedFieldDataParserConfig(AssetViewsConfig):
    """The input of a generator, and the views of the field that it makes."""

    _target: type = field(default_factory=lambda: Img3dGeneratedField)


class Img3dGeneratedField(AssetViews[TriplaneField]):
    """Generates the field and renders its views, or finds them in the cache."""

    files = FIELD_FILES
    render = staticmethod(rendered)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        to_z_up = torch.from_numpy(Y_UP_TO_Z_UP[:, :3]).float()
        outputs.metadata["field"] = self.made().turned(to_z_up, outputs.dataparser_scale, "z")
        return outputs
