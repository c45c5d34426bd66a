# SPDX-License-Identifier: Apache-2.0
"""Our PLY is the one that ns-export makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian_scenes import small_model
from plyfile import PlyData

from img3d_assets.gaussians import gaussians_of_parameters
from img3d_assets.splat_files import write_splats


@pytest.mark.parametrize("sh_degree", [0, 3])
def test_same_file_as_nerfstudios(sh_degree: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.scripts import exporter

    model = small_model(num_points=30, sh_degree=sh_degree)
    model.opacities.data[3] = -9
    model.scales.data[5, 1] = torch.nan  # (ns-export loses everything over one such position)
    pipeline = type("Pipeline", (), {"model": model})
    monkeypatch.setattr(exporter, "eval_setup", lambda *args, **options: (None, pipeline, None, None))
    exporter.ExportGaussianSplat(load_config=tmp_path, output_dir=tmp_path).main()

    splats = gaussians_of_parameters(dict(model.gauss_params.items()), sh_degree).visible()
    assert len(splats) == 28
    write_splats(splats, tmp_path / "ours.ply", "z")
    files = [PlyData.read(tmp_path / name) for name in ("ours.ply", "splat.ply")]
    ours, theirs = (file["vertex"] for file in files)
    assert [column.name for column in ours.properties] == [column.name for column in theirs.properties]
    for column in theirs.properties:
        assert np.allclose(ours[column.name], theirs[column.name], atol=1e-6)
    assert set(files[0].comments) <= set(files[1].comments)
