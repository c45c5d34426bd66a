# SPDX-License-Identifier: Apache-2.0
"""tools/small_training_set.py and tools/train_small.py: what is known of the objects, and that training goes on as if
it had not stopped."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from test_columns import small_network
from test_objects import box

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.glb import glb
from img3d_generators.networks.efficientnet_lite import folded
from img3d_generators.small.columns import INPUT_SIZE, column_rays
from img3d_generators.small.generator import load_small
from img3d_generators.small.objects import ObjectMesh, read_object

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import small_training_set
import train_small

GRID = small_training_set.GRID


def pack_folder(objects: Path, file: Path) -> int:
    """Packs a folder's meshes."""
    paths = small_training_set.mesh_files(objects)
    return small_training_set.pack(((path.stem, read_object(path)) for path in paths), file)


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arrays of three boxes, and in `copies` those of two deformed copies of each, with few views."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "objects").mkdir()
    for i, sides in enumerate([(1.0, 1.0, 0.6), (0.4, 1.0, 0.5), (1.0, 0.7, 1.0)]):
        (folder / "objects" / f"{i}.glb").write_bytes(glb(box(sides)))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"VIEWS": 2, "DIRECTIONS": 12, "POINTS": 512}.items():
            patch.setattr(small_training_set, name, value)
        assert pack_folder(folder / "objects", folder / "objects.npz") == 3
        small_training_set.Arrays.of(folder, 3)
        for i in range(3):
            small_training_set.render(folder / "objects.npz", folder, 0, i)
        (folder / "copies").mkdir()
        small_training_set.Arrays.of(folder / "copies", 6)
        for i in range(6):
            small_training_set.render(folder / "objects.npz", folder / "copies", 2, i)
    return folder


def at(point: tuple[float, float, float], distances: torch.Tensor) -> float:
    """The value at a point of the object's frame."""
    x, y, z = (int((each + 1) / 2 * GRID) for each in point)
    return float(distances[z, y, x])


