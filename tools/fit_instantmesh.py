# SPDX-License-Identifier: Apache-2.0
"""Trains a small InstantMesh on Zero123++'s six views of one mesh, and makes a mesh of these views by it: the whole
path from views to a mesh, to look at it where the published weights are not at hand. 250 steps take two minutes of a
core's time.

    OMP_NUM_THREADS=1 .venv/bin/python tools/fit_instantmesh.py spot.obj spot.glb
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from compared_surfaces import compared
from fit_triplane import placed, scene_of
from jaxtyping import Float, Float32
from scipy.spatial import KDTree
from torch import Tensor

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_base.console import print_line
from img3d_base.progress import with_progress
from img3d_generators.cameras import TO_FRONT_ON_Z, ZERO123PLUS_RIGS
from img3d_generators.instantmesh.cameras import RADIUS, camera_numbers
from img3d_generators.instantmesh.generator import asset_of_views
from img3d_generators.instantmesh.heads import MeshHead, Texels
from img3d_generators.instantmesh.network import InstantMesh, InstantMeshConfig
from img3d_generators.networks.vision_transformer import VitConfig
from img3d_generators.posed_views import PosedViews
from img3d_kernels.poses import intrinsics

RIG = ZERO123PLUS_RIGS["v1.2"]
VIEW_SIZE = 160
OBJECT_RADIUS = 0.45
"""Radius of the object's bounding sphere in the world of the views; their frames show 0.5."""
SCALE = RIG.radius / RADIUS
"""Units of that world per unit of the network's."""
CONFIG = InstantMeshConfig(
    image_size=VIEW_SIZE,
    vit=VitConfig(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4),
    plane_size=24,
    channels=64,
    num_layers=2,
    num_heads=4,
    plane_channels=16,
)
NUM_SAMPLES = 300_000
"""Points on the mesh, from which distances and colours are taken."""
SPREADS = (0.01, 0.05)
"""Standard deviations of points around the mesh, in the network's world; as many points are anywhere in the box."""
NUM_ANYWHERE = 50_000
"""Points anywhere in the box, whose distances are computed once: so far from the mesh, that takes twice as long as the
rest of a step."""
CLAMPED_AT = 0.1
"""Distances beyond this are as good as this."""


def views_of(mesh: Mesh) -> PosedViews:
    """Zero123++'s views of a mesh that is `placed`."""
    scene, poses = scene_of(mesh), RIG.camera_to_worlds()
    pictures = [scene.render(pose, intrinsics(RIG.fov, VIEW_SIZE), VIEW_SIZE, VIEW_SIZE) for pose in poses]
    return PosedViews(
        torch.stack([(rgb + 1 - alpha).permute(2, 0, 1) for rgb, _, alpha, _ in pictures]), poses, RIG.fov
    )


class Target:
    """Distances and colours of a mesh, in the network's world.

    Args:
        mesh: The mesh, which is `placed`.
        random: Chooses points anywhere in the box.
    """

    def __init__(self, mesh: Mesh, random: np.random.Generator) -> None:
        sampled = points_on_mesh(mesh, NUM_SAMPLES)
        assert sampled.normals is not None
        to_network = TO_FRONT_ON_Z.numpy()
        self.points = (sampled.points @ to_network / SCALE).astype(np.float32)
        self.normals = sampled.normals @ to_network
        self.colors = sampled.colors
        self.tree = KDTree(self.points)
        half = CONFIG.grid_scale / 2
        self.anywhere = random.uniform(-half, half, (NUM_ANYWHERE, 3)).astype(np.float32)
        self.from_anywhere = self.distances(self.anywhere)

    def distances(self, points: Float[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N"]:
        """Signed distances, negative inside."""
        _, nearest = self.tree.query(points)
        away = points - self.points[nearest]
        outside = np.sign((away * self.normals[nearest]).sum(axis=1))
        return (np.linalg.norm(away, axis=1) * outside).astype(np.float32)

    def batch(
        self, random: np.random.Generator, count: int
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"], Float[Tensor, "M 3"], Float[Tensor, "M 3"]]:
        """Points, their signed distances, points on the surface, and the colours there."""
        on_surface = random.integers(len(self.points), size=count)
        near = np.concatenate(
            [self.points[on_surface] + spread * random.normal(size=(count, 3)) for spread in SPREADS]
        ).astype(np.float32)
        anywhere = random.integers(NUM_ANYWHERE, size=count)
        arrays = (
            np.concatenate([near, self.anywhere[anywhere]]),
            np.concatenate([self.distances(near), self.from_anywhere[anywhere]]),
            self.points[on_surface],
            self.colors[on_surface].astype(np.float32),
        )
        points, distances, seen, colors = map(torch.from_numpy, arrays)
        return points, distances, seen, colors


def train(mesh: Mesh, views: PosedViews, steps: int, count: int, seed: int = 0) -> InstantMesh:
    """A network that makes the distances and colours of a mesh that is `placed` of these views."""
    torch.manual_seed(seed)
    network, random = InstantMesh(CONFIG), np.random.default_rng(seed)
    target = Target(mesh, random)
    head, cameras = network.head, camera_numbers(views)
    assert isinstance(head, MeshHead)
    for unused in (head.net_deformation, head.net_weight):  # a plain grid
        for parameter in unused[-1].parameters():
            torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    for _ in with_progress(range(steps), "Training", steps):
        points, distances, seen, colors = target.batch(random, count)
        texels = Texels(network(views.images[None], cameras[None])[0])
        made = head.net_sdf(texels.features(points))[:, 0]
        near = made.clamp(-CLAMPED_AT, CLAMPED_AT) - distances.clamp(-CLAMPED_AT, CLAMPED_AT)
        off = near.abs().mean() + 0.1 * (made - distances).abs().mean()
        loss = off / CLAMPED_AT + torch.nn.functional.mse_loss(head.colors(texels, seen), colors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return network.eval().requires_grad_(False)


def main() -> None:
    """Trains, generates, compares and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path, help="a closed mesh")
    parser.add_argument("output", type=Path, help="the generated mesh")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--points", type=int, default=4096, help="points on the surface in a step")
    parser.add_argument("--texture-size", type=int, default=0)
    arguments = parser.parse_args()
    mesh, up = read_mesh(arguments.mesh)
    mesh.up = up
    mesh = placed(mesh, OBJECT_RADIUS)
    views = views_of(mesh)
    network = train(mesh, views, arguments.steps, arguments.points)
    made = asset_of_views(network, views, texture_size=arguments.texture_size)
    assert isinstance(made, Mesh)
    made.save(arguments.output)
    print_line(f"{len(made.faces):,} triangles in {arguments.output}, {compared(made, mesh)}")


if __name__ == "__main__":
    main()
