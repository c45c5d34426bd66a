# SPDX-License-Identifier: Apache-2.0
"""The PLY made in the viewer is the one that ns-export makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import files_limited_to
from gaussian_scenes import small_model
from plyfile import PlyData

from img3d_methods.splat_model import Img3dSplatModel
from img3d_methods.splat_ply import write_splat_ply


def params_of(model: Img3dSplatModel) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.gauss_params.items()}


@pytest.mark.parametrize("sh_degree", [0, 3])
def test_same_file_as_nerfstudios(sh_degree: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.scripts import exporter

    model = small_model(num_points=30, sh_degree=sh_degree)
    model.opacities.data[3] = -9
    model.scales.data[5, 1] = torch.nan  # (ns-export loses everything over one such position)
    pipeline = type("Pipeline", (), {"model": model})
    monkeypatch.setattr(exporter, "eval_setup", lambda *args, **options: (None, pipeline, None, None))
    exporter.ExportGaussianSplat(load_config=tmp_path, output_dir=tmp_path).main()

    assert write_splat_ply(params_of(model), sh_degree, tmp_path / "ours.ply") == 28
    ours, theirs = (PlyData.read(tmp_path / name)["vertex"] for name in ("ours.ply", "splat.ply"))
    assert [column.name for column in ours.properties] == [column.name for column in theirs.properties]
    for column in theirs.properties:
        assert np.allclose(ours[column.name], theirs[column.name], atol=1e-6)


def test_nothing_to_write_leaves_no_file(tmp_path: Path) -> None:
    model = small_model(num_points=5)
    model.opacities.data[:] = -9
    with pytest.raises(OSError, match="no Gaussian"):
        write_splat_ply(params_of(model), 3, tmp_path / "exports" / "empty.ply")
    assert not list(tmp_path.rglob("*.ply*"))


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path) -> None:
    with files_limited_to(1000), pytest.raises(OSError, match="File too large"):
        write_splat_ply(params_of(small_model(num_points=5)), 3, tmp_path / "splat.ply")
    assert not list(tmp_path.iterdir())
