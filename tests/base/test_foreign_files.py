# SPDX-License-Identifier: Apache-2.0
"""What a foreign file may not do: each costs one line, before memory or time is spent on it."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from img3d_base import foreign_files
from img3d_base.errors import InputError
from img3d_base.foreign_files import (
    check_claim,
    check_expansion,
    gunzip,
    inside,
    legible,
    load_npy,
    load_npz,
    open_zip,
    parse_json,
    read_bytes,
    read_json,
    require_regular,
    shown,
    unzstd,
    zip_member,
)


class TestRegularFiles:
    def test_a_file_and_a_link_to_one_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")
        (tmp_path / "link").symlink_to("a")
        assert read_bytes(tmp_path / "a") == read_bytes(tmp_path / "link", 3) == b"abc"

    def test_what_blocks_or_never_ends_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "zero").symlink_to("/dev/zero")
        for name, kind in (("fifo", "a pipe"), ("zero", "a pipe, socket or device"), (".", "a folder")):
            with pytest.raises(InputError, match=kind):
                read_bytes(tmp_path / name)

    @pytest.mark.parametrize("name", ["none", "a\0b", "x" * 5000, "loop"])
    def test_what_is_not_there_is_named(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(InputError, match="cannot be read|not a valid file name"):
            require_regular(tmp_path / name)

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "large").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(InputError, match="at most 1,000 are read"):
            read_bytes(tmp_path / "large", 1000)


class TestNames:
    def test_a_name_below_the_folder_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for name in ("a b.bin", "sub/ü.bin", "..bin"):
            (tmp_path / name).write_bytes(b"")
            assert inside(tmp_path / "scene", name) == tmp_path / name
        assert inside(tmp_path / "scene", "a%20b.bin", percent_encoded=True) == tmp_path / "a b.bin"
        assert inside(tmp_path / "scene", "./sub/%C3%BC.bin", percent_encoded=True) == tmp_path / "sub/ü.bin"

    @pytest.mark.parametrize(
        "name",
        [
            *("../secret", "%2e%2e/secret", "sub/../../secret", "", ".", "/etc/hostname", "//host/share", "a\0b"),
            *("C:\\secret", "C:secret", "\\secret", "link", "away/secret", "file:///etc/hostname", "none"),
        ],
    )
    def test_a_name_that_leads_out_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret").write_bytes(b"")
        folder = tmp_path / "folder"
        (folder / "sub").mkdir(parents=True)
        (folder / "link").symlink_to(tmp_path / "secret")
        (folder / "away").symlink_to(tmp_path)
        with pytest.raises(InputError) as error:
            inside(folder / "scene.gltf", name, percent_encoded=True)
        assert str(error.value).startswith(f"{folder / 'scene.gltf'} names {name!r}")
        assert "\n" not in str(error.value)


class TestSizes:
    @pytest.mark.parametrize("claimed", [-1, 101, 2**64, 10**30])
    def test_a_claim_beyond_what_is_there_is_refused(self, claimed: int) -> None:
        assert check_claim(100, 100, "its 5 Gaussians") == 100
        with pytest.raises(InputError, match="its 5 Gaussians would take .* cut off or damaged"):
            check_claim(claimed, 100, "its 5 Gaussians")

    def test_little_may_become_much_but_not_too_much(self) -> None:
        assert check_expansion(64 << 20, 10, "x") == 64 << 20
        assert check_expansion(10**9, 10**7, "x") == 10**9
        for unpacked, packed in ((65 << 20, 10), (10**9 + 1, 10**7), (-1, 10)):
            with pytest.raises(InputError, match="made to fill the memory"):
                check_expansion(unpacked, packed, "x")

    def test_foreign_text_in_a_message_is_short_and_on_one_line(self) -> None:
        assert shown("a.webp") == "'a.webp'"
        for text in ("x" * 10**6, "a\nb\x1b[31m", "\0" * 100, ["\n"] * 1000):
            assert len(shown(text)) < 200 and shown(text).isprintable()

    def test_ordinary_names_are_shown_without_quotes(self) -> None:
        assert legible("images\\Küche #1.jpg") == "images\\Küche #1.jpg"
        for text in ("x" * 10**6, "a\nb\x1b[31m", "\0"):
            assert legible(text) == shown(text)


class TestJson:
    def test_values_are_those_of_pythons_parser(self) -> None:
        text = '{"a": [1, 2.5, null, "ü"], "b": {}}'
        expected = json.loads(text)
        assert (
            parse_json(text, "x") == parse_json(text.encode(), "x") == parse_json(b"\xef\xbb\xbf" + text.encode(), "x")
        )
        assert parse_json(text, "x") == expected

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"[" * 100_000, "nested more than|not valid JSON"),
            (b"[" * 300 + b"]" * 300, "nested more than"),
            (b'{"a":' * 100_000, "nested more than|not valid JSON"),
            (b"[" + b"1," * 9_000_000 + b"1]", "9,000,001 values"),
            (b"", "not valid JSON"),
            (b'{"a": ', "not valid JSON"),
            (b"\xff\xfe\x00", "not valid JSON"),
            (b"[" + b"1" * 10_000 + b"]", "not valid JSON"),
            ("\ud800", "not valid JSON"),
        ],
    )
    def test_what_fills_the_stack_or_memory_is_refused(self, text: bytes | str, reason: str) -> None:
        with pytest.raises(InputError, match=reason) as error:
            parse_json(text, "x.json")
        assert "\n" not in str(error.value)

    def test_a_text_that_is_too_long_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.json").write_text("[1, 2]")
        assert read_json(tmp_path / "a.json") == [1, 2]
        with pytest.raises(InputError, match="6 bytes of JSON; at most 5"):
            parse_json("[1, 2]", "x", max_bytes=5)
        monkeypatch.setattr(foreign_files, "MAX_JSON_BYTES", 5)
        with pytest.raises(InputError, match="has 6 bytes; at most 5"):
            read_json(tmp_path / "a.json")


class TestArchives:
    def test_a_member_is_unpacked_up_to_a_limit(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("few", b"abc")
            archive.writestr("many", bytes(10**7))
        with open_zip(tmp_path / "a.zip") as archive:
            assert zip_member(archive, "few", 3) == b"abc"
            with pytest.raises(InputError, match="'few' .* unpacks to more than 2 bytes"):
                zip_member(archive, "few", 2)
            with pytest.raises(InputError, match="'many' .* unpacks to more than 1,000 bytes"):
                zip_member(archive, "many", 1000)
            with pytest.raises(InputError, match=r"a\.zip has no 'none' in it"):
                zip_member(archive, "none", 1000)

    def test_an_encrypted_one_is_named_as_such(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a", b"abc")
        contents = bytearray((tmp_path / "a.zip").read_bytes())
        for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            contents[contents.index(header) + flags] |= 1
        (tmp_path / "a.zip").write_bytes(contents)
        with open_zip(tmp_path / "a.zip") as archive, pytest.raises(InputError, match="encrypted"):
            zip_member(archive, "a", 10)

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_a_damaged_one_costs_one_line(self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.getbasetemp()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
                archive.writestr(f"m{method}", b"abc" * 50, method)
        (folder / "bad.zip").write_bytes(_damaged(data, buffer.getvalue()))
        try:
            with open_zip(folder / "bad.zip") as archive:
                for name in archive.namelist():
                    zip_member(archive, name, 1000)
        except InputError as error:
            assert "\n" not in str(error)

    @pytest.mark.parametrize(("pack", "unpack"), [(gzip.compress, gunzip), (zstandard.compress, unzstd)])
    def test_a_stream_is_unpacked_up_to_a_limit(self, pack, unpack) -> None:
        assert unpack(pack(b"abc"), 3, "x") == b"abc"
        with pytest.raises(InputError, match="more than 2 bytes"):
            unpack(pack(b"abc"), 2, "x")
        with pytest.raises(InputError, match="more than 1,000 bytes"):
            unpack(pack(bytes(10**8)), 1000, "x")
        with pytest.raises(InputError, match="x is damaged"):
            unpack(b"no such stream", 1000, "x")


class TestNpy:
    def test_arrays_of_numbers_are_loaded(self, tmp_path: Path) -> None:
        for array in (np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.uint8), np.array(5, ">i2"), np.eye(3).T[::-1]):
            np.save(tmp_path / "a.npy", array)
            np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), array)

    def test_arrays_in_an_archive(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "a.npz", a=np.arange(3), b=np.zeros(10**6), c=np.array([{}], dtype=object))
        assert load_npz(tmp_path / "a.npz", ["a"], 1000)["a"].tolist() == [0, 1, 2]
        for name, reason in (
            ("b", "unpacks to more than"),
            ("c", "does not hold numbers"),
            ("d", "has no 'd.npy' in it"),
        ):
            with pytest.raises(InputError, match=reason):
                load_npz(tmp_path / "a.npz", [name], 10_000)

    def test_holes_are_not_read_into_memory(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros(0))
        header = (tmp_path / "a.npy").read_bytes().replace(b"(0,), ", b"(10000000000,), ")
        with (tmp_path / "a.npy").open("wb") as file:
            file.write(header)
            file.truncate(len(header) + 80_000_000_000)
        with pytest.raises(InputError, match="at most 1,000 are read"):
            load_npy(tmp_path / "a.npy", max_bytes=1000)

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 17)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (10**30, 17)}",
            f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**30}, 17)}}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -5)}",
            f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {10**30})}}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3.5,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,)}",
            "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f8'}",
            "(" * 9000,
            "'''",
            "{'a\n",
        ],
    )
    def test_a_header_that_lies_is_refused(self, tmp_path: Path, header: str) -> None:
        text = header.encode() + b"\n"
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(80))
        with pytest.raises(InputError) as error:
            load_npy(tmp_path / "a.npy")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("contents", [b"", b"PK\x03\x04", b"\x93NUMPY\x03\x00\xff\xff\xff\xff", b"\x80\x04N."])
    def test_other_files_are_refused(self, tmp_path: Path, contents: bytes) -> None:
        (tmp_path / "a.npy").write_bytes(contents)
        with pytest.raises(InputError, match=r"not a valid \.npy file"):
            load_npy(tmp_path / "a.npy")

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_a_damaged_one_costs_one_line(self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.getbasetemp() / "bad.npy"
        buffer = io.BytesIO()
        np.save(buffer, np.arange(20.0).reshape(4, 5))
        path.write_bytes(_damaged(data, buffer.getvalue(), 100))
        try:
            assert load_npy(path).size <= 1000
        except InputError as error:
            assert "\n" not in str(error)


def _damaged(data: st.DataObject, contents: bytes, until: int | None = None) -> bytes:
    """Cut off, or with some bytes among the first `until` changed."""
    if data.draw(st.booleans()):
        return contents[: data.draw(st.integers(0, len(contents) - 1))]
    changed = bytearray(contents)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, min(until or len(changed), len(changed)) - 1))] = data.draw(
            st.integers(0, 255)
        )
    return bytes(changed)
