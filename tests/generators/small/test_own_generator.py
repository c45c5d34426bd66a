# SPDX-License-Identifier: Apache-2.0
"""benchmarks/own_generator.py: what is given, and what its measures say of known guesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import own_generator
import pytest
import torch
from own_generator import Task, chamfer, from_generator, from_plane, objects_of, scores, task_of, views_of_mesh
from test_objects import box

from img3d_assets.mesh_formats.glb import glb
from img3d_base.errors import InputError
from img3d_generators.procedural_objects import procedural_mesh
from img3d_generators.small.objects import ObjectMesh, read_object


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box."""
    path = tmp_path_factory.mktemp("objects") / "box.glb"
    path.write_bytes(glb(box((0.9, 1.0, 0.5))))
    return path


@pytest.fixture(scope="module")
def task(file: Path) -> Task:
    """The box as a task."""
    found = task_of("box", read_object(file), 0)
    assert found is not None
    return found


def test_a_task_is_the_same_every_time_and_its_views_are_all_around(file: Path, task: Task) -> None:
    again = task_of("box", read_object(file), 0)
    assert again is not None
    torch.testing.assert_close(again.given, task.given, atol=0, rtol=0)
    for low, high in own_generator.SECTORS.values():
        assert ((task.angles >= low) & (task.angles < high)).sum() >= 2
    assert 0 < task.given[3].mean() < 1


def test_the_truth_has_the_best_scores(file: Path, task: Task) -> None:
    perfect = views_of_mesh(read_object(file), task.placement, task.poses)
    psnr, ssim, overlap = scores(perfect, task.truth).mean(dim=0)
    assert psnr == 60 and ssim > 0.999 and overlap == 1
    other = views_of_mesh(ObjectMesh(box((1.0, 0.6, 1.0))), task.placement, task.poses)
    worse = scores(other, task.truth).mean(dim=0)
    assert worse[0] < 25 and worse[2] < 0.9


def test_chamfer_distance_is_after_scaling(task: Task) -> None:
    surface = task.truth.surface
    middle = (surface.min(axis=0) + surface.max(axis=0)) / 2
    same = chamfer(surface, surface)
    assert chamfer(middle + 1.1 * (surface - middle), surface) == pytest.approx(same, abs=0.005)
    assert chamfer(surface + [0.2, 0, 0], surface) > same + 0.03
    assert np.isnan(chamfer(surface[:0], surface))


def test_the_picture_on_a_plane_is_better_from_the_front_than_from_the_side(task: Task) -> None:
    overlap = scores(from_plane(task), task.truth)[:, 2]
    nearest, across = task.angles.argsort()[0], (task.angles - 90).abs().argsort()[0]
    assert overlap[nearest] > 0.6 > overlap[across]


def test_the_shipped_weights_guess_held_out_objects_much_better_than_a_plane() -> None:
    guess, psnr = from_generator("img3d-small"), {"guess": [], "plane": []}
    for seed in range(6):
        known = task_of("object", ObjectMesh.framed(procedural_mesh(seed, "held-out")), seed)
        assert known is not None
        for name, views in (("guess", guess(known)), ("plane", from_plane(known))):
            psnr[name].append(scores(views, known.truth)[:, 0].mean())
    better = torch.stack(psnr["guess"]) - torch.stack(psnr["plane"])
    assert better.mean() > 4 and better.min() > 0


def test_held_out_objects_are_those_of_the_index_or_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no held-out objects"):
        objects_of(tmp_path)
    for name in ("b.glb", "a.glb"):
        (tmp_path / name).touch()
    assert [path.name for path in objects_of(tmp_path)] == ["a.glb", "b.glb"]
    (tmp_path / "index.csv").write_text("file,split\na.glb,train\nb.glb,heldout\n")
    assert [path.name for path in objects_of(tmp_path)] == ["b.glb"]
