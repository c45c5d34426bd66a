# SPDX-License-Identifier: Apache-2.0
"""Fits TRELLIS's last stage to one object: latents of its occupied voxels and a small decoder of Gaussians, to
renders; then a small decoder of a mesh, to the same latents. Gaussians, mesh and baked texture can so be looked at
where the published weights are not at hand.

    OMP_NUM_THREADS=1 .venv/bin/python tools/fit_trellis.py spot.obj gaussians.ply mesh.glb
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from carved_points import Renders
from compared_surfaces import compared
from fit_triplane import FOV, placed, renders_of
from jaxtyping import Float, Float32, Int64
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, smooth_l1_loss

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_assets.meshing.flexicubes import NUM_WEIGHTS, corners_of
from img3d_base.console import print_line
from img3d_base.progress import with_progress
from img3d_generators.trellis.cube_features import NUM_CORNERS
from img3d_generators.trellis.decoders import DecoderConfig, GaussianDecoder, GaussianDecoderConfig, MeshDecoder
from img3d_generators.trellis.generator import TURN, turned_gaussians, turned_mesh
from img3d_generators.trellis.texture import textured
from img3d_generators.trellis.voxels import VoxelGrid

OBJECT_RADIUS = 0.47
"""Radius of the object's bounding sphere; the box reaches from -0.5 to 0.5."""
RESOLUTION = 16
"""Voxels along the box's side, a quarter of the published number; the mesh's grid has four times as many cubes."""
GAUSSIANS = GaussianDecoderConfig(
    resolution=RESOLUTION,
    model_channels=96,
    num_blocks=2,
    num_heads=4,
    window_size=4,
    scale_bias=4e-3 * 64 / RESOLUTION,
)
MESH = DecoderConfig(resolution=RESOLUTION, model_channels=256, num_blocks=1, num_heads=4, mlp_ratio=1, window_size=4)
NUM_POINTS = 200_000
"""Points on the surface, which occupy voxels and give colours."""
HELD_OUT = 8
"""One of so many views is not fitted, but measured."""


@dataclass
class Fitted:
    """One object in both forms, y up, and how well the Gaussians render views that were not fitted."""

    gaussians: Gaussians
    mesh: Mesh
    """With vertex colours."""
    psnr: float
    """Mean over the held-out views, in dB."""


def fit(mesh: Mesh, steps: tuple[int, int], num_views: int = 64, size: int = 128, seed: int = 0) -> Fitted:
    """Fits Gaussians and a mesh of the same latents.

    Args:
        mesh: A closed mesh that is `placed`.
        steps: Number of steps for the Gaussians, and for the mesh.
        num_views: Number of renders.
        size: Their width and height.
        seed: Random seed.
    """
    torch.manual_seed(seed)
    renders = renders_of(mesh, num_views, size)
    mesh = replace(mesh, vertices=mesh.vertices @ TURN.astype(np.float32), up="z")  # the networks' axes
    cells = np.floor((points_on_mesh(mesh, NUM_POINTS).points + 0.5) * RESOLUTION).astype(np.int64)
    grid = VoxelGrid(torch.from_numpy(np.unique(cells, axis=0)))
    latents, gaussians, psnr = fitted_gaussians(grid, renders, steps[0])
    return Fitted(gaussians, fitted_mesh(grid, latents, mesh, steps[1]), psnr)