def test_space_is_free_where_some_view_sees_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box without a lid: its inside is free, its walls are not, although they are thin."""
    mesh = box((1.0, 1.0, 1.0))
    top = mesh.vertices[:, 1] > 0
    mesh.faces = mesh.faces[~top[mesh.faces].all(axis=1)]
    half = float(mesh.vertices.max())
    distances = small_training_set.free_distances(ObjectMesh(mesh))
    assert at((0, 0.4, 0), distances) > 0.05
    assert at((0, 0.95, 0), distances) > 0.05
    assert abs(at((half, 0, 0), distances)) < 0.04
    solid = small_training_set.free_distances(ObjectMesh(box((1.0, 1.0, 1.0))))
    assert at((0, 0.4, 0), solid) < -0.05
    assert at((0.9, 0.9, 0.9), solid) > 0.05


def test_a_packed_object_is_the_file_s(training_set: Path) -> None:
    with np.load(training_set / "objects.npz") as packed:
        assert packed["names"].tolist() == ["0", "1", "2"]
        mesh = small_training_set.packed_object(packed, 1).mesh
    expected = read_object(training_set / "objects" / "1.glb").mesh
    np.testing.assert_allclose(mesh.vertices, expected.vertices, atol=1e-6)
    np.testing.assert_allclose(mesh.colors, expected.colors, atol=0.5 / 255)


def test_a_texture_is_packed(tmp_path: Path) -> None:
    plain = box((1.0, 1.0, 1.0))
    texture = np.random.default_rng(0).integers(255, size=(8, 8, 3), dtype=np.uint8)
    mesh = Mesh(plain.vertices, plain.faces, plain.colors, np.random.default_rng(1).random((8, 2), np.float32), texture)
    (tmp_path / "textured.glb").write_bytes(glb(mesh))
    pack_folder(tmp_path, tmp_path / "objects.npz")
    with np.load(tmp_path / "objects.npz") as packed:
        assert small_training_set.packed_object(packed, 0).mesh.texture is not None


def test_only_the_split_s_objects_are_packed(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,split\n0.glb,heldout\n1.glb,train\n")
    assert [path.name for path in small_training_set.mesh_files(tmp_path)] == ["1.glb"]


def test_targets_agree_with_the_picture(training_set: Path) -> None:
    """Occupied bins are behind covered pixels, points of the surface are in bins near the surface: a network that says
    so has a small loss."""
    arrays = small_training_set.Arrays.of(training_set)
    assert arrays.done.all()
    rng = np.random.default_rng(0)
    batch = train_small.batch_of(arrays, np.array([0, 1, 2]), rng, torch.device("cpu"))
    in_world = batch.points @ batch.placement[:, :, :3].transpose(1, 2) + batch.placement[:, None, :, 3]
    cell, column, _, inside = train_small.bins_of(in_world)
    assert inside.all()
    shown = train_small.column_inputs(batch.picture)[1]
    assert shown[torch.arange(3)[:, None], cell, column].float().mean() > 0.97
    network = small_network()
    features = train_small.features_of(network, batch)
    occupancy, colour, overlap = train_small.losses(network, features, batch, column_rays(), rng)
    assert occupancy.isfinite() and overlap == 0
    assert colour < 0.2  # all of a box has one colour, in several lights


def test_a_copy_has_another_shape_and_other_colours(training_set: Path) -> None:
    with np.load(training_set / "objects.npz") as packed:
        shape = small_training_set.packed_object(packed, 0)
    copies = [small_training_set.deformed(shape, np.random.default_rng(seed)).mesh for seed in (0, 0, 1)]
    np.testing.assert_array_equal(copies[0].vertices, copies[1].vertices)
    for one, other in ((shape.mesh, copies[0]), (copies[0], copies[2])):
        assert np.abs(one.vertices - other.vertices).max() > 0.05
        assert np.abs(one.colors - other.colors).max() > 0.005
        assert np.linalg.norm(other.vertices, axis=1).max() == pytest.approx(1)
    arrays = small_training_set.Arrays.of(training_set / "copies")
    assert arrays.done.all() and not np.array_equal(arrays.images[0], arrays.images[1])


def test_copies_of_validation_objects_are_not_trained_on(training_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_small, "VALIDATION_OBJECTS", 1)
    arrays = small_training_set.Arrays.of(training_set)
    objects, (other,) = train_small.split(arrays)
    copies, chosen = train_small.copies_of(objects, len(arrays.done), training_set / "copies")
    assert len(copies.done) == 6
    assert set(chosen.tolist()) == set(range(6)) - {2 * other, 2 * other + 1}


def test_sources_are_drawn_from_in_proportion_to_their_shares(
    training_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_small, "BATCH", 60)
    arrays = small_training_set.Arrays.of(training_set)
    sources = [train_small.Source(arrays, np.array([0]), 3), train_small.Source(arrays, np.array([1, 2]), 1)]
    batch = train_small.draw(sources, np.random.default_rng(0), torch.device("cpu"))
    free = (batch.distances / small_training_set.TRUNCATION * 127.5 + 127.5).round().byte().numpy()
    counts = [sum(np.array_equal(each[0], arrays.distances[i]) for each in free) for i in range(3)]
    assert sum(counts) == 60 and 38 <= counts[0] <= 52 and min(counts[1:]) >= 2


def test_a_new_training_has_a_pretrained_encoder_and_the_shipped_weights_if_wanted(tmp_path: Path) -> None:
    shipped = load_small().network.state_dict()
    encoder = train_small.first_weights(shipped=False, encoder=None)
    assert {name.partition(".")[0] for name in encoder} == {"encoder"}
    assert all(torch.equal(value, shipped[name]) for name, value in encoder.items())
    assert train_small.first_weights(shipped=True, encoder=None).keys() == shipped.keys()

    published = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(published, tmp_path / "efficientnet.pth")
    weights = train_small.first_weights(shipped=False, encoder=tmp_path / "efficientnet.pth")
    assert weights.keys() == encoder.keys()
    expected = folded(published)
    assert all(torch.equal(value, expected[name.removeprefix("encoder.")]) for name, value in weights.items())


def test_the_learning_rate_rises_briefly_and_falls_to_0() -> None:
    rates = [train_small.learning_rate(step, 1000) for step in range(1001)]
    peak = rates.index(max(rates))
    assert 0 < peak <= train_small.WARMUP
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == 0


def test_a_step_moves_every_weight_that_has_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon's matrices are views of the network's weights, not copies of them."""
    monkeypatch.setattr(train_small, "new_network", small_network)
    training = train_small.Training.started(torch.device("cpu"))
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    features = training.working.features(torch.rand(2, 4, INPUT_SIZE, INPUT_SIZE, dtype=torch.bfloat16))
    training.update((features.float() * torch.randn(features.shape)).sum(), 1.0)
    unmoved = [name for name, value in training.network.state_dict().items() if torch.equal(value, before[name])]
    assert {name.partition(".")[0] for name in unmoved} == {"head", "correction", "encoder"}, unmoved
    assert len(training.matrices) > 10


def test_a_stopped_training_goes_on_with_the_same_result(
    training_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    settings = {"BATCH": 2, "VALIDATION_OBJECTS": 1, "STEPS_PER_REPORT": 2, "SECONDS_PER_CHECKPOINT": 0.0}
    for name, value in settings.items():
        monkeypatch.setattr(train_small, name, value)
    monkeypatch.setattr(train_small, "new_network", small_network)

    def train(folder: Path) -> dict[str, torch.Tensor]:
        arguments = ["train_small.py", "--set", str(training_set), "--copies", str(training_set / "copies")]
        arguments += ["--folder", str(folder), "--steps", "4", "--renders", "1"]
        monkeypatch.setattr(sys, "argv", arguments)
        train_small.main()
        return torch.load(folder / "checkpoint.pt", weights_only=True)["average"]

    def stop(step: int, steps: int) -> float:
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, steps)

    try:
        whole = train(tmp_path / "whole")
        rate = train_small.learning_rate
        monkeypatch.setattr(train_small, "learning_rate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped")
        monkeypatch.setattr(train_small, "learning_rate", rate)
        resumed = train(tmp_path / "stopped")
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    for folder in ("whole", "stopped"):
        with (tmp_path / folder / "curve.csv").open() as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]


def test_a_schedule_cannot_start_after_the_checkpoint(
    training_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(train_small, "new_network", small_network)
    arguments = ["train_small.py", "--set", str(training_set), "--folder", str(tmp_path), "--first", "5"]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        with pytest.raises(SystemExit) as stopped:
            train_small.main()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert stopped.value.code == 2
    assert "--first 5: the checkpoint is of step 0" in capsys.readouterr().err
