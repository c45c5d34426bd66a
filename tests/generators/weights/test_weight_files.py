# SPDX-License-Identifier: Apache-2.0
"""img3d-weights: nothing is downloaded unasked, nothing wrong is taken, nothing is left half. With a hub of our own."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, etag
from huggingface_hub import constants
from safetensors.torch import save

from img3d_base.errors import InputError
from img3d_generators.weights import checkpoints as checkpoints_module
from img3d_generators.weights import weight_files as weights_module
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.command import app, main
from img3d_generators.weights.weight_files import available, fetch, folder_of, how_to_get, problems_of, register, to_use

WEIGHTS = save({"weight": torch.arange(30_000.0)})
PICKLED_BUFFER = io.BytesIO()
torch.save({"weight": torch.arange(5.0)}, PICKLED_BUFFER)
PICKLED = PICKLED_BUFFER.getvalue()
CONFIGS = {
    "small-one": f"""
        name: small-one
        kind: lgm
        title: for tests
        licence: MIT
        licence_url: https://example.org/mit
        repository: somebody/small
        files:
          - {{path: model.safetensors, size: {len(WEIGHTS)}, sha256: "{hashlib.sha256(WEIGHTS).hexdigest()[:8]}"}}
    """,
    "two-sources": """
        name: two-sources
        kind: zero123plus
        title: for tests
        licence: CC-BY-NC-4.0
        licence_url: https://example.org/nc
        licence_note: and more
        repository: somebody/large
        gigabytes: 0.5
        files:
          - path: unet/config.json
          - {path: unet/weights.bin, repository: other/own, source: weights.bin}
          - path: vae/config.json
          - path: vae/weights.bin
    """,
}
FILES = {
    "somebody/small/model.safetensors": WEIGHTS,
    "somebody/large/unet/config.json": b'{"unet": 1}',
    "other/own/weights.bin": PICKLED,
    "somebody/large/vae/config.json": b'{"vae": 1}',
    "somebody/large/vae/weights.bin": PICKLED,
}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with two checkpoints, an empty cache of huggingface_hub, and an empty folder of weights."""
    configs = tmp_path / "img3d_generators" / "configs"
    configs.mkdir(parents=True)
    for name, content in CONFIGS.items():
        (configs / f"{name}.yaml").write_text(content)
    for module in (checkpoints_module, weights_module):
        monkeypatch.setattr(module, "PACKAGE", configs.parent)
    checkpoints_module.checkpoints.cache_clear()
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with FakeHub(dict(FILES)).serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served
    checkpoints_module.checkpoints.cache_clear()


Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs img3d-weights; gives what it printed."""

    def run(*arguments: str) -> str:
        app.cli(prog="img3d-weights", args=arguments)
        return capsys.readouterr().out

    return run


def files_below(folder: Path) -> list[str]:
    """All files, by their paths."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestFetch:
    @pytest.mark.parametrize("file", ["somebody/large/vae/config.json", "somebody/large/vae/weights.bin"])
    def test_what_differs_from_the_hub_s_checksum_is_not_taken(self, hub: FakeHub, tmp_path: Path, file: str) -> None:
        hub.etags[file] = etag(file, FILES[file] + b"!")
        with pytest.raises(InputError, match=r"has another checksum .*; it was removed: fetch it again"):
            fetch("two-sources")
        assert available("two-sources") is None
        assert not any(Path(file).name in kept for kept in files_below(tmp_path / "hub") if "vae" in kept)

    def test_what_nobody_has_a_checksum_of_is_not_taken(self, hub: FakeHub) -> None:
        hub.etags["somebody/large/vae/weights.bin"] = "W-some-server-s-own"
        with pytest.raises(InputError, match="cannot be verified: no checksum of it was published"):
            fetch("two-sources")
        assert available("two-sources") is None

    def test_gives_the_repository_s_folder_from_all_its_sources(self, hub: FakeHub, tmp_path: Path) -> None:
        folder = fetch("two-sources")
        assert folder == tmp_path / "weights" / "two-sources" == available("two-sources")
        assert files_below(folder) == ["unet/config.json", "unet/weights.bin", "vae/config.json", "vae/weights.bin"]
        assert (folder / "unet/weights.bin").read_bytes() == PICKLED
        assert (folder / "vae/config.json").read_bytes() == b'{"vae": 1}'

    def test_downloads_each_file_once(self, hub: FakeHub) -> None:
        fetch("small-one")
        hub.requests.clear()
        fetch("small-one")
        assert hub.requests == []

    def test_goes_on_where_it_was_cut_off(self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
        hub.cut_after = 50_000
        fetch("small-one")
        assert [asked for method, _, asked in hub.requests if method == "GET"] == ["", "bytes=50000-"]
        assert available("small-one") is not None

    def test_uses_what_the_hub_s_cache_has_already(self, hub: FakeHub) -> None:
        from huggingface_hub import hf_hub_download

        hf_hub_download("somebody/small", "model.safetensors")
        hub.requests.clear()
        assert available("small-one") == folder_of(checkpoint("small-one"))
        assert hub.requests == []

    def test_another_file_than_the_published_one_is_not_kept(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.files["somebody/small/model.safetensors"] = save({"weight": torch.zeros(30_000)})
        with pytest.raises(InputError, match=r"has another checksum .* it was removed: fetch it again"):
            fetch("small-one")
        assert available("small-one") is None
        assert not [name for name in files_below(tmp_path) if name.endswith("model.safetensors")]
        hub.files["somebody/small/model.safetensors"] = WEIGHTS
        fetch("small-one")

    def test_a_gated_repository(self, hub: FakeHub) -> None:
        hub.gated.add("somebody/small")
        with pytest.raises(InputError, match="requires accepting its terms: do so in a browser"):
            fetch("small-one")

    def test_a_file_that_is_not_there(self, hub: FakeHub) -> None:
        del hub.files["other/own/weights.bin"]
        with pytest.raises(InputError, match=r"weights\.bin of huggingface\.co/other/own cannot be downloaded"):
            fetch("two-sources")
        assert available("two-sources") is None

    def test_offline_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(
            InputError,
            match=r"hub cannot be reached; fetch model\.safetensors of huggingface\.co/somebody/small on another "
            r"machine, then: img3d-weights path small-one FILE",
        ):
            fetch("small-one")

    def test_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(InputError, match=r"hub is full: free some space there, or set HF_HOME"):
            fetch("small-one")
        assert available("small-one") is None


class TestRecordedChecksums:
    """Of files of which no checksum was published, the first one's is recorded and checked from then on."""

    def test_the_hub_must_give_the_same_file_again(self, hub: FakeHub, command: Command, tmp_path: Path) -> None:
        printed = command("fetch", "two-sources", "--yes")
        assert "No checksum of unet/config.json, unet/weights.bin, vae/config.json, … was published" in printed
        assert "is recorded and checked from now on" in printed.splitlines()[-1]
        (tmp_path / "weights" / "two-sources" / "vae" / "config.json").unlink()
        shutil.rmtree(tmp_path / "hub")
        hub.files["somebody/large/vae/config.json"] = b'{"vae": 2}'
        with pytest.raises(InputError, match="another checksum .* than the file installed first .* it was removed"):
            fetch("two-sources")
        hub.files["somebody/large/vae/config.json"] = b'{"vae": 1}'
        assert fetch("two-sources") == available("two-sources")

    def test_a_file_of_the_user_s_is_checked_like_one_of_the_hub_s(self, command: Command, tmp_path: Path) -> None:
        mine = tmp_path / "weights.bin"
        mine.write_bytes(PICKLED)
        command("path", "two-sources", str(mine))
        buffer = io.BytesIO()
        torch.save({"weight": torch.ones(5)}, buffer)
        mine.write_bytes(buffer.getvalue())
        with pytest.raises(InputError, match="than the file installed first .* nothing was registered"):
            register("two-sources", mine)
        mine.unlink()
        fetch("two-sources")  # its file is the one that was registered
        assert command("verify") == "two-sources: ok\n"

    def test_nothing_is_recorded_of_files_with_a_published_checksum(self, tmp_path: Path) -> None:
        fetch("small-one")
        assert not list((tmp_path / "weights").glob(".*.checksums.json"))

    @pytest.mark.parametrize("content", ["", "[1]", '{"vae/config.json": 1}'])
    def test_a_damaged_record_says_so(self, content: str, tmp_path: Path) -> None:
        fetch("two-sources")
        (tmp_path / "weights" / ".two-sources.checksums.json").write_text(content)
        with pytest.raises(InputError, match="records checksums of weights, is damaged: remove it"):
            problems_of(checkpoint("two-sources"))


class TestPath:
    def test_takes_a_file_wherever_it_is_and_whatever_its_name(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.safetensors"
        mine.write_bytes(WEIGHTS)
        register("small-one", mine)
        folder = available("small-one")
        assert folder is not None
        assert (folder / "model.safetensors").samefile(mine)

    def test_takes_a_clone_of_the_repository(self, tmp_path: Path) -> None:
        for name, content in FILES.items():
            path = tmp_path / "clone" / name.replace("other/own/", "unet/").removeprefix("somebody/large/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert len(register("two-sources", tmp_path / "clone")) == 4
        assert available("two-sources") is not None

    def test_takes_the_one_file_of_another_repository(self, tmp_path: Path) -> None:
        (tmp_path / "weights.bin").write_bytes(PICKLED)
        (taken,) = register("two-sources", tmp_path / "weights.bin")
        assert taken.path == "unet/weights.bin"
        assert available("two-sources") is None

    def test_tells_files_of_one_name_apart_by_their_folders(self, tmp_path: Path) -> None:
        (tmp_path / "vae").mkdir()
        (tmp_path / "vae" / "weights.bin").write_bytes(PICKLED)
        (taken,) = register("two-sources", tmp_path / "vae" / "weights.bin")
        assert taken.path == "vae/weights.bin"

    def test_asks_for_the_folder_where_it_cannot_tell(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(InputError, match="could be several .* give the folder that holds unet/config.json, vae"):
            register("two-sources", tmp_path / "config.json")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (WEIGHTS[:-1], "bytes instead of 120,080: it is another file, or cut short; nothing was registered"),
            (save({"weight": torch.zeros(30_000)}), "another checksum .* nothing was registered"),
        ],
    )
    def test_refuses_other_files(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=message):
            register("small-one", tmp_path / "model.safetensors")
        assert available("small-one") is None
        assert not (tmp_path / "weights").exists()

    def test_refuses_weights_that_are_cut_short_though_nothing_is_known_of_them(self, tmp_path: Path) -> None:
        (tmp_path / "weights.bin").write_bytes(PICKLED[:-100])
        with pytest.raises(InputError, match=r"weights\.bin is cut short or not a weights file"):
            register("two-sources", tmp_path / "weights.bin")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="There is no .*gone"):
            register("small-one", tmp_path / "gone")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="has none of the files of small-one, such as model.safetensors"):
            register("small-one", tmp_path / "empty")

    def test_a_file_that_has_gone_since_is_missing_again(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.safetensors"
        mine.write_bytes(WEIGHTS)
        register("small-one", mine)
        mine.unlink()
        assert available("small-one") is None


class TestUse:
    def test_without_weights_two_lines_say_what_to_run(self, hub: FakeHub) -> None:
        assert how_to_get("small-one").splitlines() == [
            "img3d-weights fetch small-one   (0 MB, MIT, from huggingface.co/somebody/small)",
            "img3d-weights path small-one FILE   (if you have it already: model.safetensors)",
        ]
        with pytest.raises(InputError, match="weights of small-one are not installed.\nimg3d-weights fetch small-one"):
            to_use("small-one")
        assert hub.requests == []

    def test_what_comes_with_the_package_is_in_it(self, tmp_path: Path) -> None:
        package = tmp_path / "img3d_generators"
        (package / "configs" / "own.yaml").write_text(
            "name: own\nkind: lgm\ntitle: t\nlicence: Apache-2.0\nfiles: [{path: own.safetensors}]\n"
        )
        checkpoints_module.checkpoints.cache_clear()
        assert available("own") is None
        with pytest.raises(InputError, match=r"own comes with img3d, but .*own\.safetensors is missing: install"):
            fetch("own")
        (package / "own.safetensors").write_bytes(WEIGHTS)
        assert to_use("own") == package
        with pytest.raises(InputError, match="there is nothing to register"):
            register("own", package / "own.safetensors")

    def test_a_licence_that_forbids_commercial_use_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        fetch("two-sources")
        for times_said in (1, 0):
            to_use("two-sources")
            printed = capsys.readouterr().out
            assert printed.count("CC-BY-NC-4.0: not for commercial purposes (https://example.org/nc)") == times_said
        fetch("small-one")
        to_use("small-one")
        assert capsys.readouterr().out == ""


class TestCommand:
    def test_list_says_size_licence_and_place(self, command: Command, tmp_path: Path) -> None:
        assert re.search(r"small-one\s+0 MB\s+MIT\s+not installed\n", command("list"))
        fetch("small-one")
        (tmp_path / "weights.bin").write_bytes(PICKLED)
        register("two-sources", tmp_path / "weights.bin")
        printed = command("list")
        assert re.search(r"small-one\s+0 MB\s+MIT\s+installed: fetched from the hub\n", printed)
        assert re.search(r"two-sources\s+500 MB\s+CC-BY-NC-4.0\s+3 of 4 files are missing\n", printed)
        assert "forbid commercial use" in printed

    def test_fetch_shows_size_and_licence_first_and_downloads_nothing_unasked(
        self, command: Command, hub: FakeHub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(InputError, match="give --yes"):
            command("fetch", "two-sources")
        printed = capsys.readouterr().out
        assert "Size:    500 MB" in printed
        assert "Licence: CC-BY-NC-4.0; not for commercial purposes; https://example.org/nc; and more" in printed
        assert "huggingface.co/somebody/large, huggingface.co/other/own" in printed
        assert hub.requests == []
        assert "two-sources is installed: " in command("fetch", "two-sources", "--yes")
        assert "is already installed" in command("fetch", "two-sources")

    @pytest.mark.parametrize(("answer", "downloads"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
    def test_fetch_asks(
        self, command: Command, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, answer: str, downloads: bool
    ) -> None:
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        printed = command("fetch", "small-one")
        assert "Download it? [y/N]" in printed
        assert (available("small-one") is not None) == downloads == bool(hub.requests)
        assert ("Nothing was downloaded." in printed) == (not downloads)

    def test_path_says_what_is_still_missing(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "weights.bin").write_bytes(PICKLED)
        printed = command("path", "two-sources", str(tmp_path / "weights.bin"))
        assert "unet/weights.bin: no checksum was published; this file's is recorded" in printed
        assert "still lacks unet/config.json, vae/config.json, vae/weights.bin" in printed
        assert "CC-BY-NC-4.0" in printed
        (tmp_path / "mine").write_bytes(WEIGHTS)
        printed = command("path", "small-one", str(tmp_path / "mine"))
        assert printed == "model.safetensors: verified\nsmall-one is complete.\n"

    def test_verify_finds_what_changed_since(
        self, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "No weights are installed" in command("verify")
        mine = tmp_path / "mine"
        mine.write_bytes(WEIGHTS)
        register("small-one", mine)
        fetch("two-sources")
        assert command("verify") == "small-one: ok\ntwo-sources: ok\n"
        mine.write_bytes(WEIGHTS[:-4] + b"\0\0\0\0")
        with pytest.raises(InputError, match="1 files are wrong"):
            command("verify")
        assert "small-one: damaged" in capsys.readouterr().out
        assert command("verify", "two-sources") == "two-sources: ok\n"

    def test_verify_checks_downloads_by_the_hub_s_checksums(
        self, command: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        blob = (fetch("two-sources") / "vae/config.json").resolve()
        blob.write_bytes(b'{"vae": 2}')
        with pytest.raises(InputError, match="1 files are wrong"):
            command("verify", "two-sources")
        assert re.search(r"two-sources: damaged\n  .*vae/config\.json has another checksum", capsys.readouterr().out)

    def test_verify_of_what_is_not_here(self, command: Command) -> None:
        with pytest.raises(InputError, match="small-one is not installed, or not complete: model.safetensors"):
            command("verify", "small-one")

    @pytest.mark.parametrize(
        ("arguments", "status", "line"),
        [
            (["fetch", "nothing"], 1, "Error: There is no checkpoint nothing; there are: small-one, two-sources"),
            (["path", "small-one", "gone"], 1, "Error: There is no gone"),
            (["fetch", "small-one", "--yes"], 130, "Interrupted; what was downloaded is kept"),
        ],
    )
    def test_ends_with_one_line_and_a_status(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        status: int,
        line: str,
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("huggingface_hub.file_download.http_get", interrupted)
        monkeypatch.setattr(sys, "argv", ["img3d-weights", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
        assert capsys.readouterr().out.splitlines()[-1].startswith(line)
        assert available("small-one") is None

    @pytest.mark.slow
    def test_as_users_run_it(self, hub: FakeHub, tmp_path: Path) -> None:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "IMG3D_WEIGHTS": str(tmp_path / "weights"),
        }

        def run(*arguments: str) -> tuple[int, str]:
            line = [sys.executable, "-m", "img3d_generators.weights.command", *arguments]
            done = subprocess.run(
                line, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
            return done.returncode, done.stdout + done.stderr

        assert run("list")[0] == 0
        status, printed = run("fetch", "lgm-big")
        assert (status, printed.splitlines()[-1]) == (
            1,
            "Error: Cannot ask for confirmation without a terminal: give --yes to agree to the download.",
        )
        hub.files["ashawkey/LGM/model_fp16_fixrot.safetensors"] = WEIGHTS
        status, printed = run("fetch", "lgm-big", "--yes")
        assert status == 1
        assert "bytes instead of 830,126,160" in printed.splitlines()[-1]
        assert "Traceback" not in printed
