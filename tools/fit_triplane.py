# SPDX-License-Identifier: Apache-2.0
"""Fits a triplane of TripoSR's architecture, without its transformer, to renders of a mesh: what the published network
could give for that object at best, to look at fields where its weights are not at hand.

    .venv/bin/python tools/fit_triplane.py spot.obj spot.safetensors --steps 1500
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.axes import TO_Y_UP
from img3d_assets.fields.triplane import FieldMlp, TriplaneField
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_base.progress import with_progress
from img3d_generators.cameras import TO_FRONT_ON_Z, orbit_camera_to_worlds
from img3d_generators.triposr.network import TriposrConfig, field_of
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import focal_length
from img3d_kernels.ray_marching import OccupancyGrid, march

DISTANCE, FOV = 1.9, 40.0
"""TripoSR's camera."""
OBJECT_RADIUS = 0.6
"""Radius of the object's bounding sphere, in TripoSR's world."""
NUM_SAMPLES = 128
EMPTY, REFRESHED_EVERY, FIRST_REFRESH = 0.01, 16, 100
"""As in the model that renders fields; the grid is first made after this many steps, when shapes have emerged."""


def placed(mesh: Mesh, radius: float = OBJECT_RADIUS) -> Mesh:
    """The mesh with y up around the origin, its bounding sphere with this radius."""
    vertices = mesh.vertices @ TO_Y_UP[mesh.up or "y"].T
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    scale = radius / np.linalg.norm(vertices - middle, axis=1).max()
    mesh.vertices, mesh.up = ((vertices - middle) * scale).astype(np.float32), "y"
    return mesh


def scene_of(mesh: Mesh) -> MeshScene:
    """The mesh, ready to be rendered."""
    return MeshScene(
        torch.from_numpy(mesh.vertices),
        torch.from_numpy(mesh.faces),
        torch.from_numpy(mesh.colors),
        None if mesh.uvs is None else torch.from_numpy(mesh.uvs),
        None if mesh.texture is None else torch.from_numpy(mesh.texture).float() / 255,
    )


def rays_of(
    mesh: Mesh, num_views: int, size: int
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
    """Origins and unit directions of the rays through all pixels of renders from all around, and their colours on
    white."""
    scene = scene_of(mesh)
    steps = np.arange(num_views)
    elevations = np.degrees(np.arcsin(1 - (2 * steps + 1) / num_views))  # a Fibonacci lattice
    poses = orbit_camera_to_worlds((steps * 137.508).tolist(), elevations.tolist(), DISTANCE)
    focal = focal_length(FOV, size)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    in_camera = torch.stack([(columns - size / 2) / focal, (size / 2 - rows) / focal, -torch.ones_like(rows)], -1)
    in_camera = torch.nn.functional.normalize(in_camera.reshape(-1, 3), dim=-1)
    parts = []
    for pose in poses:
        rgb, _, alpha, _ = scene.render(pose, K, size, size, 2)
        parts.append((pose[:, 3].expand(size * size, 3), in_camera @ pose[:, :3].T, (rgb + 1 - alpha).reshape(-1, 3)))
    origins, directions, colors = (torch.cat(each) for each in zip(*parts, strict=True))
    return origins, directions, colors


def new_field(config: TriposrConfig) -> TriplaneField:
    """A field of this architecture that is nearly empty, with y up."""
    size = 2 * config.plane_size
    mlp = FieldMlp(3 * config.plane_channels, config.mlp_channels, config.mlp_layers)
    for layer in mlp.layers:
        if isinstance(layer, torch.nn.Linear):  # torch's own initial weights let signals die in nine layers of SiLU
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            torch.nn.init.zeros_(layer.bias)
    planes = 0.1 * torch.randn(3, config.plane_channels, size, size)
    return field_of(planes, mlp).turned(TO_FRONT_ON_Z, up="y")


def fit(
    mesh: Mesh, config: TriposrConfig, num_views: int, size: int, steps: int, num_rays: int, seed: int = 0
) -> TriplaneField:
    """Fits a field to renders of a mesh that is `placed`.

    Args:
        mesh: The mesh.
        config: The architecture.
        num_views: Number of renders.
        size: Their width and height.
        steps: Number of steps.
        num_rays: Rays in a step.
        seed: Random seed.
    """
    torch.manual_seed(seed)
    origins, directions, colors = rays_of(mesh, num_views, size)
    field = new_field(config)
    low, high = field.rendered_bounds
    optimizer = torch.optim.Adam(
        [{"params": [field.rows], "lr": 3e-2}, {"params": field.mlp.parameters(), "lr": 2e-3}], eps=1e-15
    )
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    occupied: OccupancyGrid | None = None
    assert field.path_length is not None
    for step in with_progress(range(steps), "Fitting", steps):
        chosen = torch.randint(len(origins), (num_rays,))
        marched = march(
            field,
            origins[chosen],
            directions[chosen],
            low,
            high,
            NUM_SAMPLES,
            field.path_length,
            field.shortest_path,
            occupied,
        )
        loss = torch.nn.functional.mse_loss(marched.rgb + 1 - marched.accumulation, colors[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step >= FIRST_REFRESH and step % REFRESHED_EVERY == 0:
            occupied = OccupancyGrid.of(field.query, low, high, 32, EMPTY / field.path_length)
    return field.requires_grad_(False)


def main() -> None:
    """Fits and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path, help="a mesh file")
    parser.add_argument("output", type=Path, help="the field (.safetensors), or a mesh of it")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rays", type=int, default=1024, help="rays in a step")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--size", type=int, default=192, help="width and height of a view")
    arguments = parser.parse_args()
    mesh, up = read_mesh(arguments.mesh)
    mesh.up = up
    fitted = fit(placed(mesh), TriposrConfig(), arguments.views, arguments.size, arguments.steps, arguments.rays)
    fitted.save(arguments.output)


if __name__ == "__main__":
    main()
