# SPDX-License-Identifier: Apache-2.0
"""Fits a triplane of TripoSR's architecture, without its transformer, to renders of a mesh: what the published network
could give for that object at best, to look at fields where its weights are not at hand.

    .venv/bin/python tools/fit_triplane.py spot.obj spot.safetensors --steps 1500
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from carved_points import Renders
from compared_surfaces import compared
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from img3d_assets.axes import TO_Y_UP
from img3d_assets.fields.triplane import FieldMlp, TriplaneField
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_assets.meshing.field_surface import surface_of
from img3d_base.console import print_line
from img3d_base.progress import with_progress
from img3d_generators.cameras import TO_FRONT_ON_Z, directions_on_sphere, orbit_camera_to_worlds
from img3d_generators.triposr.network import TriposrConfig, field_of
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import intrinsics
from img3d_kernels.ray_marching import OccupancyGrid, march

DISTANCE, FOV = 1.9, 40.0
"""TripoSR's camera."""
OBJECT_RADIUS = 0.6
"""Radius of the object's bounding sphere, in TripoSR's world."""
NUM_SAMPLES = 128
EMPTY, REFRESHED_EVERY, GRID = 0.01, 16, 48
"""As in the model that renders fields, whose grid is finer."""
NUM_POINTS = 200_000
"""Points that are looked at: so many near the surface for each of `SPREADS`, and as many anywhere."""
TINY = 1e-9
"""Smaller densities are as good as this."""
ON_FACES = 0.03
"""Share of the points anywhere that are on each face of the box, where planes fade out."""
SPREADS = (0.01, 0.04)
"""Standard deviations of distances from the surface, in TripoSR's world."""


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


def renders_of(mesh: Mesh, num_views: int, size: int) -> Renders:
    """Renders from all around, in TripoSR's camera."""
    scene = scene_of(mesh)
    poses = orbit_camera_to_worlds(*directions_on_sphere(num_views), DISTANCE)
    K = intrinsics(FOV, size)
    seen = [scene.render(pose, K, size, size, 2) for pose in poses]
    rgb, depth, alpha = (torch.stack(parts) for parts in list(zip(*seen, strict=True))[:3])
    return Renders(poses, K, rgb + 1 - alpha, depth[..., 0], alpha[..., 0])


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


def shape_first(
    field: TriplaneField, renders: Renders, optimizer: torch.optim.Optimizer, steps: int, count: int
) -> None:
    """Fits what renders with depth say of points. That takes a tenth of the time of rays, which look at empty space
    until there is a shape, and fills what no ray sees."""
    low, high = field.rendered_bounds
    surface, colors = renders.surface()
    near = [
        surface[torch.randint(len(surface), (NUM_POINTS,))] + spread * torch.randn(NUM_POINTS, 3) for spread in SPREADS
    ]
    anywhere = (torch.rand(NUM_POINTS, 3) * (1 + 2 * ON_FACES) - ON_FACES).clamp(0, 1)
    points = torch.cat([*near, low + anywhere * (high - low)])
    inside, threshold = renders.inside(points).float(), math.log(field.surface_density)
    for _ in with_progress(range(steps), "Fitting the shape", steps):
        chosen, seen = torch.randint(len(points), (count,)), torch.randint(len(surface), (count // 4,))
        beside = surface[seen] + SPREADS[0] * torch.randn(len(seen), 3)  # rays stop at samples beside the surface
        density, rgb = field(torch.cat([points[chosen], beside]))
        off = binary_cross_entropy_with_logits(density[:count].clamp_min(TINY).log() - threshold, inside[chosen])
        loss = off + mse_loss(rgb[count:], colors[seen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def fit(
    mesh: Mesh, config: TriposrConfig, num_views: int, size: int, steps: tuple[int, int], count: int, seed: int = 0
) -> TriplaneField:
    """Fits a field to renders of a mesh that is `placed`.

    Args:
        mesh: The mesh.
        config: The architecture.
        num_views: Number of renders.
        size: Their width and height.
        steps: Number of steps that look at points, and of those that look at rays.
        count: Points in a step; rays are an eighth as many.
        seed: Random seed.
    """
    torch.manual_seed(seed)
    renders = renders_of(mesh, num_views, size)
    field = new_field(config)
    low, high = field.rendered_bounds
    optimizer = torch.optim.Adam(
        [{"params": [field.rows], "lr": 3e-2}, {"params": field.mlp.parameters(), "lr": 2e-3}], eps=1e-15
    )
    shape_first(field, renders, optimizer, steps[0], count)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps[1], eta_min=1e-4)
    origins, directions, colors = renders.rays()
    assert field.path_length is not None
    occupied: OccupancyGrid | None = None
    for step in with_progress(range(steps[1]), "Fitting", steps[1]):
        if step % REFRESHED_EVERY == 0:
            occupied = OccupancyGrid.of(field.query, low, high, GRID, EMPTY / field.path_length)
        chosen = torch.randint(len(origins), (count // 8,))
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
        loss = mse_loss(marched.rgb + 1 - marched.accumulation, colors[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return field.requires_grad_(False)


def main() -> None:
    """Fits and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path, help="a mesh file")
    parser.add_argument("output", type=Path, help="the field (.safetensors), or a mesh of it")
    parser.add_argument("--steps", type=int, nargs=2, default=(500, 250), help="that look at points, and at rays")
    parser.add_argument("--points", type=int, default=8192, help="points in a step; rays are an eighth as many")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--size", type=int, default=192, help="width and height of a view")
    arguments = parser.parse_args()
    mesh, up = read_mesh(arguments.mesh)
    mesh.up = up
    mesh = placed(mesh)
    options = arguments.views, arguments.size, tuple(arguments.steps), arguments.points
    fitted = fit(mesh, TriposrConfig(), *options)
    fitted.save(arguments.output)
    print_line(f"Its surface is {compared(surface_of(fitted, 256), mesh)}")


if __name__ == "__main__":
    main()
