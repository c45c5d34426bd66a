# SPDX-License-Identifier: Apache-2.0
"""Text files that stand for links, and others that only look like them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from img3d_base.text_links import MAX_BYTES, followed, said_of_links


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("text", ["../disk/photos", "../disk/photos\n", "../disk/photos\r\n", "..\\disk\\photos"])
def test_folders(tmp_path: Path, text: str) -> None:
    photo = write(tmp_path / "disk/photos/1.jpg", b"\xff" * 1000)
    link = write(tmp_path / "data/images", text)
    assert followed(link).samefile(tmp_path / "disk/photos")
    assert followed(link / "1.jpg").samefile(photo)
    [line] = said_of_links([link / "1.jpg", link / "2.jpg", link], "photos")
    assert line == (
        f"photos are behind a link that git or unzip wrote as a text file: {link} is {tmp_path / 'disk/photos'}"
    )


def test_files_links_to_links_and_absolute_ones(tmp_path: Path) -> None:
    photo = write(tmp_path / "disk/photos/1.jpg", b"\xff" * 1000)
    links = [
        write(tmp_path / "a.jpg", "disk/photos/1.jpg"),
        write(tmp_path / "b.jpg", str(photo)),
        write(tmp_path / "c.jpg", "a.jpg"),
    ]
    write(tmp_path / "here", "disk")
    write(tmp_path / "d.jpg", "here/photos/1.jpg")
    assert all(followed(link).samefile(photo) for link in (*links, tmp_path / "d.jpg"))
    [line] = said_of_links(links, "masks")
    assert line.startswith("masks are behind 3 links that git or unzip wrote as text files: ")


@pytest.mark.parametrize(
    "contents", [b"", b"nothing that is there", b"\xff\xd8\xff", b"disk\0", b"disk\nmore", b"a.jpg", b"x/" * 200]
)
def test_what_is_no_link(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "disk").mkdir()
    path = write(tmp_path / "a.jpg", contents)
    assert followed(path) == path
    assert followed(path / "1.jpg") == path / "1.jpg"
    assert said_of_links([path, path / "1.jpg"], "photos") == []


def test_large_files_and_circles_and_pipes(tmp_path: Path) -> None:
    long = write(tmp_path / "long", "./" * MAX_BYTES)
    circle = write(tmp_path / "circle", "circle2")
    write(tmp_path / "circle2", "circle")
    os.mkfifo(tmp_path / "pipe")
    pipe, device = write(tmp_path / "to_pipe", "pipe"), write(tmp_path / "to_device", "/dev/zero")
    for path in (long, circle, pipe, device, tmp_path / "pipe", tmp_path / "absent/1.jpg", tmp_path / ("x" * 300)):
        assert followed(path) == path
    assert followed(tmp_path / "\0") == tmp_path / "\0"
