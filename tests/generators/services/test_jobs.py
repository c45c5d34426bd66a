# SPDX-License-Identifier: Apache-2.0
"""Jobs that are interrupted, networks that fail, and links that expire: nothing is paid twice."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_service import SIGNATURE, box_glb
from filelock import FileLock
from shops import FAKES, IN_QUEUES, Shop, is_box

from img3d_base.errors import InputError
from img3d_generators.services import downloads, jobs
from img3d_generators.services.client import NotKnownWhetherTaken, ServiceError, check_address, retry_after
from img3d_generators.services.orders import remote_asset
from img3d_generators.services.registry import services

OpenShop = Callable[..., Shop]
Said = Callable[[], str]


# ---------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("name", IN_QUEUES)
def test_an_interrupted_job_is_picked_up(shop: OpenShop, nothing_secret_is_printed: Said, name: str) -> None:
    here = shop(name)
    pictures = here.pictures()
    here.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        here.order(pictures)
    assert "goes on at" in nothing_secret_is_printed()
    assert json.loads(here.job.read_text())["state"] == "ordered" and here.fake.jobs == 1
    here.interrupt_after = None
    assert is_box(here.order(pictures, yes=False)) and here.fake.jobs == 1, "nobody is asked, nothing is paid again"
    assert "Picking up the job" in nothing_secret_is_printed()


def test_the_job_is_written_down_before_it_is_waited_for(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shop("meshy")
    here.fake.goes_wrong("/openapi/v1/image-to-3d/task-1", times=9)
    with pytest.raises(InputError, match="the job task-1 is kept, the same command picks it up"):
        here.order(here.pictures())
    assert json.loads(here.job.read_text())["handle"] == {"id": "task-1", "path": "/openapi/v1/image-to-3d"}
    here.fake.mishaps.clear()
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1


@pytest.mark.parametrize("name", ["meshy", "csm"])
def test_the_second_stage_of_a_text_is_paid_once(shop: OpenShop, name: str) -> None:
    here = shop(name)
    path = "/openapi/v2/text-to-3d" if name == "meshy" else "/image-to-3d-sessions"
    here.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        here.order(prompt="a chair")
    here.interrupt_after = None
    here.fake.goes_wrong(path, 402, {"message": "no credits"})
    with pytest.raises(InputError, match="no credits"):
        here.order(prompt="a chair")
    assert here.fake.jobs == 1 and json.loads(here.job.read_text())["state"] == "ordered"
    assert is_box(here.order(prompt="a chair")) and here.fake.jobs == 2


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("status", [0, 502, 504])
def test_an_order_without_an_answer_is_not_repeated(shop: OpenShop, name: str, status: int) -> None:
    here = shop(name)
    posts = {"tripo": "/v3/generation/.*", "stability": "/v2beta/.*", "rodin": "/api/v2/rodin"}
    here.fake.goes_wrong(posts.get(name, ".*"), status, taken=True)
    pictures = here.pictures()
    with pytest.raises(NotKnownWhetherTaken, match="it may have been taken, and paid"):
        here.order(pictures)
    assert here.fake.jobs == 1
    with pytest.raises(NotKnownWhetherTaken, match="no answer is known. Look on its pages .*; delete .*json to order"):
        here.order(pictures)
    assert here.fake.jobs == 1, "nothing was paid a second time"
    here.job.unlink()
    assert is_box(here.order(pictures)) and here.fake.jobs == 2


def test_an_order_whose_answer_takes_too_long_is_not_repeated(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shop("meshy")
    monkeypatch.setattr(services()["meshy"].adapter_class(), "READ_SECONDS", 0.1)
    here.fake.goes_wrong("/openapi/v1/image-to-3d", slow=0.4)
    with pytest.raises(NotKnownWhetherTaken, match="ReadTimeout"):
        here.order(here.pictures())


def test_ctrl_c_before_anything_is_paid_leaves_nothing(shop: OpenShop, nothing_secret_is_printed: Said) -> None:
    here = shop("tripo")
    here.fake.goes_wrong("/v3/files", 503, times=9)
    here.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        here.order(here.pictures())
    assert not list(here.cache.iterdir()) and "goes on" not in nothing_secret_is_printed()


def test_a_job_that_the_service_forgot(shop: OpenShop) -> None:
    here = shop("meshy")
    here.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        here.order(here.pictures())
    here.interrupt_after = None
    here.fake.tasks.clear()
    with pytest.raises(InputError, match="does not know the job task-1 .*; delete .*json to order anew"):
        here.order(here.pictures())


def test_a_job_that_takes_too_long_is_kept(shop: OpenShop) -> None:
    here = shop("fal", states=["IN_PROGRESS"])
    here.longest_job = -1
    with pytest.raises(InputError, match="has not finished .*; the same command, or `img3d-remote resume`"):
        here.order(here.pictures())
    here.longest_job, here.fake.states = 3600, [*["IN_PROGRESS"] * 20, "COMPLETED"]
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1
    pauses = here.waits
    assert pauses[0] == 2 and all(pauses[i] <= pauses[i + 1] <= 15 for i in range(len(pauses) - 1))


def test_two_processes_do_not_order_the_same(shop: OpenShop) -> None:
    here = shop("meshy")
    here.order(here.pictures())
    made = json.loads(here.job.read_text())
    here.job.write_text(json.dumps({**made, "state": "ordered"}))
    with (
        FileLock(here.job.with_suffix(".lock")),
        pytest.raises(InputError, match="another process works on the job"),
    ):
        here.order(here.pictures())
    assert is_box(here.order(here.pictures()))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"service": "meshy", "state": "odd", "ending": ".glb"}',
                                  '{"service": "meshy", "state": "ordered", "ending": "/../x"}'])  # fmt: skip
def test_a_damaged_job_file_costs_one_line(shop: OpenShop, text: str) -> None:
    here = shop("meshy")
    here.order(here.pictures())
    here.job.write_text(text)
    with pytest.raises(InputError, match="delete it to make a new"):
        here.order(here.pictures())


def test_an_asset_that_is_gone_is_downloaded_again(shop: OpenShop) -> None:
    here, immediate = shop("meshy"), shop("stability")
    made = here.order(here.pictures())
    made.path.unlink()
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1
    immediate.order(immediate.pictures()).path.unlink()
    with pytest.raises(InputError, match="nothing was sent: there is no terminal"):
        immediate.order(immediate.pictures(), yes=False)


# ------------------------------------------------------------------------------------------------- network troubles


@pytest.mark.parametrize("name", FAKES)
def test_a_busy_service_is_waited_for(shop: OpenShop, name: str) -> None:
    here = shop(name)
    here.fake.goes_wrong(".*", 429, {"message": "busy"}, headers={"Retry-After": "7"})
    here.fake.goes_wrong(".*", 503, {})
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1
    assert here.waits[0] == 7 and 1.4 < here.waits[1] < 2.6


def test_a_service_that_stays_busy_costs_one_line(shop: OpenShop) -> None:
    here = shop("meshy")
    here.fake.goes_wrong(".*", 429, {"message": "Too many pending tasks"}, times=4)
    with pytest.raises(InputError, match="too many requests or jobs of this account.*Too many pending tasks"):
        here.order(here.pictures())
    here.fake.goes_wrong(".*", 429, headers={"Retry-After": "900"})
    with pytest.raises(InputError, match="asks to wait for 900 s"):
        here.order(here.pictures())
    assert here.fake.jobs == 0


@pytest.mark.parametrize("status", [0, 500, 502, 504, 408])
def test_a_question_that_fails_is_asked_again(shop: OpenShop, status: int) -> None:
    here = shop("meshy")
    here.fake.goes_wrong(".*/task-1", status, times=3)
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1


def test_a_service_that_is_not_there(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shop("meshy")
    monkeypatch.setenv("IMG3D_MESHY_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot be reached at 127.0.0.1:9 \(ConnectError\): is this machine online"):
        here.order(here.pictures())
    assert len(here.waits) == here.attempts - 1 and not list(here.cache.iterdir())
    monkeypatch.setenv("IMG3D_MESHY_URL", "http://example.com")
    with pytest.raises(InputError, match="have to begin with https"):
        here.order(here.pictures())


def test_redirects_get_no_key(shop: OpenShop) -> None:
    here = shop("csm")
    here.fake.goes_wrong(".*", 307, headers={"Location": "https://elsewhere.example/"})
    with pytest.raises(InputError, match="redirect, which is not followed with a key"):
        here.order(here.pictures())


@pytest.mark.parametrize("body", [b"<html>not JSON</html>", b"[" * 5000, b"\xff", b'"text"', b"null"])
def test_answers_that_are_not_what_they_should_be(shop: OpenShop, body: bytes) -> None:
    here = shop("meshy")
    here.fake.goes_wrong("/openapi/v1/image-to-3d/.*", 200, body)
    with pytest.raises(ServiceError) as caught:
        here.order(here.pictures())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_how_long_a_service_asks_to_wait() -> None:
    date = email.utils.formatdate(time.time() + 50, usegmt=True)
    assert retry_after({"Retry-After": "12"}) == 12
    assert 40 < (retry_after({"Retry-After": date}) or 0) <= 50
    assert retry_after({"Retry-After": "soon"}) is None and retry_after({}) is None


def test_addresses_are_encrypted_or_of_this_machine() -> None:
    for address in ("https://api.meshy.ai", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        check_address(address, "it")
    for address in (
        "http://api.meshy.ai",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://127.0.0.1.example",
        "http://[",
    ):
        with pytest.raises(ServiceError, match="have to begin with https"):
            check_address(address, "it")


# -------------------------------------------------------------------------------------------------------- downloads


def test_a_cut_download_is_resumed(shop: OpenShop) -> None:
    here = shop("meshy")
    size = len(box_glb())
    here.fake.goes_wrong("/files/.*", cut_after=size // 3)
    here.fake.goes_wrong("/files/.*", cut_after=size // 3)
    assert is_box(here.order(here.pictures()))
    ranges = [each.headers.get("range") for each in here.fake.sent("GET", "/files/.*")]
    assert ranges[0] is None and ranges[1] == f"bytes={size // 3}-" and ranges[2] == f"bytes={2 * (size // 3)}-"


def test_a_download_is_resumed_by_a_later_process(shop: OpenShop) -> None:
    here = shop("meshy")
    here.fake.goes_wrong("/files/.*", cut_after=100)
    here.interrupt_after = 3  # two pauses between questions, then the one after the cut
    with pytest.raises(KeyboardInterrupt):
        here.order(here.pictures())
    here.interrupt_after = None
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1
    assert here.fake.sent("GET", "/files/.*")[-1].headers["range"] == "bytes=100-"
    assert not list(here.cache.glob("*.part"))


def test_servers_that_cannot_resume_start_over(shop: OpenShop) -> None:
    here = shop("meshy", resumable=False)
    here.fake.goes_wrong("/files/.*", cut_after=100)
    assert is_box(here.order(here.pictures()))
    assert all("range" not in each.headers for each in here.fake.sent("GET", "/files/.*"))


def test_a_download_that_never_gets_on_ends(shop: OpenShop) -> None:
    here = shop("meshy")
    here.fake.goes_wrong("/files/.*", 503, times=99)
    with pytest.raises(InputError, match="hangs up or has trouble: run the command again, which costs nothing"):
        here.order(here.pictures())
    here.fake.mishaps.clear()
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1


@pytest.mark.parametrize("name", IN_QUEUES)
def test_expired_links_are_replaced(shop: OpenShop, name: str) -> None:
    here = shop(name)
    here.fake.goes_wrong("/files/.*", 403, b"expired", times=2)
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1
    here.fake.goes_wrong("/files/.*", 410, b"expired", times=9)
    with pytest.raises(InputError, match="the link to the result of .* has expired"):
        here.order(here.pictures(names=["other"]), seed=1)


@pytest.mark.parametrize("says_so", [True, False])
def test_too_large_a_file_is_refused(shop: OpenShop, monkeypatch: pytest.MonkeyPatch, says_so: bool) -> None:
    here = shop("meshy")
    monkeypatch.setattr(jobs, "MAX_BYTES", 1000)
    here.fake.files["/files/asset.glb"] = b"x" * 5000
    if not says_so:
        monkeypatch.setattr(downloads, "_length", lambda response: None)
    with pytest.raises(InputError, match="at most 1,000 are downloaded|more than 1,000 bytes"):
        here.order(here.pictures())


@pytest.mark.parametrize("content", [b"", b"glTF", b"not a mesh", box_glb()[:-20]])
def test_a_damaged_asset_is_removed_and_can_be_had_again(shop: OpenShop, content: bytes) -> None:
    here = shop("meshy")
    here.fake.files["/files/asset.glb"] = content
    with pytest.raises(InputError, match="what Meshy sent cannot be used, and is removed"):
        here.order(here.pictures())
    here.fake.files["/files/asset.glb"] = box_glb()
    assert is_box(here.order(here.pictures())) and here.fake.jobs == 1


def test_links_lead_to_encrypted_addresses_only(shop: OpenShop) -> None:
    here = shop("meshy")
    here.fake.goes_wrong("/files/.*", 302, headers={"Location": f"http://elsewhere.example/x?Signature={SIGNATURE}"})
    with pytest.raises(InputError, match="have to begin with https"):
        here.order(here.pictures())
    here.fake.goes_wrong("/files/.*", 302, headers={"Location": "/files/elsewhere"}, times=9)
    here.fake.goes_wrong("/files/elsewhere", 302, headers={"Location": "/files/elsewhere"}, times=9)
    with pytest.raises(InputError, match="without end"):
        here.order(here.pictures())


def test_the_librarys_function(shop: OpenShop, tmp_path: Path) -> None:
    here = shop("stability")
    (picture,) = here.pictures()
    remote_asset("stability", picture, yes=True, cache_dir=here.cache).save(tmp_path / "saved.glb")
    assert (tmp_path / "saved.glb").is_file()
