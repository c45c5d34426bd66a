# SPDX-License-Identifier: Apache-2.0
"""Keys stay secret, nothing is sent without being agreed to, and the command `img3d-remote`."""

from __future__ import annotations

import json
import logging
import pickle
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_service import KEY, SIGNATURE
from shops import FAKES, IN_QUEUES, Shop, is_box

from img3d_base.console import CONSOLE
from img3d_base.errors import InputError
from img3d_generators.services import command
from img3d_generators.services.keys import ApiKey, clean_text, find_key, without_secrets
from img3d_generators.services.orders import remote_asset
from img3d_generators.services.registry import service, services

OpenShop = Callable[..., Shop]
Said = Callable[[], str]


# ------------------------------------------------------------------------------------------------------------- keys


def test_keys_come_from_the_environment_or_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ("IMG3D_TEST_KEY", "IMG3D_OTHER_KEY")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert find_key("meshy", variables) is None

    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})  # pyright: ignore[reportAttributeAccessIssue]
    ring = types.ModuleType("keyring")
    ring.get_password = lambda place, name: f"{place}-{name}"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "keyring", ring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    found = find_key("meshy", variables)
    assert found is not None and found.reveal() == "img3d-meshy" and "keyring" in found.name

    def locked(*_: str) -> str:
        raise errors.KeyringError("no")  # pyright: ignore[reportAttributeAccessIssue]

    ring.get_password = locked  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="keyring cannot be read"):
        find_key("meshy", variables)
    monkeypatch.setenv("IMG3D_OTHER_KEY", f" {KEY}\n")
    found = find_key("meshy", variables)
    assert found is not None and found.reveal() == KEY and found.name == "IMG3D_OTHER_KEY"


@pytest.mark.parametrize("value", ["two words", "schlüssel", "line\nbreak"])
def test_what_cannot_be_a_key_is_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMG3D_TEST_KEY", value)
    with pytest.raises(InputError, match="IMG3D_TEST_KEY cannot be a key") as caught:
        find_key("meshy", ("IMG3D_TEST_KEY",))
    assert value not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    key = ApiKey(KEY, "MESHY_API_KEY")
    assert KEY not in f"{key} {key!r} {[key]}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_without_a_key_one_line_says_where_to_get_it(shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shop("rodin")
    monkeypatch.delenv("HYPER3D_API_KEY")
    with pytest.raises(InputError, match="set the environment variable HYPER3D_API_KEY, .*keyring.*made at https://"):
        here.order(here.pictures())
    monkeypatch.setenv("RODIN_API_KEY", KEY)
    assert is_box(here.order(here.pictures()))


def test_secrets_are_taken_out_of_answers() -> None:
    key = ApiKey(KEY, "K")
    kept = without_secrets(
        {
            "message": f"key {KEY} is wrong, see https://user:pw@x.example/a?Signature={SIGNATURE}#f.",
            "urls": [f"https://x.example/a.glb?X-Amz-Signature={SIGNATURE}", f"s3://x?{KEY}"],
            "file_token": "abc",
            "subscription_key": "abc",
            "nested": {"Authorization": "Bearer abc", "credits": 5, "done": True, "secret": ""},
            "image": "data:image/png;base64," + "A" * 9999,
        },
        [key],
    )
    text = json.dumps(kept)
    assert KEY not in text and SIGNATURE not in text and "pw@" not in text and "abc" not in text
    assert kept["urls"][0] == "https://x.example/a.glb" and kept["nested"]["credits"] == 5 and len(text) < 800
    assert clean_text("plain text", [key]) == "plain text"


@pytest.mark.parametrize("name", FAKES)
def test_no_key_in_errors_logs_and_tracebacks(
    shop: OpenShop, name: str, caplog: pytest.LogCaptureFixture, nothing_secret_is_printed: Said
) -> None:
    caplog.set_level(logging.DEBUG)
    here = shop(name)
    echo = {"message": f"Invalid key {KEY} at https://x.example/?Signature={SIGNATURE}", "errors": [KEY], "detail": KEY}
    for status in (400, 401, 403, 500):
        here.fake.goes_wrong(".*", status, echo, times=here.attempts)
        with pytest.raises(InputError) as caught:
            here.order(here.pictures())
        here.fake.mishaps.clear()
        assert KEY not in str(caught.value) and SIGNATURE not in str(caught.value) and "…" in str(caught.value)
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        ours = [frame for frame in frames if "img3d_generators" in frame.f_code.co_filename]
        assert ours and KEY not in repr([frame.f_locals for frame in ours]), "tracebacks can show local variables"
    assert is_box(here.order(here.pictures()))
    posts = here.fake.sent("POST", ".*")
    assert posts and all(each.headers.get(here.fake.header) == here.fake.scheme + KEY for each in posts)
    assert KEY not in caplog.text and SIGNATURE not in caplog.text
    assert KEY not in nothing_secret_is_printed()


# ---------------------------------------------------------------------------------------------------------- consent


