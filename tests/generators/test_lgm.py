# SPDX-License-Identifier: Apache-2.0
"""LGM: the published layouts, the reference's numbers, and what is said of files that are not its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures
from safetensors.torch import save_file

from img3d_base.errors import InputError
from img3d_generators.lgm import LGM, LGM_CONFIGS, UNetConfig, activated, load_lgm, network_input


def golden_network(golden: Golden) -> LGM:
    """The network that golden numbers were made with."""
    config, defaults = golden.sidecar["config"], golden.sidecar["constructor_defaults"]
    assert config["mid_attention"]
    names = ("down_channels", "down_attention", "up_channels", "up_attention")
    model = LGM(
        UNetConfig(
            **{name: tuple(config[name]) for name in names},
            layers_per_block=defaults["UNet"]["layers_per_block"],
            num_groups=defaults["ResnetBlock"]["groups"],
        )
    )
    assert sum(weight.numel() for weight in model.parameters()) == golden.sidecar["parameters"]
    golden.fill(model)
    return model.eval()


def golden_input(golden: Golden) -> torch.Tensor:
    """The network's input from the pictures and cameras that golden numbers were made with."""
    config, poses = golden.sidecar["config"], torch.from_numpy(golden.arrays["c2w"][:, :3])
    images = torch.from_numpy(golden.pictures()).permute(0, 3, 1, 2) / 255
    return network_input(images, poses, config["fovy"], config["input_size"])


def as_rows(gaussians: Any) -> np.ndarray:
    """Gaussians in the reference's order of columns."""
    columns = [gaussians.means, gaussians.opacities[:, None], gaussians.scales, gaussians.quats, gaussians.colors]
    return torch.cat(columns, dim=1).numpy()


@pytest.fixture(scope="module")
def small_config() -> UNetConfig:
    """A network that runs in milliseconds, with every kind of block."""
    return UNetConfig(
        down_channels=(32, 32, 64),
        down_attention=(False, False, True),
        up_channels=(64, 32),
        up_attention=(True, False),
    )


@pytest.fixture
def small_weights(small_config: UNetConfig, tmp_path: Path) -> Path:
    """A file of weights of such a network."""
    torch.manual_seed(0)
    save_file(LGM(small_config).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("size", ["big", "small", "tiny"])
def test_state_dicts_have_the_published_keys_and_shapes(size: str, published_keys, layout_of) -> None:
    with torch.device("meta"):
        model = LGM(LGM_CONFIGS[size])
    assert layout_of(model) == published_keys(f"lgm_{size}")


RAW_TOLERANCE, GAUSSIANS_TOLERANCE = 1e-4, 2e-4
"""Rounding gives up to 2e-5 and 4e-5, depending on the processor's vectors and the number of threads; the smallest
wrong detail, GroupNorm's epsilon of 1e-6 instead of 1e-5, gives 1.7e-4 and 2.9e-4."""


@golden_fixtures("lgm_", "input", "raw", "gaussians")
@torch.no_grad()
def test_small_network_gives_the_references_numbers(golden: Golden) -> None:
    model, views = golden_network(golden), golden_input(golden)
    for name, values, tolerance in (
        ("input", views, 1e-5),
        ("raw", model(views[None])[0], RAW_TOLERANCE),
        ("gaussians", as_rows(model.generate(views)), GAUSSIANS_TOLERANCE),
    ):
        np.testing.assert_allclose(values, golden.arrays[name], atol=golden.tolerance(name, tolerance))


@golden_fixtures("lgm_", "input_values", "raw_values", "gaussians_values", long=True)  # 'big': 3 GB of memory
@torch.no_grad()
def test_big_network_gives_the_references_numbers(golden: Golden) -> None:
    model, views = golden_network(golden), golden_input(golden)
    raw = model(views[None])[0]
    gaussians = activated(raw.permute(0, 2, 3, 1).reshape(-1, 14))
    for name, values, tolerance in (
        ("input", views.numpy(), 1e-5),
        ("raw", raw.numpy(), RAW_TOLERANCE),
        ("gaussians", as_rows(gaussians), GAUSSIANS_TOLERANCE),
    ):
        sampled = values.ravel()[golden.arrays[f"{name}_index"]]
        tolerance = golden.tolerance(f"{name}_values", tolerance)
        np.testing.assert_allclose(sampled, golden.arrays[f"{name}_values"], atol=tolerance)


def test_six_views_give_six_views_worth_of_gaussians(small_weights: Path, small_config: UNetConfig) -> None:
    model = load_lgm(small_weights, small_config)
    assert len(model.generate(torch.randn(6, 9, 32, 32))) == 6 * 16 * 16


def test_views_see_each_other(small_weights: Path, small_config: UNetConfig) -> None:
    model = load_lgm(small_weights, small_config)
    views = torch.randn(4, 9, 32, 32)
    changed = views.clone()
    changed[3] += 1
    first_view = slice(0, 16 * 16)
    before, after = model.generate(views)[first_view], model.generate(changed)[first_view]
    assert (before.colors - after.colors).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_is_close_to_float32(
    small_weights: Path, small_config: UNetConfig, dtype: torch.dtype, tolerance: float
) -> None:
    views = torch.randn(4, 9, 32, 32, generator=torch.Generator().manual_seed(1))
    exact = load_lgm(small_weights, small_config).generate(views)
    half = load_lgm(small_weights, small_config, dtype).generate(views)
    assert half.means.dtype == torch.float32
    assert (exact.means - half.means).abs().max() < tolerance
    assert (exact.colors - half.colors).abs().max() < tolerance


def test_float16_files_are_computed_in_float32(small_weights: Path, small_config: UNetConfig, tmp_path: Path) -> None:
    model = load_lgm(small_weights, small_config)
    save_file({key: value.half() for key, value in model.state_dict().items()}, tmp_path / "half.safetensors")
    loaded = load_lgm(tmp_path / "half.safetensors", small_config)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", ["model.safetensors", "model_fp16.safetensors"])
def test_files_from_before_the_fix_of_rotations_are_refused(
    name: str, small_weights: Path, small_config: UNetConfig
) -> None:
    small_weights.rename(small_weights.with_name(name))
    with pytest.raises(InputError, match="before a fix of LGM's rotations.*model_fp16_fixrot"):
        load_lgm(small_weights.with_name(name), small_config)


def test_weights_of_another_network_are_refused_by_name(small_weights: Path) -> None:
    with pytest.raises(InputError, match="does not fit LGM, .*unet"):
        load_lgm(small_weights)


def test_truncated_weights_are_refused(small_weights: Path, small_config: UNetConfig) -> None:
    small_weights.write_bytes(small_weights.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged.*fetch it again"):
        load_lgm(small_weights, small_config)


def test_missing_weights_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no .*none"):
        load_lgm(tmp_path / "none.safetensors")