def fitted_gaussians(grid: VoxelGrid, renders: Renders, steps: int) -> tuple[Float[Tensor, "1 N C"], Gaussians, float]:
    """Latents of the voxels whose Gaussians look like the renders, these Gaussians, and the PSNR of held-out views."""
    decoder = GaussianDecoder(GAUSSIANS)
    latents = nn.Parameter(torch.randn(1, len(grid), GAUSSIANS.latent_channels))
    optimizer = torch.optim.Adam([{"params": [latents], "lr": 3e-2}, {"params": decoder.parameters(), "lr": 2e-3}])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    poses, size = torch.from_numpy(TURN.T).float() @ renders.poses, renders.rgb.shape[1]
    views = torch.arange(len(poses))
    fitted, held_out = views[views % HELD_OUT != 0], views[views % HELD_OUT == 0]
    for _ in with_progress(range(steps), "Fitting Gaussians", steps):
        view = int(fitted[torch.randint(len(fitted), ())])
        made = decoder.gaussians(decoder(latents, grid), grid)
        rgb, _ = made.render(poses[view : view + 1], FOV, size, antialiased=True)
        loss = l1_loss(rgb[0], renders.rgb[view]) + mse_loss(rgb[0], renders.rgb[view])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        made = decoder.gaussians(decoder(latents, grid), grid).pruned()
        seen = made.render(poses[held_out], FOV, size, antialiased=True)[0]
        errors = (seen.clamp(0, 1) - renders.rgb[held_out]).square().mean(dim=(1, 2, 3))
    return latents.detach(), turned_gaussians(made), float((-10 * errors.log10()).mean())


def fitted_mesh(grid: VoxelGrid, latents: Float[Tensor, "1 N C"], mesh: Mesh, steps: int) -> Mesh:
    """A mesh of these latents that has the shape and the colours of a mesh with z up; y up."""
    decoder = MeshDecoder(MESH)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    distances, colors = map(torch.from_numpy, corner_targets(grid.finer.finer.coords.numpy(), mesh))
    sizes = [NUM_CORNERS, 3 * NUM_CORNERS, NUM_WEIGHTS, 6 * NUM_CORNERS]
    for _ in with_progress(range(steps), "Fitting the mesh", steps):
        made, deformation, weights, attributes = decoder(latents, grid).split(sizes, dim=1)
        shown = attributes.unflatten(1, (NUM_CORNERS, 6))[..., :3].sigmoid()
        plain = deformation.square().mean() + weights.square().mean()
        loss = smooth_l1_loss(made, distances) + mse_loss(shown, colors) + 0.1 * plain
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        return turned_mesh(decoder.mesh(decoder(latents, grid), grid))


def corner_targets(
    cubes: Int64[np.ndarray, "M 3"], mesh: Mesh
) -> tuple[Float32[np.ndarray, "M 8"], Float32[np.ndarray, "M 8 3"]]:
    """What the decoder should give at the cubes' corners: signed distances, negative inside, in cubes, and colours."""
    import open3d

    side = 4 * RESOLUTION
    corners, of_corner = np.unique(corners_of(cubes).reshape(-1, 3), axis=0, return_inverse=True)
    points = (corners / side - 0.5).astype(np.float32)
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    distances = scene.compute_signed_distance(points).numpy() * side
    sampled = points_on_mesh(mesh, NUM_POINTS)
    colors = sampled.colors[KDTree(sampled.points).query(points)[1]]
    rows = of_corner.reshape(-1, NUM_CORNERS)
    return distances.astype(np.float32)[rows], colors.astype(np.float32)[rows]


def main() -> None:
    """Fits, textures, compares and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path, help="a closed mesh")
    parser.add_argument("gaussians", type=Path, help="the Gaussians")
    parser.add_argument("output", type=Path, help="the mesh, with a texture baked from renders of the Gaussians")
    parser.add_argument("--steps", type=int, nargs=2, default=(600, 80), help="for the Gaussians, and for the mesh")
    parser.add_argument("--texture-size", type=int, default=512)
    arguments = parser.parse_args()
    mesh, up = read_mesh(arguments.mesh)
    mesh.up = up
    mesh = placed(mesh, OBJECT_RADIUS)
    fitted = fit(mesh, tuple(arguments.steps))
    fitted.gaussians.save(arguments.gaussians)
    textured(fitted.mesh, fitted.gaussians, arguments.texture_size).save(arguments.output)
    print_line(f"{len(fitted.gaussians):,} Gaussians: {fitted.psnr:.1f} dB in views that were not fitted")
    off = compared(fitted.mesh, mesh).to_made
    print_line(
        f"{len(fitted.mesh.faces):,} triangles; the object's surface is {off.mean():.2%} of its diagonal away "
        f"on average, {np.quantile(off, 0.99):.2%} at 99 of 100 points. Inside, where no voxels are, is a cavity."
    )


if __name__ == "__main__":
    main()