def answer(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """A terminal on which somebody types this, or ends the input."""

    def typed(*_: object, **__: object) -> str:
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(CONSOLE, "input", typed)


@pytest.mark.parametrize("name", FAKES)
def test_nothing_is_sent_without_agreement(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, nothing_secret_is_printed: Said, name: str
) -> None:
    here, row = shop(name), service(name)
    with pytest.raises(InputError, match="nothing was sent: there is no terminal to ask on; agree with --pipeline.yes"):
        here.order(here.pictures(), yes=False)
    host = here.fake.url.removeprefix("http://")
    said = nothing_secret_is_printed()
    assert f"To {row.title} ({host}) goes: the pixels of photo0.jpg (90 x 70 pixels, 0.0 MB), without names" in said
    assert row.price in said and row.terms in said and row.caution in said
    for text in ("n", "", None):
        answer(monkeypatch, text)
        with pytest.raises(InputError, match="^nothing was sent$"):
            here.order(here.pictures(), yes=False)
    assert not here.fake.requests and not list(here.cache.iterdir())
    answer(monkeypatch, " Y ")
    assert is_box(here.order(here.pictures(), yes=False))


def test_texts_and_settings_are_announced_too(shop: OpenShop, nothing_secret_is_printed: Said) -> None:
    here = shop("meshy")
    here.order(prompt="a chair", settings=["topology=quad"])
    assert "goes: the text “a chair”; the settings topology." in nothing_secret_is_printed()


def test_there_has_to_be_something_to_send(shop: OpenShop) -> None:
    here = shop("meshy")
    with pytest.raises(InputError, match="of a picture .--data. or of a text"):
        here.order(prompt="  ")
    (here.folder / "no.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="no.png"):
        here.order([here.folder / "no.png"])
    with pytest.raises(InputError, match="There is no service 'x'; there are: meshy, csm"):
        remote_asset("x", here.folder / "no.png")
    with pytest.raises(InputError, match="^Which service; there are: meshy"):
        service("")


# ------------------------------------------------------------------------------------------------------ the command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of img3d-remote with these arguments."""
    monkeypatch.setattr(sys, "argv", ["img3d-remote", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_list_and_price_send_nothing(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, nothing_secret_is_printed: Said
) -> None:
    here = shop("tripo")
    assert run(monkeypatch, "list") == 0 and run(monkeypatch, "price") == 0 and run(monkeypatch, "list", "tripo") == 0
    said = nothing_secret_is_printed()
    for row in services().values():
        assert row.title in said and row.prices in said and row.keys[0] in said
    assert "key in TRIPO_API_KEY" in said and "face_limit = 1..2e+06: largest number of faces" in said
    assert not here.fake.requests
    assert run(monkeypatch, "price", "nobody") == 1


def test_balance(shop: OpenShop, monkeypatch: pytest.MonkeyPatch, nothing_secret_is_printed: Said) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert run(monkeypatch, "balance", "meshy") == 1
    shop("meshy"), shop("fal")
    assert run(monkeypatch, "balance") == 0
    said = nothing_secret_is_printed()
    assert "meshy 1000 credits" in said
    assert "fal fal documents no request for what is left; see https://fal.ai/dashboard/keys" in said
    broken = shop("tripo")
    broken.fake.goes_wrong(".*", 401, {"message": "no"})
    assert run(monkeypatch, "balance") == 1
    said = nothing_secret_is_printed()
    assert "tripo unknown: Tripo does not accept the key in TRIPO_API_KEY" in said and "1 of 3 services" in said


@pytest.mark.parametrize("name", IN_QUEUES)
def test_resume_downloads_what_was_interrupted(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, nothing_secret_is_printed: Said, name: str
) -> None:
    here = shop(name)
    here.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        here.order(here.pictures())
    here.fake.states = here.fake.states[-1:]
    assert run(monkeypatch, "resume", here.cache) == 0
    assert f"{service(name).title} made {here.job.with_suffix('.glb')}" in nothing_secret_is_printed()
    assert is_box(here.order(here.pictures(), yes=False)) and here.fake.jobs == 1
    assert run(monkeypatch, "resume", here.job) == 0
    assert "No unfinished jobs" in nothing_secret_is_printed()


def test_resume_says_what_it_cannot_finish(
    shop: OpenShop, monkeypatch: pytest.MonkeyPatch, nothing_secret_is_printed: Said
) -> None:
    here = shop("meshy")
    here.fake.goes_wrong(".*", taken=True)
    with pytest.raises(InputError):
        here.order(here.pictures())
    assert run(monkeypatch, "resume", here.cache) == 1
    assert "no answer is known" in nothing_secret_is_printed()
    assert run(monkeypatch, "resume", here.folder / "nowhere") == 1
    monkeypatch.chdir(here.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here.folder / "empty"))
    assert run(monkeypatch, "resume") == 0


def test_rows_are_complete() -> None:
    for row in services().values():
        assert row.base_url.startswith("https://") and row.key_page.startswith("https://")
        assert row.adapter_class().MODELS and row.adapter_class().SETTINGS and row.price
        assert (Path(command.__file__).parent / "adapters" / f"{row.name}.py").is_file(), "a file a service"


def test_the_command_starts_without_nerfstudio_and_torch() -> None:
    import subprocess

    script = "import sys, img3d_generators.services.command; print({'torch', 'nerfstudio', 'httpx'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()" and result.stderr == ""
