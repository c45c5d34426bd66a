# SPDX-License-Identifier: Apache-2.0
"""Runs of objects that a guidance shapes, and a mesh that it can know."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from nerfstudio.configs.method_configs import all_methods

from img3d_assets.mesh_files import read_mesh
from img3d_generators.guidance.known_object import KnownObject
from img3d_generators.guidance.random_views import directions, looking_at
from img3d_generators.guidance.rows import guidance_row
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.registry import InputView
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras

SIZE = 48
"""Width and height of views."""


def write_known_mesh(path: Path) -> Path:
    """An object that looks different from every side: a box with a colour for each side, and a ball beside it."""
    box: Any = trimesh.creation.box((1.0, 0.7, 0.5))
    box = trimesh.Trimesh(box.vertices[box.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    sides = (box.face_normals @ np.array([1, 2, 3.0])).round().astype(int)
    palette = {
        -3: (200, 40, 40),
        -2: (40, 160, 60),
        -1: (50, 70, 210),
        1: (230, 200, 40),
        2: (150, 60, 170),
        3: (240, 240, 240),
    }
    box.visual.vertex_colors = np.repeat([[*palette[side], 255] for side in sides], 3, axis=0)
    ball: Any = trimesh.creation.icosphere(2, 0.25)
    ball.apply_translation((0.45, 0.45, 0.1))
    ball.visual.vertex_colors = np.tile([30, 30, 30, 255], (len(ball.vertices), 1))
    trimesh.util.concatenate([box, ball]).export(path)
    return path


def config_for(method: str, folder: Path, steps: int) -> Any:
    """The configuration of a short run, as ns-train gets it."""
    config: Any = copy.deepcopy(all_methods[method])
    config.output_dir, config.experiment_name, config.timestamp = folder / "outputs", "object", "now"
    config.vis, config.max_num_iterations = "tensorboard", steps
    config.viewer.quit_on_train_completion = True
    config.pipeline.datamanager.data = folder
    config.pipeline.datamanager.dataparser.view_size = SIZE
    config.pipeline.picture_every = 2
    return config


def trained(config: Any) -> Any:
    """The trainer after the run, with the run on disk."""
    config.print_to_terminal()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


UNSEEN_ELEVATIONS, UNSEEN_AZIMUTHS = (-12.0, 3.0, 17.0, 28.0), (13.0, 101.0, -128.0, -44.0)
"""Of the views that are compared, in degrees."""


def unseen_views_of_mesh(mesh: Path, view: InputView) -> Any:
    """Four renders `[4, S, S, 3]` of a mesh on white, as its guidance knows it.

    Args:
        mesh: The mesh file.
        view: Their camera.
    """
    known = read_mesh(mesh)[0]
    known.up = "y"
    angles = ViewAngles(torch.tensor(UNSEEN_ELEVATIONS), torch.tensor(UNSEEN_AZIMUTHS), torch.full((4,), view.radius))
    rgb, alpha = KnownObject(known, view).rendered(angles, SIZE)
    return (rgb + 1 - alpha).permute(0, 2, 3, 1)


def psnr_of_mesh(mesh: Path, expected: Path) -> list[float]:
    """In dB, of four renders of a mesh file, compared with those of another."""
    view = guidance_row("known-object").view
    difference = unseen_views_of_mesh(mesh, view) - unseen_views_of_mesh(expected, view)
    return (-10 * difference.square().mean(dim=(1, 2, 3)).log10()).tolist()


def psnr_of_unseen_views(model: Any, mesh: Path, view: InputView | None = None) -> list[float]:
    """In dB, of four renders of a model, compared with those of the mesh that its guidance knows.

    Args:
        model: In a world in which the views' cameras have distance 1.
        mesh: The mesh file.
        view: Their camera; None is the guidance's usual one.
    """
    view = view or guidance_row("known-object").view
    elevations, azimuths = torch.tensor(UNSEEN_ELEVATIONS), torch.tensor(UNSEEN_AZIMUTHS)
    expected = unseen_views_of_mesh(mesh, view)
    poses = looking_at(directions(elevations, azimuths), torch.zeros(4, 3), torch.tensor([[0.0, 0, 1]] * 4))
    cameras = square_cameras(poses, focal_length(view.fov, SIZE), SIZE)
    found = []
    for i in range(4):
        with torch.no_grad():
            seen = model.get_outputs_for_camera(cameras[i : i + 1])["rgb"]
        found.append(-10 * float((seen - expected[i]).square().mean().log10()))
    return found
