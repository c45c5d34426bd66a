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
import train_small_corrections

VIEWS = [(20.0, 10.0), (110.0, 30.0), (250.0, -5.0)]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> small_training_set.Arrays:
    """Three views of one box."""
    shape = ObjectMesh.framed(box((1.0, 0.6, 0.4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_training_set, "VIEWS", len(VIEWS))
        arrays = small_training_set.Arrays.of(tmp_path_factory.mktemp("set"), 1)
    for i, (azimuth, elevation) in enumerate(VIEWS):
        placement = shape.placed(azimuth, elevation)
        assert placement is not None
        picture = shape.pictures(placement, input_camera(), small_training_set.SIZE)
        parts = [255 * picture.premultiplied, 255 * picture.alpha, 127 * picture.normals + 128]
        arrays.images[0, i] = torch.cat(parts, dim=-1)[0].round().byte().numpy()
        arrays.placements[0, i] = placement.numpy()
    return arrays


def test_an_object_seen_by_these_cameras_looks_as_in_the_views(arrays: small_training_set.Arrays) -> None:
    shape = ObjectMesh.framed(box((1.0, 0.6, 0.4)))
    placements = torch.from_numpy(arrays.placements[0].copy())
    poses = small_renders.camera_poses(placements)
    torch.testing.assert_close(poses[0], input_camera()[0])
    rendered = shape.pictures(placements[0], poses, small_training_set.SIZE).lit(Light())
    assert (rendered - arrays.pictures(0, Light())).abs().mean() < 0.003


def test_training_lessens_the_error_in_other_views(
    arrays: small_training_set.Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the corrections change. The network says of every bin that it may be occupied."""
    monkeypatch.setattr(small_renders, "OBJECTS", 1)
    monkeypatch.setattr(train_small_corrections, "PEAK_LR", 0.1)
    monkeypatch.setattr(train_small_corrections, "WARMUP", 1)
    torch.manual_seed(0)
    network = small_network()
    torch.nn.init.zeros_(network.head.bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cpu, views = torch.device("cpu"), np.arange(len(VIEWS))

    def error() -> float:
        with torch.no_grad():
            guess, truth = small_renders.seen(network, arrays, 0, views, Light(), cpu)
        return float(small_renders.errors(guess, truth)[1:].mean())

    first = error()
    train_small_corrections.train(network, arrays, np.array([0]), 8, cpu)
    assert error() < 0.9 * first
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"correction.weight", "correction.bias"}
