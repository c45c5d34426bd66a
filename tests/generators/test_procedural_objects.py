# SPDX-License-Identifier: Apache-2.0
"""Procedural objects: the same from the same seed, whole, in their place, and seen by the cameras that are promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from img3d_assets.mesh_sampling import points_on_mesh
from img3d_generators.cameras import LGM_RADIUS
from img3d_generators.procedural_objects import MAX_RADIUS, Split, object_views, procedural_mesh, procedural_object

seeds = st.integers(0, 2**31)
splits = st.sampled_from(["train", "held-out"])


@settings(max_examples=20, deadline=None)
@given(seeds, splits)
def test_objects_are_proper_gaussians_within_their_sphere(seed: int, split: Split) -> None:
    gaussians = procedural_object(seed, split)
    radius = gaussians.means.norm(dim=1).max()
    assert 0.75 * MAX_RADIUS < radius < 1.01 * MAX_RADIUS
    assert torch.allclose(gaussians.quats.norm(dim=1), torch.ones(len(gaussians)), atol=1e-4)
    assert gaussians.colors.min() >= 0
    assert gaussians.colors.max() <= 1
    assert gaussians.scales.min() > 0


def test_a_seed_gives_one_object() -> None:
    once, again = procedural_object(5), procedural_object(5)
    assert torch.equal(once.means, again.means)
    assert torch.equal(once.colors, again.colors)


def test_held_out_objects_are_others() -> None:
    assert not torch.equal(procedural_object(5).means, procedural_object(5, "held-out").means)


def test_surfaces_have_no_holes() -> None:
    """Inside the silhouette, a few pixels from its edge, nothing shines through."""
    for seed in range(8):
        alpha = object_views(seed, "held-out", 0, 2).alpha
        inside = -torch.nn.functional.max_pool2d(-(alpha > 0.5).float(), 7, stride=1, padding=3) > 0
        assert (alpha[inside] > 0.9).float().mean() > 0.995


def test_the_gaussians_lie_flat_on_the_surface() -> None:
    """Neighbours on the surface are in the plane of the two long axes: the short one points outwards."""
    for seed in range(8):
        gaussians = procedural_object(seed)
        w, x, y, z = gaussians.quats.unbind(dim=1)
        normals = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], dim=1)
        chosen = torch.arange(0, len(gaussians), 50)
        offsets = gaussians.means - gaussians.means[chosen, None]
        nearest = offsets.norm(dim=2).topk(5, largest=False).indices[:, 1:]
        towards = torch.nn.functional.normalize(offsets.gather(1, nearest[..., None].expand(-1, -1, 3)), dim=2)
        out_of_plane = (towards * normals[chosen, None]).sum(dim=2).abs()
        assert out_of_plane.median() < 0.1
        outwards = ((gaussians.means - gaussians.means.mean(dim=0)) * normals).sum(dim=1) > 0
        assert outwards.float().mean() > 0.6  # all of them on one convex solid


@pytest.mark.parametrize("seed", range(4))
def test_the_mesh_is_the_same_object(seed: int) -> None:
    """The Gaussians lie on its triangles, of which each faces outwards: their signed volume is positive."""
    mesh, gaussians = procedural_mesh(seed), procedural_object(seed)
    corners = mesh.vertices[mesh.faces]
    distances, _ = KDTree(points_on_mesh(mesh, 20_000, seed=0).points).query(gaussians.means.numpy())
    assert np.quantile(distances, 0.99) < 0.02
    assert np.linalg.det(corners).sum() / 6 > 0.01
    assert 0 <= mesh.colors.min() and mesh.colors.max() <= 1


def test_views_are_from_where_they_are_said_to_be() -> None:
    views = object_views(3, "train", num_inputs=2, num_novel=6)
    assert views.rgb.shape == (8, 3, 128, 128)
    assert views.alpha.shape == (8, 1, 128, 128)
    positions = views.camera_to_worlds[:, :, 3]
    assert torch.allclose(positions.norm(dim=1), torch.full((8,), LGM_RADIUS), atol=1e-5)
    elevations = (positions[:, 1] / LGM_RADIUS).asin().rad2deg()
    assert elevations[:2].min() >= -5
    assert elevations[:2].max() <= 25
    azimuths = torch.atan2(positions[2:, 0], positions[2:, 2]).rad2deg() % 360
    gaps = azimuths.sort().values.diff()
    assert gaps.max() < 120  # one in each sixth of the circle


def test_a_view_with_transparency_gives_the_view_on_white_again() -> None:
    views = object_views(3, "train", num_inputs=1, num_novel=0)
    rgb, alpha = views.rgba(0).split([3, 1])
    assert torch.allclose(rgb * alpha + 1 - alpha, views.rgb[0], atol=2e-3)
