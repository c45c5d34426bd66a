# SPDX-License-Identifier: Apache-2.0
"""Small decoders of TRELLIS that `tools/fit_trellis.py` fits to an object give Gaussians and a mesh of it: gradients
through both decoders, axes, and the texture baked from the Gaussians together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import trimesh

from img3d_assets.mesh import Mesh
from img3d_generators.trellis import texture

TOOLS = Path(__file__).resolve().parents[3] / "tools"


@pytest.fixture
def fit_trellis() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOLS), *sys.path])
        yield importlib.import_module("fit_trellis")


@pytest.mark.slow
def test_gaussians_and_mesh_are_the_object(fit_trellis: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(texture, "NUM_VIEWS", 16)
    made = trimesh.creation.box((0.6, 0.4, 0.8))  # every axis has its own length
    made = made.subdivide().subdivide().subdivide()
    vertices = np.asarray(made.vertices, np.float32)
    colors = np.stack([vertices[:, 0] > 0, vertices[:, 1] > 0, vertices[:, 2] > 0], axis=1) * 0.8 + 0.1
    box = fit_trellis.placed(Mesh(vertices, np.asarray(made.faces), colors.astype(np.float32), up="y"), 0.42)
    fitted = fit_trellis.fit(box, (120, 25), num_views=32, size=64)
    assert fitted.psnr > 25 and fitted.gaussians.up == "y"  # 27 dB
    assert np.abs(np.ptp(fitted.mesh.vertices, axis=0) - np.ptp(box.vertices, axis=0)).max() < 0.1
    found = fit_trellis.compared(fitted.mesh, box)  # the mesh has a cavity where no voxels are
    assert found.to_made.mean() < 0.01, str(found)  # 0.0057
    textured = texture.textured(fitted.mesh, fitted.gaussians, 128)
    assert textured.uvs is not None and textured.texture is not None
    middles = textured.vertices[textured.faces].mean(axis=1)
    at = (textured.uvs[textured.faces].mean(axis=1) * [128, -128] + [0, 128]).astype(int).clip(0, 127)
    seen = textured.texture[at[:, 1], at[:, 0]] / 255
    right = np.abs(seen - ((middles > 0) * 0.8 + 0.1)).mean(axis=1) < 0.25
    assert right.mean() > 0.7  # 0.76; no render shows the cavity
