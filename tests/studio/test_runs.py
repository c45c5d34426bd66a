# SPDX-License-Identifier: Apache-2.0
"""The way of a run through the studio: upload, choose, wait, look, export, edit; cancel, fail, resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_studio import FakeStudio, picture

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_files import write_splats
from img3d_studio.choices import choice_named, expected_time
from img3d_studio.progress import _of_table


def is_over(run: dict) -> bool:
    return run["state"] in ("done", "failed", "cancelled") and run["running"] is None


def test_photos_become_a_scene_and_files(studio: FakeStudio) -> None:
    run = studio.draft()
    offered = studio.client.post(f"/api/runs/{run}/choices", json={}).json()
    assert offered["input"] == "3 photos"
    assert [choice["name"] for choice in offered["choices"] if choice["first"]] == ["splats-fast", "splats", "mesh"]
    studio.begin(run)
    shown = studio.wait(run, is_over)
    assert shown["state"] == "done", shown
    assert "the scene" in studio.client.get(f"/runs/{run}/page/index.html").text
    assert studio.client.get(f"/runs/{run}/picture.jpg").headers["content-type"] == "image/jpeg"

    studio.client.post(f"/api/runs/{run}/files/mesh.glb")
    studio.wait(run, lambda shown: any(file["name"] == "mesh.glb" and file["megabytes"] for file in shown["files"]))
    got = studio.client.get(f"/runs/{run}/files/mesh.glb")
    assert got.content == b"exported"
    assert "Photos.glb" in got.headers["content-disposition"]
    assert [each["title"] for each in studio.client.get("/api/runs").json()["runs"]] == ["Photos"]


def test_a_video_is_shown_by_its_first_frame_once_it_is_taken(studio: FakeStudio) -> None:
    run = studio.draft(num_photos=0)
    uploads = studio.folder_of(run) / "input"
    (uploads / "walk.mp4").write_bytes(b"")
    assert not studio.show(run)["hasPicture"]
    frames = uploads / ".img3d" / "frames-0123"
    frames.mkdir(parents=True)
    (frames / "frame_00001.jpg").write_bytes(picture())
    assert studio.show(run)["hasPicture"]
    assert studio.client.get(f"/runs/{run}/picture.jpg").headers["content-type"] == "image/jpeg"


def test_the_time_of_earlier_runs_is_the_expected_one(studio: FakeStudio) -> None:
    run = studio.draft()
    assert "3 to 6 minutes" in studio.client.post(f"/api/runs/{run}/choices", json={}).json()["choices"][0]["time"]
    studio.begin(run)
    studio.wait(run, is_over)
    later = studio.client.post(f"/api/runs/{studio.draft()}/choices", json={}).json()["choices"][0]["time"]
    assert "as before on this machine" in later


def test_progress_is_read_from_the_log(studio: FakeStudio) -> None:
    run = studio.draft()
    (studio.folder_of(run) / "hold").touch()
    studio.begin(run)
    working = studio.wait(run, lambda shown: bool(shown["running"] and shown["running"]["live"]))["running"]
    assert working["doing"] == "Training"
    assert working["fraction"] == pytest.approx(0.025)
    assert working["placed"] == "12 of 12 photos placed"
    assert working["details"] == "step 50, 35,525 Gaussians, 22.6 dB, 2 m, 31 s left"
    (studio.folder_of(run) / "hold").unlink()
    studio.wait(run, is_over)


def test_one_job_runs_at_a_time_and_others_wait(studio: FakeStudio) -> None:
    first, second = studio.draft(), studio.draft()
    (studio.folder_of(first) / "hold").touch()
    studio.begin(first)
    studio.wait(first, lambda shown: shown["running"] is not None)
    studio.begin(second)
    assert studio.show(second)["state"] == "queued"
    assert studio.show(second)["waitsFor"] == "Photos"
    (studio.folder_of(first) / "hold").unlink()
    assert studio.wait(second, is_over)["state"] == "done"


def test_a_cancelled_run_goes_on_from_its_checkpoint(studio: FakeStudio) -> None:
    run = studio.draft()
    (studio.folder_of(run) / "hold").touch()
    studio.begin(run)
    studio.wait(run, lambda shown: bool(shown["running"] and shown["running"]["live"]))
    assert studio.client.post(f"/api/runs/{run}/cancel").json()["state"] == "cancelled"
    (studio.folder_of(run) / "hold").unlink()
    studio.client.post(f"/api/runs/{run}/resume")
    assert studio.wait(run, is_over)["state"] == "done"
    assert "Continuing" in studio.client.get(f"/runs/{run}/log.txt").text


def test_what_ran_when_the_studio_ended_goes_on_when_it_starts_again(studio: FakeStudio, tmp_path: Path) -> None:
    run = studio.draft()
    (studio.folder_of(run) / "hold").touch()
    studio.begin(run)
    studio.wait(run, lambda shown: bool(shown["running"] and shown["running"]["live"]))
    studio.queue.stop()
    assert studio.show(run)["state"] == "running"
    (studio.folder_of(run) / "hold").unlink()
    again = FakeStudio(tmp_path / "studio")
    with again.client:
        assert again.wait(run, is_over)["state"] == "done"
        assert "Continuing" in again.client.get(f"/runs/{run}/log.txt").text


def test_a_failure_says_why_and_can_be_tried_again(studio: FakeStudio) -> None:
    run = studio.draft()
    (studio.folder_of(run) / "fail").touch()
    studio.begin(run)
    shown = studio.wait(run, is_over)
    assert (shown["state"], shown["message"]) == ("failed", "These photos share nothing.")
    (studio.folder_of(run) / "fail").unlink()
    studio.client.post(f"/api/runs/{run}/resume")
    assert studio.wait(run, is_over)["state"] == "done"


def test_deleting_a_run_ends_it_and_removes_its_files(studio: FakeStudio) -> None:
    run = studio.draft()
    (studio.folder_of(run) / "hold").touch()
    studio.begin(run)
    studio.wait(run, lambda shown: shown["running"] is not None)
    studio.client.delete(f"/api/runs/{run}")
    assert not studio.folder_of(run).exists()
    assert studio.client.get(f"/api/runs/{run}").status_code == 404


def some_splats(count: int = 200) -> Gaussians:
    random = np.random.default_rng(0)
    means = random.uniform(-1, 1, (count, 3)).astype(np.float32)
    return Gaussians(
        means,
        np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        np.full((count, 3), -3, np.float32),
        np.full(count, 4, np.float32),
        np.zeros((count, 3), np.float32),
        np.zeros((count, 0, 3), np.float32),
        up="y",
    )


def test_splats_are_cut_where_the_page_says(studio: FakeStudio, tmp_path: Path) -> None:
    file = tmp_path / "cloud.ply"
    write_splats(some_splats(), file, "y")
    run = studio.draft(num_photos=0)
    assert studio.put(run, "cloud.ply", file.read_bytes()).json()["kind"] == "splats"
    studio.begin(run, "show-splats")
    studio.wait(run, is_over)
    keep = [[0, 0.5], [0.5, 1], [0, 1]]  # the left half, its upper half
    answer = studio.client.post(f"/api/runs/{run}/edit", json={"clean": True, "keep": keep})
    assert answer.status_code == 200, answer.text
    studio.wait(run, lambda shown: shown["edited"] and shown["edit"]["state"] == "done")
    edit = json.loads(next(job.argument for job in studio.store.jobs() if job.kind == "edit"))
    assert edit["clean"]
    assert np.allclose(edit["box"]["high"][0], 0, atol=0.15)  # in the page's axes, y up
    assert np.allclose(edit["box"]["low"][1], 0, atol=0.15)
    assert edit["box"]["high"][1] > 1e5

    studio.client.post(f"/api/runs/{run}/edit", json={"clean": False, "keep": [[0, 1]] * 3})
    studio.wait(run, lambda shown: not shown["edited"] and shown["edit"]["state"] == "done")
    assert studio.client.post(f"/api/runs/{run}/edit", json={"clean": 1, "keep": [[1, 0]] * 3}).status_code == 422


def test_files_do_not_change_after_a_run_has_begun(studio: FakeStudio) -> None:
    run = studio.draft()
    studio.begin(run)
    assert studio.put(run, "more.jpg", picture()).status_code == 409
    studio.wait(run, is_over)


def test_a_text_names_the_weights_that_are_missing_and_is_made_with_them(
    studio: FakeStudio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("img3d_studio.choices.generated", lambda takes: ())
    monkeypatch.setattr("img3d_generators.pairing.available", lambda name: None)
    run = studio.draft(num_photos=0)
    answer = studio.client.post(f"/api/runs/{run}/choices", json={"text": "a red chair"})
    assert answer.status_code == 422
    assert "img3d-weights fetch stable-diffusion-2.1-base (" in answer.json()["error"]
    monkeypatch.setattr("img3d_generators.pairing.available", lambda name: tmp_path)
    offered = studio.client.post(f"/api/runs/{run}/choices", json={"text": "a red chair"}).json()
    assert [choice["name"] for choice in offered["choices"]] == ["shaped"]
    studio.client.post(f"/api/runs/{run}/start", json={"choice": "shaped", "text": "a red chair"})
    assert studio.wait(run, is_over)["state"] == "done"
    assert (studio.folder_of(run) / "outputs/scene/img3d-dreamfusion/run/config.yml").is_file()


@pytest.mark.parametrize(("time", "words"), [("3 to 6 minutes", "about 3 to 6 minutes"), ("minutes", "minutes")])
def test_the_time_of_what_was_never_made_here(time: str, words: str) -> None:
    choice = replace(choice_named("object"), time=time)
    assert expected_time(choice, []) == f"{words} on two cores"


@pytest.mark.parametrize(
    ("eta", "left"), [("2 m, 31 s", "2 m, 31 s"), ("11 s, 944.726 ms", "11 s"), ("944.726 ms", "1 s")]
)
def test_nobody_is_told_of_milliseconds(eta: str, left: str) -> None:
    assert _of_table(250, {"ETA (time)": eta}) == f"step 250, {left} left"
