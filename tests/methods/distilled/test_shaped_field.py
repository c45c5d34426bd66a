# SPDX-License-Identifier: Apache-2.0
"""The field that a guidance shapes: how it begins, DreamFusion's recipe, and that it becomes a known object."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guidance_repositories import write_text_to_image
from shaped_runs import config_for, psnr_of_unseen_views, trained, write_known_mesh

from img3d_exporters.load_run import load_run
from img3d_kernels.fields.radiance_field import density, geometry_torch
from img3d_methods.distilled.field_model import Img3dShapedFieldModel, Img3dShapedFieldModelConfig
from img3d_methods.distilled.field_pipeline import growing, mean_opacity, opacity_entropy

METHOD = "img3d-dreamfusion-nerf"
MIN_PSNR = 17.0
"""In dB: what a short run on small renders has to reach from views that it was not shaped on; it begins with 13."""


def pipeline_of_text(folder: Path, **options: Any) -> Any:
    """The pipeline of a text with tiny networks, before its first step."""
    config = config_for(METHOD, folder, 10)
    config.pipeline.prompt, config.pipeline.weights = "a cow", write_text_to_image(folder / "weights")
    config.pipeline.render_size = 16
    for name, value in options.items():
        setattr(config.pipeline, name, value)
    config.print_to_terminal()
    pipeline = config.pipeline.setup(device="cpu")
    pipeline.num_steps = 10
    return pipeline.train()


def test_it_begins_as_a_grey_blob_in_the_middle() -> None:
    model: Any = Img3dShapedFieldModelConfig().setup(scene_box=None, num_train_data=1, metadata={})
    assert isinstance(model, Img3dShapedFieldModel)
    radii = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    points = radii[:, None] * torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, -1.0]]), dim=1)
    found = density(model.parameters_of_field(), points)
    expected = 1.75 * torch.nn.functional.softplus(10 * (1 - radii / 0.286))
    torch.testing.assert_close(found.log(), expected.log(), atol=0.15, rtol=0)  # corners are 1/16 apart
    assert float(geometry_torch(model.parameters_of_field(), points)[1][:, 1:].detach().abs().max()) < 0.01


class TestARecipe:
    def test_the_first_renders_are_not_lit(self, tmp_path: Path) -> None:
        pipeline = pipeline_of_text(tmp_path, unlit_part=0.5, lit_share=1.0)
        assert "orientation" not in pipeline.get_train_loss_dict(4)[1]
        assert "orientation" in pipeline.get_train_loss_dict(5)[1]

    @pytest.mark.parametrize("textureless", [0.0, 1.0])
    def test_renders_in_light_shape_the_field_and_the_background(self, textureless: float, tmp_path: Path) -> None:
        pipeline = pipeline_of_text(
            tmp_path, unlit_part=0.0, lit_share=1.0, textureless_share=textureless, opaque_weight=1.0
        )
        _, losses, _ = pipeline.get_train_loss_dict(0)
        assert set(losses) == {"orientation", "sds", "sparsity", "opaque"}
        torch.stack(list(losses.values())).sum().backward()
        model = pipeline.model
        for value in (model.table, model.networks, model.behind[0].weight):
            assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().max() > 0
        # Rows of the colour network's last layer: white has no colours to learn.
        assert bool((model.networks.grad[-3:] == 0).all()) == (textureless == 1.0)

    @pytest.mark.parametrize("background", ["random", "plain"])
    def test_other_backgrounds_are_not_learned(self, background: str, tmp_path: Path) -> None:
        pipeline = pipeline_of_text(tmp_path, background=background)
        torch.stack(list(pipeline.get_train_loss_dict(0)[1].values())).sum().backward()
        assert pipeline.model.behind[0].weight.grad is None

    def test_the_weight_of_the_normals_grows(self) -> None:
        assert [growing(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.01, 0.505, 1.0, 1.0])

    def test_fog_costs_more_than_nothing_and_half_opacity_the_most(self) -> None:
        nothing, half, full = (torch.full((4, 1), value) for value in (0.0, 0.5, 1.0))
        assert float(mean_opacity(nothing)) == pytest.approx(0.1)
        assert float(mean_opacity(full)) == pytest.approx(math.sqrt(1.01))
        assert float(opacity_entropy(half)) == pytest.approx(math.log(2))
        assert float(opacity_entropy(full)) < 0.01 and float(opacity_entropy(nothing)) < 0.01


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"render_size": 5}, "--pipeline.render-size is 5"),
        ({"lit_share": 1.5}, "--pipeline.lit-share is 1.5: it has to be 0 to 1"),
        ({"sparsity_weight": -1.0}, "cannot be negative"),
        ({"prompt": " "}, "say what to make with --pipeline.prompt"),
    ],
)
def test_options_that_are_out_of_range(
    changes: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").mkdir()
    config = config_for(METHOD, tmp_path, 2)
    config.pipeline.prompt, config.pipeline.weights = "a cow", tmp_path / "weights"
    for name, value in changes.items():
        setattr(config.pipeline, name, value)
    with pytest.raises(SystemExit):
        config.print_to_terminal()
    assert line in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_it_becomes_the_object_that_the_guidance_knows(tmp_path: Path) -> None:
    mesh = write_known_mesh(tmp_path / "known.ply")
    config = config_for(METHOD, tmp_path, 150)
    config.pipeline.guidance, config.pipeline.mesh, config.pipeline.picture_every = "known-object", mesh, 100
    config.pipeline.render_size = 32
    trainer = trained(config)
    run = load_run(trainer.base_dir / "config.yml")
    assert np.min(psnr_of_unseen_views(run.model, mesh)) >= MIN_PSNR
