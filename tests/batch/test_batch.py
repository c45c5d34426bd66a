# SPDX-License-Identifier: Apache-2.0
"""img3d-batch: which items there are, what comes of each, and that one that fails harms no other."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from img3d_base.errors import InputError
from img3d_batch.command import make_all
from img3d_batch.items import Item, read_items
from img3d_batch.report import write_report
from img3d_batch.work import RESULT, Settings, kept_result, make

FAKE = (sys.executable, str(Path(__file__).with_name("fake_item_programs.py")))


def settings(folder: Path, memory_gb: float = 8.0, cores: float = 2) -> Settings:
    return Settings(folder / "out", ("scene.spz",), (), memory_gb, FAKE, cores)


def images(folder: Path, *names: str) -> list[Item]:
    """An item for each of these images."""
    for name in names:
        Image.new("RGB", (40, 30), "teal").save(folder / f"{name}.png")
    return [Item(f"{name}.png", folder / f"{name}.png", "", "img3d-object") for name in names]


def test_items_of_a_folder(tmp_path: Path) -> None:
    for name in ("chair", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "clip.mp4", "model.glb", "notes.txt"):
        (tmp_path / name).touch()
    found = {item.name: item.method for item in read_items(tmp_path, "")}
    assert found == {
        "a.jpg": "img3d-object",
        "chair": "img3d-splat",
        "clip.mp4": "img3d-splat",
        "model.glb": "img3d-mesh",
    }
    assert {item.method for item in read_items(tmp_path, "img3d-mvs")} == {"img3d-mvs"}


def test_items_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    table = tmp_path / "items.csv"
    table.write_text('name,data,text,method\none,photos,,\ntwo,,"a chair, old",img3d-some\n')
    one, two = read_items(table, "")
    assert (one.data, one.method) == (tmp_path / "photos", "img3d-splat")
    assert (two.text, two.method) == ("a chair, old", "img3d-some")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("", "nothing to make"),
        ("one,photos,a text,\n", "either data or a text"),
        ("one,,,\n", "either data or a text"),
        ("../one,photos,,\n", "name of a folder"),
        ("one,photos,,\none,photos,,\n", "more than once"),
        ("one,,a chair,\n", "name a method"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "photos").mkdir()
    table = tmp_path / "items.csv"
    table.write_text(f"name,data,text,method\n{rows}")
    with pytest.raises(InputError, match=says):
        read_items(table, "")


def test_an_item_is_made_once_and_again_if_something_else_is_asked(tmp_path: Path) -> None:
    (item,) = images(tmp_path, "chair")
    asked = settings(tmp_path)
    result = make(item, asked)
    assert (result.ok, result.files) == (True, ("scene.spz", "turn.gif")), result
    assert kept_result(item, asked) == result
    assert kept_result(item, Settings(asked.output_dir, ("mesh.glb",), (), 8.0, FAKE)) is None
    (asked.output_dir / item.name / "scene.spz").unlink()
    assert kept_result(item, asked) is None
    make(item, asked)
    assert "Continuing chair" in (asked.output_dir / item.name / "log.txt").read_text()


def test_a_failure_is_one_line_and_is_tried_again(tmp_path: Path) -> None:
    (item,) = images(tmp_path, "broken")
    result = make(item, settings(tmp_path))
    assert (result.ok, result.message) == (False, "ns-train: These photos share nothing.")
    assert kept_result(item, settings(tmp_path)) is None
    assert not json.loads((tmp_path / "out" / item.name / RESULT).read_text())["result"]["ok"]


def test_an_item_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    (item,) = images(tmp_path, "hungry")
    result = make(item, settings(tmp_path, memory_gb=0.3))
    assert not result.ok
    assert "needs more than the 0.3 GB" in result.message
    assert result.seconds < 50


@pytest.mark.parametrize(("set_by_user", "threads"), [(None, "3"), ("1", "1")])
def test_commands_use_as_many_threads_as_cores_are_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, threads: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    (item,) = images(tmp_path, "chair")
    asked = settings(tmp_path, cores=3)
    make(item, asked)
    assert f"{threads} threads" in (asked.output_dir / item.name / "log.txt").read_text().splitlines()


def test_the_report_has_a_row_for_each_and_hides_no_failure(tmp_path: Path) -> None:
    items = images(tmp_path, "chair", "broken")
    asked = settings(tmp_path)
    page = write_report(items, [make(item, asked) for item in items], asked.output_dir, 3.0).read_text("utf8")
    assert "2 items, 1 failed" in page
    assert "These photos share nothing." in page
    assert 'href="chair.png/scene.spz"' in page
    assert (asked.output_dir / "broken.png" / "input.jpg").is_file()


STARTS = 3


def test_twenty_items_of_which_one_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psutil")
    items = images(tmp_path, *(f"item {number}" for number in range(19)), "broken")
    asked = settings(tmp_path, memory_gb=0.5, cores=1)
    results = make_all(items, asked)
    assert [result.name for result in results] == [item.name for item in items]
    assert [result.name for result in results if not result.ok] == ["broken.png"]
    assert make_all(items[:19], asked) == results[:19]
    assert "19 items made before" in capsys.readouterr().out
    with pytest.raises(InputError, match="No machine has 6400 cores"):
        make_all(items, replace(asked, cores=6400))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:no"])
def test_an_address_where_no_cluster_is(tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="Ray cannot be reached at"):
        make_all(images(tmp_path, "chair"), settings(tmp_path), address=address)


def started_cluster(machine: dict[str, int]) -> Any:
    """A Ray cluster of two such machines, both of them this one. A busy one needs more than one try."""
    from ray.cluster_utils import Cluster

    for attempt in range(1, STARTS + 1):
        cluster = Cluster()
        try:
            cluster.add_node(**machine, include_dashboard=False)
            cluster.add_node(**machine)
            return cluster
        except Exception as error:
            cluster.shutdown()
            if attempt == STARTS:
                pytest.skip(f"Ray does not start on this machine: {str(error).splitlines()[0]}")


@pytest.mark.long
def test_twenty_items_on_a_cluster_of_two_machines_one_of_them_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    # Ray is at 127.0.0.1, as on Windows: elsewhere it is at the machine's address in the network, which some machines
    # cannot reach, and a driver asks there even if nodes listen at 127.0.0.1 only.
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    items = images(tmp_path, *(f"item {number}" for number in range(19)), "broken")
    asked = settings(tmp_path, memory_gb=0.5, cores=1)
    machine = {"num_cpus": 2, "memory": 2_000_000_000, "object_store_memory": 100_000_000}
    cluster = started_cluster(machine)
    try:
        results = make_all(items, asked, address=cluster.address)
        assert [result.name for result in results] == [item.name for item in items]
        assert [result.name for result in results if not result.ok] == ["broken.png"]
        assert make_all(items[:19], asked, address="127.0.0.1:1") == results[:19]  # no cluster is asked
        assert "19 items made before" in capsys.readouterr().out
        with pytest.raises(InputError, match="No machine has 64 cores"):
            make_all(items, replace(asked, cores=64), address=cluster.address)
    finally:
        cluster.shutdown()
