# SPDX-License-Identifier: Apache-2.0
"""Zero123++ from a folder as its authors publish it, old and new layouts; anything else is refused in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from zero123plus_repositories import NETWORKS, picture, tiny_zero123plus, write_repository

from img3d_base.errors import InputError
from img3d_generators.zero123plus.files import load_zero123plus
from img3d_generators.zero123plus.model import Zero123Plus

SIZE = (48, 32)
PICTURE_TOLERANCE = 1e-3
"""Of pixels in [0, 1] that the same weights paint. Where arrays lie in memory, and so how they were loaded, decides how
processors group their sums: results differ by rounding, as if each weight were off by 2^-24, which moves pixels of this
network by up to 1.5e-4. A matrix of zeros moves them by 6e-3 and more."""


@pytest.fixture(scope="module")
def model() -> Zero123Plus:
    """What the folders hold."""
    return tiny_zero123plus()


@pytest.fixture(scope="module")
def painted(model: Zero123Plus) -> Tensor:
    """What it paints."""
    return model.generate(picture(), 2, size=SIZE)


def assert_the_same_model(loaded: Zero123Plus, model: Zero123Plus, painted: Tensor) -> None:
    """The same weights to the last bit, and the same pictures up to rounding."""
    for name in NETWORKS:
        weights, expected = getattr(loaded, name).state_dict(), getattr(model, name).state_dict()
        assert weights.keys() == expected.keys()
        for key, weight in weights.items():
            assert torch.equal(weight, expected[key]), f"{name}: {key}"
    torch.testing.assert_close(loaded.generate(picture(), 2, size=SIZE), painted, atol=PICTURE_TOLERANCE, rtol=0)


@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
def test_a_repository_paints_what_was_saved(
    tmp_path: Path, model: Zero123Plus, painted: Tensor, safetensors: bool
) -> None:
    loaded = load_zero123plus(write_repository(tmp_path, model, safetensors))
    assert_the_same_model(loaded, model, painted)
    assert loaded.background == 127
    for name in NETWORKS:
        network = getattr(loaded, name)
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_names_and_numbers_of_older_libraries_are_understood(
    tmp_path: Path, model: Zero123Plus, painted: Tensor
) -> None:
    folder = write_repository(tmp_path, model, safetensors=False)

    def rewrite(file: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        torch.save(change(torch.load(folder / file, weights_only=True)), folder / file)

    rewrite(
        "text_encoder/pytorch_model.bin",
        lambda weights: {**weights, "text_model.embeddings.position_ids": torch.arange(77)[None]},
    )
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        for new_name, old_name in old.items():
            weights = {key.replace(new_name, old_name): value for key, value in weights.items()}
        return weights

    rewrite("vae/diffusion_pytorch_model.bin", renamed)
    assert_the_same_model(load_zero123plus(folder), model, painted)


def test_precision_of_the_networks_and_of_the_vae(tmp_path: Path, model: Zero123Plus) -> None:
    loaded = load_zero123plus(write_repository(tmp_path, model), dtype=torch.bfloat16)
    dtypes = [next(getattr(loaded, name).parameters()).dtype for name in NETWORKS]
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16]
    config = tmp_path / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": False}))
    assert next(load_zero123plus(tmp_path, dtype=torch.bfloat16).vae.parameters()).dtype == torch.bfloat16


class TestRefusals:
    @pytest.fixture
    def folder(self, tmp_path: Path, model: Zero123Plus) -> Path:
        """A whole repository, to be spoilt."""
        return write_repository(tmp_path, model)

    @pytest.mark.parametrize(
        "missing", ["model_index.json", "unet/config.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json"]
    )
    def test_missing_file(self, folder: Path, missing: str) -> None:
        (folder / missing).unlink()
        with pytest.raises(InputError, match=Path(missing).name):
            load_zero123plus(folder)

    def test_missing_weights(self, folder: Path) -> None:
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(InputError, match=r"There are no weights in .*unet"):
            load_zero123plus(folder)

    def test_truncated_weights(self, folder: Path) -> None:
        path = folder / "vision_encoder" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InputError, match=r"vision_encoder.model\.safetensors is damaged .* fetch it again"):
            load_zero123plus(folder)

    def test_truncated_configuration(self, folder: Path) -> None:
        (folder / "vae" / "config.json").write_text('{"act_fn"')
        with pytest.raises(InputError, match=r"vae.config\.json is damaged"):
            load_zero123plus(folder)

    def test_weights_of_another_network(self, folder: Path) -> None:
        (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(
            (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
        )
        with pytest.raises(InputError, match=r"does not fit UNet2DConditionModel, in \d+ places: conv_in"):
            load_zero123plus(folder)

    def test_another_model(self, folder: Path) -> None:
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        with pytest.raises(InputError, match="is not Zero123"):
            load_zero123plus(folder)

    def test_code_in_weights_is_not_run(self, tmp_path: Path, model: Zero123Plus) -> None:
        folder = write_repository(tmp_path, model, safetensors=False)
        trap = tmp_path / "it was run"

        class Trap:
            def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
                return Path.touch, (trap,)

        weights = folder / "unet" / "diffusion_pytorch_model.bin"
        for write in (lambda: torch.save({"conv_in.weight": Trap()}, weights), lambda: _pickle(Trap(), weights)):
            write()
            with pytest.raises(InputError, match="is damaged or holds Python objects, which could run code"):
                load_zero123plus(folder)
        assert not trap.exists()


def _pickle(content: object, path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file)
