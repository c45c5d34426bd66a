# SPDX-License-Identifier: Apache-2.0
"""Uploads: what is refused, and that nothing of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_studio import FakeStudio, picture

from img3d_base.errors import InputError
from img3d_studio import uploads
from img3d_studio.uploads import checked_name, input_of, receive, stored_files


async def chunks(*content: bytes) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk


@pytest.mark.parametrize(
    "name", ["", ".hidden.jpg", "a/b.jpg", "..", "a\\b.jpg", "config.yml", "x\n.jpg", 200 * "x" + ".jpg"]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        checked_name(name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.jpg", b"no picture at all", "notes.jpg is damaged or cannot be read"),
        ("clip.mp4", b"no video at all", "clip.mp4 is not a video"),
        ("splats.spz", b"", "splats.spz is empty"),
        ("model.glb", b"glTF but no more", "model.glb"),
    ],
)
def test_content_that_is_refused_leaves_nothing(studio: FakeStudio, name: str, content: bytes, says: str) -> None:
    run = studio.draft(num_photos=0)
    answer = studio.put(run, name, content)
    assert answer.status_code == 422
    assert says in answer.json()["error"]
    assert str(studio.store.folder) not in answer.json()["error"]
    assert list((studio.folder_of(run) / "input").iterdir()) == []


def test_what_is_too_large_is_refused_while_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uploads.MAX_FILE_BYTES, "picture", 10)
    with pytest.raises(InputError, match="too large"):
        asyncio.run(receive(chunks(b"123456", b"123456", b"never read"), tmp_path, "a.jpg"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(InputError, match="does not fit on the disk"):
        asyncio.run(receive(chunks(picture()), tmp_path, "a.jpg"))
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "MAX_FILES", 1)
    asyncio.run(receive(chunks(picture()), tmp_path, "a.jpg"))
    asyncio.run(receive(chunks(picture("blue")), tmp_path, "a.jpg"))  # replaced
    with pytest.raises(InputError, match="the most"):
        asyncio.run(receive(chunks(picture()), tmp_path, "b.jpg"))
    assert stored_files(tmp_path) == [tmp_path / "a.jpg"]


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield picture()[:100]
        raise ConnectionResetError("the browser left")

    with pytest.raises(InputError, match="cannot be stored"):
        asyncio.run(receive(broken(), tmp_path, "a.jpg"))
    assert list(tmp_path.iterdir()) == []


def test_what_files_are_together(tmp_path: Path) -> None:
    photos = [tmp_path / f"{index}.jpg" for index in range(3)]
    for photo in photos:
        photo.write_bytes(picture())
    obj = tmp_path / "model.obj"
    obj.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    material = tmp_path / "model.mtl"
    material.write_text("newmtl a\n")
    video = tmp_path / "clip.mov"
    video.write_bytes(b"\0\0\0\x14ftypqt  ")
    assert input_of(photos) == ("photos", None)
    assert input_of(photos[:1]) == ("image", photos[0])
    assert input_of([video]) == ("video", video)
    assert input_of([obj, material, photos[0]]) == ("mesh", obj)
    assert input_of([], "a chair") == ("text", None)
    for wrong in ([], [video, *photos], [material], [obj, video]):
        with pytest.raises(InputError):
            input_of(wrong)
