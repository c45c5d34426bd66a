# SPDX-License-Identifier: Apache-2.0
"""The YAML files of configs/: whole, found wherever the package is, and refused when they make no sense."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from img3d_base.errors import InputError
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, ZERO123PLUS_RIGS
from img3d_generators.lgm import LGM_CONFIGS, UNetConfig
from img3d_generators.weights import checkpoints as module
from img3d_generators.weights.checkpoints import checkpoint, checkpoints, read_checkpoint
from img3d_generators.weights.weight_files import problem_of

PUBLISHED = {
    "dinov2-large-registers",
    "instantmesh-mesh-base",
    "instantmesh-mesh-large",
    "instantmesh-nerf-base",
    "instantmesh-nerf-large",
    "instantmesh-zero123plus-white",
    "lgm-big",
    "lgm-big-fp32",
    "trellis-image-large",
    "triposr",
    "zero123plus-v1.1",
    "zero123plus-v1.2",
}


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """A folder with one good file, `one.yaml`."""
    (tmp_path / "one.yaml").write_text(
        "name: one\nkind: lgm\ntitle: t\nlicence: MIT\nrepository: a/b\n"
        "files:\n  - path: w.safetensors\n    size: 1500000\n    sha256: 0abc\narchitecture:\n  channels: [1, [2, 3]]\n"
    )
    return tmp_path


BY_THE_HUB = ("zero123plus", "zero123", "text-to-image")
"""Kinds of which no checksums were published."""
VERIFIED_BY_THE_HUB = {("trellis-image-large", "pipeline.json"), ("dinov2-large-registers", "model.safetensors")}
"""Files of other checkpoints than Zero123++'s whose checksums are not published."""


class TestPublished:
    def test_all_are_there(self) -> None:
        assert set(checkpoints()) >= PUBLISHED
        assert list(checkpoints()) == sorted(checkpoints())

    @pytest.mark.parametrize("name", sorted(PUBLISHED))
    def test_each_says_what_users_must_know(self, name: str) -> None:
        known = checkpoint(name)
        assert known.title and known.licence and known.licence_url.startswith("https://")
        assert known.repository is not None and known.repository.count("/") == 1
        assert known.size.endswith(("GB", "MB"))
        assert known.is_non_commercial == ("zero123plus" in name)
        assert len({file.path for file in known.files}) == len(known.files)

    def test_each_file_can_be_verified(self) -> None:
        """By a whole checksum, or by the hub's for a fixed commit: then the comment of its YAML file says that."""
        for known in checkpoints().values():
            assert all(len(file.sha256) in (0, 64) for file in known.files), known.name
            for file in known.files:
                if known.repository is None:
                    assert file.sha256, f"{known.name}: {file.path} comes with img3d"
                elif not file.sha256:
                    assert len(file.revision or known.revision or "") == 40, f"{known.name}: {file.path}"
                    by_the_hub = known.kind in BY_THE_HUB or (known.name, file.path) in VERIFIED_BY_THE_HUB
                    assert by_the_hub, f"{known.name}: {file.path} has no published checksum"

    @pytest.mark.parametrize("name", sorted(checkpoints()))
    def test_another_file_is_refused_by_size_and_by_checksum(self, name: str, tmp_path: Path) -> None:
        """For each file of which they are published."""
        for file in checkpoint(name).files:
            path = tmp_path / Path(file.path).with_suffix(".ckpt").name  # no format of its own is looked at
            path.write_bytes(b"another")
            wrong = problem_of(file, path)
            assert (wrong is not None) == bool(file.size or file.sha256)
            if wrong is not None:
                assert ("bytes instead of" if file.size else "another checksum") in wrong
            other = problem_of(dataclasses.replace(file, size=None), path)
            assert (other is not None) == bool(file.sha256)
            assert other is None or f"than the published file ({file.sha256[:16]}…)" in other

    def test_what_is_known_of_the_files(self) -> None:
        assert [(file.path, file.size) for name in ("lgm-big", "lgm-big-fp32") for file in checkpoint(name).files] == [
            ("model_fp16_fixrot.safetensors", 830_126_160),
            ("model_fixrot.safetensors", 1_660_212_248),
        ]
        (own,) = (file for file in checkpoint("instantmesh-zero123plus-white").files if file.repository)
        assert (own.path, own.repository) == ("unet/diffusion_pytorch_model.bin", "TencentARC/InstantMesh")

    @pytest.mark.parametrize("name", ["lgm-big", "lgm-big-fp32"])
    def test_lgm_s_numbers_are_those_of_its_code(self, name: str) -> None:
        known = checkpoint(name)
        assert UNetConfig(**known.architecture) == LGM_CONFIGS["big"]
        assert (known.input["fov"], known.input["radius"]) == (LGM_FOV, LGM_RADIUS)

    @pytest.mark.parametrize("name", sorted(name for name in PUBLISHED if "zero123plus" in name))
    def test_zero123plus_has_cameras(self, name: str) -> None:
        assert checkpoint(name).input["rig"] in ZERO123PLUS_RIGS
        assert checkpoint(name).input["background"] == (255 if name.endswith("white") else 127)


class TestReading:
    def test_of_all_leaves_out_what_is_no_checkpoint(self, write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (write / "configs").mkdir()
        (write / "one.yaml").rename(write / "configs" / "one.yaml")
        (write / "configs" / "preset.yaml").write_text("steps: 3\n")
        monkeypatch.setattr(module, "PACKAGE", write)
        checkpoints.cache_clear()
        assert list(checkpoints()) == ["one"]
        checkpoints.cache_clear()

    def test_a_file(self, write: Path) -> None:
        known = read_checkpoint(write / "one.yaml")
        assert (known.name, known.size, known.files[0].sha256) == ("one", "2 MB", "0abc")
        assert known.architecture == {"channels": (1, (2, 3))}

    def test_one_that_is_like_another(self, write: Path) -> None:
        (write / "two.yaml").write_text("name: two\nlike: one\nrepository: c/d\ngigabytes: 2.5\n")
        known = read_checkpoint(write / "two.yaml")
        assert (known.name, known.kind, known.repository, known.size) == ("two", "lgm", "c/d", "2.50 GB")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("name: one", "name: other", "its name is other"),
            ("kind: lgm", "kind: lgm\ncolour: red", "does not describe a checkpoint.*colour"),
            ("path: w", "folder: w", "does not describe a checkpoint.*folder"),
            ("sha256: 0abc", "sha256: 12345", "sha256 of w.safetensors is not text"),
            ("sha256: 0abc", "sha256: 0ABC", "sha256 of w.safetensors is not text"),
            ("path: w", "path: ../w", "leaves its folder"),
        ],
    )
    def test_nonsense_is_refused(self, write: Path, old: str, new: str, message: str) -> None:
        path = write / "one.yaml"
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ValueError, match=message):
            read_checkpoint(path)

    def test_unknown_name(self) -> None:
        with pytest.raises(InputError, match=r"There is no checkpoint lgm; there are: .*lgm-big, "):
            checkpoint("lgm")
