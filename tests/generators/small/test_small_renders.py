# SPDX-License-Identifier: Apache-2.0
"""tools/small_renders.py and tools/train_small_corrections.py: cameras are where the views are, and training lessens
the error in other views."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_columns import small_network
from test_objects import box

from img3d_generators.small.objects import Light, ObjectMesh, input_camera

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import small_renders
import small_training_set
import train_small
import train_small_corrections

VIEWS = [(20.0, 10.0), (110.0, 30.0), (250.0, -5.0)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> small_training_set.Arrays:
    """Three views of one box, with points on its surface."""
    shape = ObjectMesh.framed(box((1.0, 0.6, 0.4)))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"VIEWS": len(VIEWS), "POINTS": 512}.items():
            patch.setattr(small_training_set, name, value)
        arrays = small_training_set.Arrays.of(tmp_path_factory.mktemp("set"), 1)
    for i, (azimuth, elevation) in enumerate(VIEWS):
        placement = shape.placed(azimuth, elevation)
        assert placement is not None
        picture = shape.pictures(placement, input_camera(), small_training_set.SIZE)
        parts = [255 * picture.premultiplied, 255 * picture.alpha, 127 * picture.normals + 128]
        arrays.images[0, i] = torch.cat(parts, dim=-1)[0].round().byte().numpy()
        arrays.placements[0, i] = placement.numpy()
    corners = shape.mesh.vertices[shape.mesh.faces]
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), 512)
    arrays.points[0] = np.einsum("ni,nij->nj", shares, corners[np.arange(512) % len(corners)])
    return arrays


def test_an_object_seen_by_these_cameras_looks_as_in_the_views(arrays: small_training_set.Arrays) -> None:
    shape = ObjectMesh.framed(box((1.0, 0.6, 0.4)))
    placements = torch.from_numpy(arrays.placements[0].copy())
    poses = small_renders.camera_poses(placements)
    torch.testing.assert_close(poses[0], input_camera()[0])
    rendered = shape.pictures(placements[0], poses, small_training_set.SIZE).lit(Light())
    assert (rendered - arrays.pictures(0, Light())).abs().mean() < 0.003


def test_other_views_show_the_object_where_it_is_mirrored_or_not(arrays: small_training_set.Arrays) -> None:
    """Points of the surface fall on covered pixels, and fill them."""
    rng = np.random.default_rng(0)
    batch = train_small.batch_of(arrays, np.zeros(12, int), rng, CPU, others=2)
    is_mirrored = torch.linalg.det(batch.placement[:, :, :3]) < 0
    assert 0 < is_mirrored.sum() < 12
    assert batch.views.shape == (12, 2, 4, 128, 128) and batch.poses.shape == (12, 2, 3, 4)
    torch.testing.assert_close(torch.linalg.det(batch.poses[..., :3]), torch.ones(12, 2))
    in_world = batch.points @ batch.placement[:, :, :3].transpose(1, 2) + batch.placement[:, None, :, 3]
    rays = in_world[:, None] - batch.poses[:, :, None, :, 3]
    x, y, z = (rays @ batch.poses[..., :3]).unbind(dim=-1)
    focal = train_small.focal_length(train_small.LGM_FOV, 128)
    column, row = (64 - focal * x / z).long(), (64 + focal * y / z).long()
    alpha = batch.views[:, :, 3].flatten(2)
    assert alpha.gather(2, row * 128 + column).mean() > 0.97
    seen = torch.zeros_like(alpha).scatter_(2, row * 128 + column, 1.0).view(24, 1, 128, 128)
    filled = torch.nn.functional.max_pool2d(seen, 15, stride=1, padding=7).view_as(alpha)
    assert filled[alpha > 0.5].mean() > 0.97


def test_the_number_of_other_views_changes_nothing_else(arrays: small_training_set.Arrays) -> None:
    one, other = (
        train_small.batch_of(arrays, np.zeros(4, int), np.random.default_rng(0), CPU, others=others)
        for others in (0, 2)
    )
    assert one.views.shape[1] == 0
    torch.testing.assert_close(one.picture, other.picture)
    torch.testing.assert_close(one.colours, other.colours)


def test_scores_of_views() -> None:
    truth = torch.ones(2, 4, 8, 8)
    truth[:, 3, :4] = 0
    guess = truth - torch.tensor([0.1, 0.01])[:, None, None, None]
    guess[:, 3, 4:6] = 0
    psnr, overlap = small_renders.view_scores(guess, truth)
    assert psnr == pytest.approx(30, abs=0.01) and overlap == pytest.approx(0.5)


def test_training_the_corrections_lessens_the_error_in_other_views(
    arrays: small_training_set.Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the corrections change. The network says of every bin that it may be occupied."""
    for name, value in {"OBJECTS": 1, "OTHERS": 2, "PEAK_LR": 0.1, "WARMUP": 1}.items():
        monkeypatch.setattr(train_small_corrections, name, value)
    torch.manual_seed(0)
    network = small_network()
    torch.nn.init.zeros_(network.head.bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = train_small.batch_of(arrays, np.zeros(2, int), np.random.default_rng(0), CPU, augment=False, others=2)

    def loss() -> float:
        with torch.no_grad():
            return float(train_small.render_loss(network, train_small.features_of(network, batch), batch))

    first = loss()
    train_small_corrections.train(network, arrays, np.array([0]), 8, CPU)
    assert loss() < first - 0.1
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"correction.weight", "correction.bias"}


def test_renders_are_not_compared_with_textured_pictures(arrays: small_training_set.Arrays) -> None:
    network = small_network()
    batch = train_small.batch_of(arrays, np.zeros(2, int), np.random.default_rng(0), CPU, others=2)
    batch.textured[:] = True
    loss = train_small.render_loss(network, train_small.features_of(network, batch), batch)
    assert loss == 0 and loss.requires_grad  # a step that drew no others goes on
