# SPDX-License-Identifier: Apache-2.0
"""A preset sets what is left at 0, and nothing else."""

from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from gaussian_scenes import pinhole_camera, small_model
from small_nerf import small_nerf

from img3d_methods.field.model import LOG2_TABLE_SIZE
from img3d_methods.splat.budgeted_strategy import BudgetedDefaultStrategy
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.trainer import Img3dSplatTrainer, Img3dSplatTrainerConfig
from img3d_methods.training.presets import (
    NERF_ON_CPU,
    NERF_ON_CUDA,
    ON_CPU,
    ON_CUDA,
    PresetName,
    growth_threshold,
    nerf_preset,
    preset,
)


def run_length(preset_name: PresetName, max_num_iterations: int) -> int:
    trainer = Img3dSplatTrainer.__new__(Img3dSplatTrainer)
    pipeline: Any = SimpleNamespace(model=Img3dSplatModelConfig(preset=preset_name))
    trainer.config = Img3dSplatTrainerConfig(pipeline=pipeline, max_num_iterations=max_num_iterations)
    trainer._set_run_length()
    return trainer.config.max_num_iterations


@pytest.mark.parametrize("name", get_args(PresetName))
def test_the_run_is_as_long_as_the_preset_says_unless_told_otherwise(name: PresetName) -> None:
    assert run_length(name, 0) == preset(name).max_num_iterations
    assert run_length(name, 123) == 123


@pytest.mark.parametrize("name", get_args(PresetName))
def test_the_budget_is_the_presets_unless_told_otherwise(name: PresetName) -> None:
    assert small_model(preset=name, max_gaussians=0).max_gaussians == preset(name).max_gaussians
    assert small_model(preset=name, max_gaussians=77).max_gaussians == 77


def test_each_preset_spends_more_than_the_one_before() -> None:
    for presets in (ON_CPU, ON_CUDA):
        sizes = [(presets[name].max_num_iterations, presets[name].max_gaussians) for name in get_args(PresetName)]
        assert sizes == sorted(sizes)


def test_each_preset_of_fields_spends_more_than_the_one_before() -> None:
    for presets in (NERF_ON_CPU, NERF_ON_CUDA):
        values = [astuple(presets[name]) for name in get_args(PresetName)]
        for one, next_one in pairwise(values):
            assert all(a <= b for a, b in zip(one, next_one, strict=True)) and one < next_one


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_field_that_a_gpu_trained_loads_without_one(name: PresetName) -> None:
    assert NERF_ON_CPU[name].log2_table_size == NERF_ON_CUDA[name].log2_table_size


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_bounded_fields_sizes_are_the_presets_unless_told_otherwise(name: PresetName) -> None:
    white = {"alpha_color": torch.ones(3)}
    bounded = small_nerf(white, bounds="auto", preset=name, log2_table_size=0)
    assert len(bounded.table) == 3 << nerf_preset(name).log2_table_size
    assert bounded.samples_per_step == nerf_preset(name).samples_per_step
    assert len(small_nerf(preset=name, log2_table_size=0).table) == 3 << LOG2_TABLE_SIZE
    given = small_nerf(white, bounds="auto", preset=name, log2_table_size=11, samples_per_step=5000)
    assert len(given.table) == 3 << 11 and given.samples_per_step == 5000


def test_the_device_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_cuda, presets, of_fields in ((False, ON_CPU, NERF_ON_CPU), (True, ON_CUDA, NERF_ON_CUDA)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_cuda=has_cuda: has_cuda)
        assert preset("balanced") is presets["balanced"]
        assert nerf_preset("balanced") is of_fields["balanced"]


def test_few_photos_get_shorter_runs() -> None:
    steps = preset("best").max_num_iterations
    assert preset("best").steps_for(24) == min(steps, 4_800)
    assert {preset(name).steps_for(count) for name in get_args(PresetName) for count in (3, 12, 15)} == {2_000}
    counts = [preset("best").steps_for(count) for count in range(1, 200)]
    assert counts == sorted(counts)
    assert preset("best").steps_for(10_000) == steps
    assert small_model(preset="best", num_photos=24).preset_steps == preset("best").steps_for(24)


def test_few_photos_get_fewer_gaussians() -> None:
    budget = preset("best").max_gaussians
    assert preset("best").max_gaussians_for(24, 24 * 120_000) == min(budget, 57_600)
    assert preset("best").max_gaussians_for(24, 100) == 50_000
    assert {preset(name).max_gaussians_for(15, 10**12) for name in get_args(PresetName)} == {50_000}
    assert preset("best").max_gaussians_for(24, 10**12) == budget
    model = small_model(preset="best", max_gaussians=0, appearance="off")
    cameras = pinhole_camera()[torch.zeros(24, dtype=torch.long)]
    model.know_photos([torch.zeros(300, 400, 3, dtype=torch.uint8)] * 24, cameras)
    assert model.max_gaussians == preset("best").max_gaussians_for(24, 24 * 120_000)
    told = small_model(preset="best", max_gaussians=77, appearance="off")
    told.know_photos([torch.zeros(300, 400, 3, dtype=torch.uint8)] * 24, cameras)
    assert told.max_gaussians == 77


def test_gaussians_divide_more_readily_where_photos_could_support_more_than_the_limit() -> None:
    assert growth_threshold(0, 50_000) == growth_threshold(50 * 50_000, 50_000) == 0.0008
    assert growth_threshold(2 * 50 * 50_000, 50_000) == pytest.approx(0.0004)
    assert growth_threshold(100 * 50 * 50_000, 50_000) == pytest.approx(0.0002)


def test_a_models_threshold_follows_its_photos_unless_told_otherwise() -> None:
    photos = [torch.zeros(300, 400, 3, dtype=torch.uint8)] * 24
    cameras = pinhole_camera()[torch.zeros(24, dtype=torch.long)]
    for told, expected in ((0.0, growth_threshold(24 * 120_000, 20_000)), (0.005, 0.005)):
        model = small_model(max_gaussians=20_000, appearance="off", strategy="default", densify_grad_thresh=told)
        model.know_photos(photos, cameras)
        model._prepare_schedule(max_steps=1_000)
        assert isinstance(model.strategy, BudgetedDefaultStrategy)
        assert model.strategy.grow_grad2d == pytest.approx(expected)
