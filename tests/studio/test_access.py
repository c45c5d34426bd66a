# SPDX-License-Identifier: Apache-2.0
"""Who gets an answer, and the command's own refusals."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from fake_studio import FakeStudio
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from img3d_studio import command


def test_only_this_machine_is_answered_without_a_token(studio: FakeStudio) -> None:
    assert studio.client.get("/").status_code == 200
    for host in ("example.com", "127.0.0.1.example.com", ""):
        assert studio.client.get("/", headers={"Host": host}).status_code == 400
    assert studio.client.get("/", headers={"Host": "localhost:7010"}).status_code == 200


def test_pages_of_other_sites_are_refused(studio: FakeStudio) -> None:
    assert studio.client.post("/api/runs", headers={"Origin": "http://example.com"}).status_code == 403
    assert studio.client.post("/api/runs", headers={"Origin": "http://127.0.0.1:7010"}).status_code == 201
    with (
        pytest.raises(WebSocketDisconnect),
        studio.client.websocket_connect("/runs/x/live", headers={"Origin": "http://example.com"}),
    ):
        pass


def test_other_machines_need_the_token_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img3d_studio.app._learn_generators", lambda: None)
    fake = FakeStudio(tmp_path, token="secret")
    with TestClient(fake.client.app, base_url="http://192.0.2.1:7010") as phone:
        assert phone.get("/").status_code == 401
        assert phone.get("/?token=wrong").status_code == 401
        assert phone.get("/api/runs").status_code == 401
        first = phone.get("/?token=secret")
        assert first.status_code == 200
        assert "token" not in str(first.url)
        cookie = first.history[0].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert phone.get("/api/runs").status_code == 200


def test_the_page_loads_nothing_from_elsewhere(studio: FakeStudio) -> None:
    policy = studio.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    for name in ("studio.js", "api.js", "elements.js", "start.js", "run.js", "studio.css"):
        assert "://" not in studio.client.get(f"/static/{name}").text


def test_a_taken_port_and_a_folder_that_is_a_file_cost_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "file").touch()
        for folder in (tmp_path / "folder", tmp_path / "file"):
            monkeypatch.setattr(sys, "argv", ["img3d-studio", "--folder", str(folder), "--port", str(port)])
            with pytest.raises(SystemExit) as ended:
                command.main()
            assert ended.value.code == 1
            (line,) = [line for line in capsys.readouterr().out.splitlines() if line]
            assert line.startswith("Error: ")
