# SPDX-License-Identifier: Apache-2.0
"""Each service against its fake: what it takes, what it is sent, what it says, and what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_service import Reply
from shops import FAKES, IN_QUEUES, Shop, is_box

from img3d_assets.gaussians import Gaussians
from img3d_base.errors import InputError
from img3d_generators.services.adapter import ImmediateAdapter, Order
from img3d_generators.services.pictures import read_picture
from img3d_generators.services.registry import services
from img3d_generators.services.settings import form_value

OpenShop = Callable[..., Shop]
SEVERAL = [name for name, row in services().items() if row.max_pictures > 1]
TEXTS = [name for name, row in services().items() if row.takes_text]


def test_each_service_has_a_fake() -> None:
    assert set(FAKES) == set(services())


@pytest.mark.parametrize("name", FAKES)
def test_a_picture_becomes_a_mesh(shop: OpenShop, name: str) -> None:
    here = shop(name)
    pictures = here.pictures()
    made = here.order(pictures)
    assert is_box(made) and here.fake.jobs == 1
    record = json.loads(here.job.read_text())
    assert record["state"] == "ready" and record["terms"].startswith("https://") and record["answer"]
    assert record["order"] == {
        **{"kind": "image", "pictures": ["photo0.jpg"], "prompt": "", "model": "default", "seed": 0},
        **{"settings": {}, "gives": "Mesh"},
    }
    assert here.job.stat().st_mode & 0o077 == 0
    assert all(b"private description" not in each.body for each in here.fake.requests)
    assert all(b"photo0" not in each.body for each in here.fake.requests)
    asked = len(here.fake.requests)
    assert is_box(here.order(pictures)) and len(here.fake.requests) == asked, "the second time nothing is asked"
    here.order(here.pictures(names=["other"]), seed=1)
    assert here.fake.jobs == 2


@pytest.mark.parametrize("name", SEVERAL)
def test_several_pictures_become_a_mesh(shop: OpenShop, name: str) -> None:
    here = shop(name)
    assert is_box(here.order(here.pictures(3)))
    assert here.fake.jobs == 1
    with pytest.raises(InputError, match=f"takes at most {services()[name].max_pictures} pictures"):
        here.order(here.pictures(6))


def test_one_picture_only(shop: OpenShop) -> None:
    here = shop("stability")
    with pytest.raises(InputError, match="at most 1 picture of one object; there are 2"):
        here.order(here.pictures(2))
    with pytest.raises(InputError, match="takes a picture, not a text"):
        here.order(prompt="a chair")


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_becomes_a_mesh(shop: OpenShop, name: str) -> None:
    here = shop(name)
    assert is_box(here.order(prompt=" a red chair "))
    assert here.fake.jobs == (2 if name in ("meshy", "csm") else 1)
    bodies = [each.body for each in here.fake.requests if each.method == "POST"]
    assert b"a red chair" in bodies[0]
    assert json.loads(here.job.read_text())["order"]["prompt"] == "a red chair"


def test_meshys_text_is_previewed_then_painted(shop: OpenShop) -> None:
    here = shop("meshy")
    settings = ["enable_pbr=true", "texture_prompt=rust", "topology=quad", "target_polycount=500", "should_remesh=true"]
    here.order(prompt="a chair", settings=settings)
    preview, refine = (each.json for each in here.fake.sent("POST", "/openapi/v2/text-to-3d"))
    assert preview == {
        **{"mode": "preview", "prompt": "a chair", "ai_model": "latest", "target_formats": ["glb"]},
        **{"topology": "quad", "target_polycount": 500, "should_remesh": True},
    }
    assert refine == {
        **{"mode": "refine", "preview_task_id": "task-1", "ai_model": "latest", "target_formats": ["glb"]},
        **{"enable_pbr": True, "texture_prompt": "rust"},
    }
    assert json.loads(here.job.read_text())["cost_in_credits"] == 30
    bare = shop("meshy")
    bare.order(prompt="a bare chair", settings=["should_texture=false"])
    assert bare.fake.jobs == 1


def test_tripos_pictures_show_sides(shop: OpenShop) -> None:
    here = shop("tripo")
    here.order(here.pictures(names=["back", "front"]))
    (body,) = (each.json for each in here.fake.sent("POST", "/v3/generation/.*"))
    assert [next(iter(each)) for each in body["inputs"]] == ["front", "back"]
    front = here.fake.tokens[body["inputs"][0]["front"]]
    assert front == read_picture(here.folder / "front.jpg").content
    here.order(here.pictures(names=["a", "b", "c"]))
    body = here.fake.sent("POST", "/v3/generation/.*")[-1].json
    assert [next(iter(each)) for each in body["inputs"]] == ["front", "left", "back"]
    for names in (["back", "left"], ["front", "other"]):
        with pytest.raises(InputError, match="name the pictures after the sides"):
            here.order(here.pictures(names=names))


def test_tripo_gives_gaussians(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    from img3d_assets.splat_files import read_splats, write_splats
    from img3d_generators.services.orders import remote_asset

    rng = np.random.default_rng(0)
    count = 50
    made = Gaussians(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        quats=np.tile(np.array([[1, 0, 0, 0]], np.float32), (count, 1)),
        log_scales=np.full((count, 3), -3, np.float32),
        opacities=np.full(count, 2, np.float32),
        sh_dc=np.zeros((count, 3), np.float32),
        sh_rest=np.zeros((count, 0, 3), np.float32),
        up="y",
    )
    here = shop("tripo", output="splat_url")
    write_splats(made, here.folder / "made.spz", "y")
    here.fake.files = {"/files/asset.spz": (here.folder / "made.spz").read_bytes()}
    (picture,) = here.pictures()
    got = here.order([picture], gives="Gaussians")
    assert got.path.suffix == ".spz" and len(read_splats(got.path)[0]) == count
    again = remote_asset("tripo", picture, gives="Gaussians", cache_dir=here.cache)
    assert isinstance(again, Gaussians) and again.up is not None
    for what, message in (({"settings": ["pbr=true"]}, "no models and settings"), ({"model": "x"}, "no models and")):
        with pytest.raises(InputError, match=message):
            here.order([picture], gives="Gaussians", **what)
    with pytest.raises(InputError, match="of one picture only"):
        here.order(here.pictures(2), gives="Gaussians")
    meshy = shop("meshy")
    with pytest.raises(InputError, match="Meshy gives Mesh, not Gaussians"):
        meshy.order(meshy.pictures(), gives="Gaussians")


def test_rodin_takes_pictures_with_a_text(shop: OpenShop) -> None:
    here = shop("rodin")
    here.order(here.pictures(), prompt="a chair", seed=7, model="Sketch")
    (request,) = here.fake.sent("POST", "/api/v2/rodin")
    assert request.form["prompt"] == [b"a chair"] and request.form["seed"] == [b"7"]
    assert request.form["tier"] == [b"Sketch"]
    with pytest.raises(InputError, match="seeds from 0 to 65535"):
        here.order(here.pictures(), seed=65_536)
    meshy = shop("meshy")
    with pytest.raises(InputError, match="pictures or a text, not both"):
        meshy.order(meshy.pictures(), prompt="a chair")


# ------------------------------------------------------------------------------------------------ documented fields

MODELS_OF_SETTINGS = {
    **{("stability", name): "stable-point-aware-3d" for name in ("target_type", "target_count", "guidance_scale")},
    ("fal", "resolution"): "fal-ai/trellis-2",
    ("fal", "enable_pbr"): "fal-ai/hunyuan-3d/v3.1/pro/image-to-3d",
    ("fal", "face_count"): "fal-ai/hunyuan-3d/v3.1/pro/image-to-3d",
}
VALUES = {bool: "true", int: "600", float: "0.9", str: "words", list: "1,2,-1"}


@pytest.mark.parametrize("name", FAKES)
def test_each_setting_is_sent(shop: OpenShop, name: str) -> None:
    here = shop(name)
    pictures = tuple(map(read_picture, here.pictures()))
    adapter = services()[name].connected(here.pace)
    for setting, about in adapter.SETTINGS.items():
        text = about.choices[-1] if about.choices else VALUES[about.kind]
        if about.low is not None:
            text = f"{about.low:g}" if about.kind is float else str(int(about.low))
        value = about.parsed(setting, text)
        model = MODELS_OF_SETTINGS.get((name, setting), "")
        what: dict[str, Any] = {"prompt": "a chair"} if about.only == ("text",) else {"pictures": pictures}
        here.fake.requests.clear()
        order = Order(**what, model=model, settings={setting: value})  # pyright: ignore[reportArgumentType]
        if isinstance(adapter, ImmediateAdapter):
            adapter.make(order, here.folder / "made.glb")
        else:
            adapter.submit(order)
        request = here.fake.requests[-1]
        if request.headers["content-type"] == "application/json":
            assert str(request.json[setting]) in (str(value), text)
        else:
            (sent,) = request.form[setting]
            assert sent.decode() == form_value(value).replace(".0", "") or float(sent) == value
    adapter.client.close()


@pytest.mark.parametrize("name", FAKES)
def test_wrong_settings_cost_one_line(shop: OpenShop, name: str) -> None:
    here = shop(name)
    known = services()[name].adapter_class().SETTINGS
    pictures = here.pictures()
    for text in ("nonsense=1", next(iter(known)), "", "=1"):
        with pytest.raises(InputError, match=r"has no setting .*; it has NAME=VALUE with"):
            here.order(pictures, settings=[text])
    for setting, about in known.items():
        wrong = {"bool": "maybe", "int": "1.5", "float": "x", "list": "1,2", "str": "no such"}[about.kind.__name__]
        if about.kind is str and not about.choices:
            wrong = "x" * 3000
        with pytest.raises(InputError, match=f"^{setting} is .*: it has to be"):
            here.order(pictures, settings=[f"{setting}={wrong}"])
        if about.high is not None and about.kind in (int, float):
            with pytest.raises(InputError, match="it has to be"):
                here.order(pictures, settings=[f"{setting}={about.high + 1:g}"])
    assert not here.fake.requests, "nothing was sent"


def test_settings_belong_to_kinds_of_orders_and_models(shop: OpenShop) -> None:
    meshy, stability, tripo = shop("meshy"), shop("stability"), shop("tripo")
    with pytest.raises(InputError, match="image_enhancement is for image and images"):
        meshy.order(prompt="a chair", settings=["image_enhancement=true"])
    with pytest.raises(InputError, match="vertex_count is for stable-fast-3d"):
        stability.order(stability.pictures(), settings=["vertex_count=5"], model="stable-point-aware-3d")
    with pytest.raises(InputError, match="has the models stable-fast-3d and stable-point-aware-3d, not x"):
        stability.order(stability.pictures(), model="x")
    with pytest.raises(InputError, match="negative_prompt is for text"):
        tripo.order(tripo.pictures(), settings=["negative_prompt=x"])
    for here in (meshy, stability, tripo):
        assert not here.fake.jobs and not list(here.cache.glob("remote-*")), "nothing was ordered or kept"
    with pytest.raises(InputError, match="texts of at most 600"):
        meshy.order(prompt="x" * 601)
    with pytest.raises(InputError, match="texts of at most 1024"):
        tripo.order(prompt="x" * 1025)


@pytest.mark.parametrize(("model", "kind"), [("fal-ai/trellis", "a text"), ("fal-ai/trellis", "several pictures")])
def test_fals_models_take_what_they_take(shop: OpenShop, model: str, kind: str) -> None:
    here = shop("fal")
    what: dict[str, Any] = {"prompt": "a chair"} if kind == "a text" else {"pictures": here.pictures(2)}
    with pytest.raises(InputError, match=f"{model} does not take {kind}"):
        here.order(model=model, **what)
    with pytest.raises(InputError, match="Application not found"):
        here.order(here.pictures(), model="nobody/nothing")


@pytest.mark.parametrize("result", ["model_mesh", "model_glb"])
def test_fals_models_name_their_results(shop: OpenShop, result: str) -> None:
    here = shop("fal", result=result)
    assert is_box(here.order(here.pictures(), model="fal-ai/trellis-2"))
    odd = shop("fal", result="odd")
    with pytest.raises(InputError, match="has none of model_mesh, model_glb"):
        odd.order(odd.pictures(), seed=5)


# --------------------------------------------------------------------------------------------- states and refusals

FAILURES = [
    ("meshy", {"states": ["PENDING", "FAILED"], "error": "The image violates our content policy."}, "content policy"),
    ("meshy", {"states": ["CANCELED"]}, "it was cancelled"),
    ("csm", {"states": ["queued", "failed"], "error": "moderation"}, "moderation"),
    ("csm", {"states": ["cancelled"]}, "it was cancelled"),
    ("tripo", {"states": ["running", "failed"], "error": "Content policy violation"}, "Content policy violation"),
    *(("tripo", {"states": [state]}, reason) for state, reason in (
        ("banned", "refused as against the rules"), ("cancelled", "it was cancelled"), ("expired", "too old"),
        ("unknown", "does not know its state"),
    )),
    ("fal", {"refusal": [{"loc": ["body", "image_url"], "msg": "The content was flagged by a content checker.",
                          "type": "content_policy_violation", "input": "x"}]}, "flagged by a content checker"),
    ("rodin", {"states": [("Generating", "Failed")]}, "gives no reason"),
    ("rodin", {"states": [("Done", "Canceled")]}, "it was cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "reason"), FAILURES)
def test_a_failed_job_costs_one_line_and_may_be_ordered_again(
    shop: OpenShop, name: str, how: dict[str, Any], reason: str
) -> None:
    here = shop(name, **how)
    pictures = here.pictures()
    with pytest.raises(InputError, match=f"could not make it: .*{reason}"):
        here.order(pictures)
    assert json.loads(here.job.read_text())["state"] == "failed"
    here.fake.states, here.fake.refusal = FAKES[name]().states, None  # pyright: ignore[reportAttributeAccessIssue]
    assert is_box(here.order(pictures)) and here.fake.jobs == 2


REFUSALS = [
    ("meshy", {}, Reply(402, {"message": "Insufficient credits"}), "no credits left.*Insufficient credits"),
    ("meshy", {}, Reply(400, {"message": "bad image"}), r"refuses the request \(HTTP 400\) \(bad image\)"),
    ("meshy", {}, Reply(403, {"message": "CORS"}), "does not permit this with the key in MESHY_API_KEY"),
    ("csm", {}, Reply(500, {"statusCode": 500, "message": "oops"}), r"trouble of its own \(HTTP 500\) \(oops\)"),
    ("csm", {}, Reply(401, {"message": "no"}), "does not accept the key in CSM_API_KEY"),
    ("tripo", {"code": 2010}, None, "not enough credits"),
    ("tripo", {"code": 2002}, None, r"refuses \(code 2002\): .*Your credit is not enough Please top up"),
    ("stability", {}, Reply(403, {"id": "1", "name": "content_moderation", "errors": ["flagged"]}), "moderation"),
    ("stability", {}, Reply(402, {"name": "payment_required", "errors": ["You lack credits"]}), "You lack credits"),
    ("stability", {}, Reply(413, {"errors": ["too large"]}), "the picture is too large"),
    ("stability", {"refusal": Reply(200, b"glTF", {"finish-reason": "CONTENT_FILTERED"})}, None, "moderation flagged"),
    ("stability", {"refusal": Reply(200, b"<html>")}, None, "something else than a GLB"),
    ("fal", {}, Reply(403, {"detail": "User is locked. Reason: Exhausted balance."}), "Exhausted balance"),
    ("fal", {}, Reply(422, {"detail": [{"msg": "field required"}]}, {"X-Fal-Retryable": "false"}), "field required"),
    ("rodin", {"error": "API_INSUFFICIENT_FUNDS"}, None, "no credits are left"),
    ("rodin", {"error": "SOMETHING"}, None, "refuses: Not enough credits"),
]


@pytest.mark.parametrize(("name", "how", "reply", "message"), REFUSALS)
def test_a_refused_order_costs_one_line_and_nothing_else(
    shop: OpenShop, name: str, how: dict[str, Any], reply: Reply | None, message: str
) -> None:
    here = shop(name, **how)
    if reply is not None:
        here.fake.goes_wrong(".*", reply.status, reply.body, headers=reply.headers)
    with pytest.raises(InputError, match=message) as caught:
        here.order(here.pictures())
    assert "\n" not in str(caught.value) and here.fake.jobs == 0
    assert not list(here.cache.iterdir()), "no job is left"


@pytest.mark.parametrize("name", IN_QUEUES)
def test_unknown_states_and_answers_are_said(shop: OpenShop, name: str) -> None:
    here = shop(name, states=[("Odd",)] if name == "rodin" else ["ODD"])
    here.interrupt_after = 3
    if name == "rodin":  # whose states are not all documented: it goes on asking
        with pytest.raises(KeyboardInterrupt):
            here.order(here.pictures())
    else:
        with pytest.raises(InputError, match="unknown state ODD"):
            here.order(here.pictures())
    here.fake.goes_wrong(".*", 200, {"nothing": "useful"}, times=9)
    with pytest.raises(InputError, match="protocol may have changed"):
        here.order(here.pictures(names=["other"]))


BALANCES = {
    "meshy": "1000 credits",
    "csm": "77 credits (Maker)",
    "tripo": "99.5 credits, 20 more kept back for running tasks",
    "stability": "12.5 credits",
    "rodin": "4.5 credits",
}


@pytest.mark.parametrize("name", FAKES)
def test_balances(shop: OpenShop, name: str) -> None:
    here = shop(name)
    adapter = services()[name].connected(here.pace)
    assert adapter.balance() == BALANCES.get(name)
    if name in BALANCES:
        here.fake.goes_wrong(".*", 200, {"code": 0, "data": {}})
        with pytest.raises(InputError, match="protocol may have changed"):
            adapter.balance()
    adapter.client.close()


def test_an_order_knows_its_kind(shop: OpenShop) -> None:
    pictures = tuple(map(read_picture, shop("meshy").pictures(2)))
    assert [Order().kind, Order(pictures[:1]).kind, Order(pictures).kind] == ["text", "image", "images"]
