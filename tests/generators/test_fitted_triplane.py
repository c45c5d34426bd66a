# SPDX-License-Identifier: Apache-2.0
"""A triplane with TripoSR's small network, fitted to renders of a shape by `tools/fit_triplane.py`, is that shape:
field, ray marching with its gradients, mesh and colours together."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import KDTree

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_exporters.meshes.mesh_of_run import MeshOptions, levels_of_field
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.registry import Generator, InputView, rows
from img3d_generators.triposr.network import TriposrConfig
from img3d_kernels.poses import intrinsics
from img3d_methods.generated.methods import method_of

TOOLS = Path(__file__).resolve().parents[2] / "tools"
LOADED: TriplaneField | None = None
"""What `load` gives."""
MAX_ERROR = 0.015
"""Of the mean distance between the surfaces, in both directions, relative to the object's diameter."""


def load(name: str) -> Callable[..., TriplaneField]:
    """A generator of a fitted field."""
    assert LOADED is not None
    return lambda image, seed=0: copy.deepcopy(LOADED)


def as_it_is(image: np.ndarray, name: str) -> np.ndarray:
    """Pictures of it need no other framing."""
    return image


def two_balls() -> tuple[Mesh, np.ndarray]:
    """Two balls that overlap, coloured by position; and which vertices are on the outside."""
    large, small = trimesh.creation.icosphere(4, 0.35), trimesh.creation.icosphere(4, 0.22)
    small.apply_translation([0.3, 0.25, 0])
    vertices = np.concatenate([large.vertices, small.vertices])
    faces = np.concatenate([large.faces, small.faces + len(large.vertices)])
    centers, radii = np.array([[0, 0, 0], [0.3, 0.25, 0]]), np.array([0.35, 0.22])
    distances = np.linalg.norm(vertices[:, None] - centers, axis=-1) - radii
    colors = 0.5 + 0.5 * np.sin(6 * vertices)
    mesh = Mesh(vertices.astype(np.float32), faces, colors.astype(np.float32), up="y")
    return mesh, distances.min(axis=1) > -1e-3


@pytest.fixture(scope="module")
def fit_triplane() -> Iterator[ModuleType]:
    """The tool, with few points and samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOLS), *sys.path])
        tool = importlib.import_module("fit_triplane")
        patch.setattr(tool, "NUM_SAMPLES", 40)
        patch.setattr(tool, "NUM_POINTS", 40_000)
        patch.setattr(tool, "GRID", 32)
        yield tool


def fitted(tool: ModuleType, shape: Mesh) -> TriplaneField:
    """TripoSR's field with half its planes' sides, fitted to 60 renders of a mesh that is placed."""
    return tool.fit(shape, TriposrConfig(plane_size=16), num_views=60, size=64, steps=(150, 30), count=1536)


def mesh_of(field: TriplaneField) -> Mesh:
    """As `img3d-export mesh` makes it."""
    return next(levels_of_field(field, textured=False, options=MeshOptions(resolution=96)))


@pytest.fixture(scope="module")
def balls(fit_triplane: ModuleType) -> tuple[Mesh, np.ndarray, TriplaneField]:
    """Two balls, placed, which vertices are on the outside, and their field."""
    mesh, outside = two_balls()
    shape = fit_triplane.placed(mesh)
    return shape, outside, fitted(fit_triplane, shape)


@pytest.mark.slow
def test_a_fitted_triplane_is_the_shape(
    fit_triplane: ModuleType, balls: tuple[Mesh, np.ndarray, TriplaneField]
) -> None:
    shape, outside, field = balls
    made = mesh_of(field)
    surface, diameter = shape.vertices[outside], 2 * fit_triplane.OBJECT_RADIUS
    to_shape, nearest = KDTree(surface).query(made.vertices)
    to_mesh, _ = KDTree(made.vertices).query(surface)
    assert np.mean(to_shape) < MAX_ERROR * diameter
    assert np.mean(to_mesh) < MAX_ERROR * diameter
    assert np.abs(made.colors - shape.colors[outside][nearest]).mean() < 0.1


@pytest.mark.slow
def test_a_fitted_triplane_is_spot(fit_triplane: ModuleType, data_dir: Path) -> None:
    file = data_dir / "meshes" / "spot" / "spot.obj"
    if not file.is_file():
        pytest.skip(f"no {file}")
    mesh, mesh.up = read_mesh(file)
    shape = fit_triplane.placed(mesh)
    made = mesh_of(fitted(fit_triplane, shape))
    found = fit_triplane.compared(made, shape)
    assert found.to_expected.mean() < MAX_ERROR and found.to_made.mean() < MAX_ERROR, str(found)
    assert found.f_score > 0.6, str(found)


@pytest.mark.slow
def test_refinement_brings_a_fitted_field_nearer_to_the_image(
    fit_triplane: ModuleType,
    balls: tuple[Mesh, np.ndarray, TriplaneField],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shape, _, field = balls
    scene, pose = fit_triplane.scene_of(shape), orbit_camera_to_worlds((0,), (0,), fit_triplane.DISTANCE)[0]
    rgb, _, alpha, _ = scene.render(pose, intrinsics(fit_triplane.FOV, 64), 64, 64)
    pixels = torch.cat([rgb / alpha.clamp_min(1e-6), alpha], dim=-1).clamp(0, 1)
    Image.fromarray((255 * pixels).round().byte().numpy()).save(tmp_path / "balls.png")

    module, view = __name__, InputView(0.1, fit_triplane.FOV, fit_triplane.DISTANCE)
    monkeypatch.setattr(sys.modules[module], "LOADED", field)
    row = Generator("balls", "image", "Field", "balls", f"{module}:load", input=view, frame=f"{module}:as_it_is")
    monkeypatch.setitem(rows(), "balls", row)
    method = method_of("balls")
    assert method is not None
    config: Any = copy.deepcopy(method.config)
    config.vis, config.timestamp, config.output_dir = "tensorboard", "now", tmp_path / "outputs"
    config.max_num_iterations = 60
    config.pipeline.datamanager.data = tmp_path / "balls.png"
    config.pipeline.datamanager.train_num_rays_per_batch = 512
    parser = config.pipeline.datamanager.dataparser
    parser.num_views, parser.view_size = 3, 64
    config.pipeline.model.num_samples = 64
    config.set_experiment_name()
    config.print_to_terminal()
    trainer = config.setup()
    trainer.setup()

    def psnr_of_the_image() -> float:
        dataset = trainer.pipeline.datamanager.train_dataset
        shown = trainer.pipeline.model.eval().get_outputs_for_camera(dataset.cameras[0:1])["rgb"].detach()
        return float(-10 * torch.log10((shown - dataset[0]["image"]).square().mean()))

    before = psnr_of_the_image()
    trainer.train()
    assert psnr_of_the_image() > before + 1
