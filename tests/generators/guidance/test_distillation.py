# SPDX-License-Identifier: Apache-2.0
"""Score distillation's gradients, prompts and schedules, compared with threestudio's and DreamGaussian's."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from golden import Golden, golden_fixtures
from guidance_goldens import assert_equals, drawn, meaning, networks, stated, tensor
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.distillation import ScoreDistillation, Weighting, surrogate, with_noise
from img3d_generators.guidance.latent_space import LatentSpace
from img3d_generators.guidance.schedules import FallingTimes, RandomTimes, SquareRootTimes, value_at
from img3d_generators.guidance.text_diffusion import TextDiffusion
from img3d_generators.guidance.view_prompts import DIRECTIONS, PromptEmbeddings, directed_prompts
from img3d_generators.guidance.views import ViewAngles

THREESTUDIO = 1.0
"""What to add to threestudio's guidance scale, which multiplies the difference to the text, not to nothing."""


def model(golden: Golden, scale: float) -> TextDiffusion:
    unet, vae, alphas = networks(golden)
    embeddings = tensor(golden, "text_embeddings")
    prompts = PromptEmbeddings(embeddings[1:], tensor(golden, "uncond_embeddings"))
    return TextDiffusion(unet, LatentSpace(512, vae), prompts, alphas, guidance_scale=scale)


def scale_of(golden: Golden, name: str) -> float:
    """The guidance scale with which a gradient was made."""
    return stated(meaning(golden, name), "'guidance_scale': #")[0]


def views(golden: Golden) -> ViewAngles:
    elevations, azimuths = tensor(golden, "elevation"), tensor(golden, "azimuth")
    return ViewAngles(elevations, azimuths, torch.ones_like(azimuths))


@golden_fixtures("sds_small")
class TestAgainstThreestudio:
    def test_alphas_and_noise(self, golden: Golden) -> None:
        alphas = networks(golden)[2]
        assert_equals(golden, "alphas_cumprod", alphas)
        at = alphas[tensor(golden, "t")][:, None, None, None]
        assert_equals(golden, "latents_noisy", with_noise(tensor(golden, "latents"), at, tensor(golden, "noise")))

    def test_the_prompt_of_each_view(self, golden: Golden) -> None:
        named = [DIRECTIONS[i] for i in model(golden, 1).prompts.directions(views(golden)).tolist()]
        assert named == golden.sidecar["directions"]

    @pytest.mark.parametrize(("name", "scale"), [("eps_text", 1.0), ("eps_uncond", 0.0)])
    def test_predictions(self, golden: Golden, name: str, scale: float) -> None:
        predicted = model(golden, scale).predicted_noise(
            tensor(golden, "latents_noisy"), tensor(golden, "t"), views(golden)
        )
        assert_equals(golden, name, predicted)

    @pytest.mark.parametrize("weighting", get_args(Weighting))
    def test_gradients(self, golden: Golden, weighting: Weighting) -> None:
        scale = scale_of(golden, f"grad_{weighting}")
        guidance = ScoreDistillation(model(golden, scale + THREESTUDIO), weighting=weighting)
        inputs = (tensor(golden, "latents"), views(golden), tensor(golden, "t"), tensor(golden, "noise"))
        assert_equals(golden, f"grad_{weighting}", guidance.gradient(*inputs))

    def test_perp_neg(self, golden: Golden) -> None:
        denoiser = replace(model(golden, scale_of(golden, "grad_perp_neg")), perp_neg=True)
        positive, negatives, weights = denoiser.prompts.mixed(views(golden))
        assert_equals(golden, "perp_neg_weights", weights)
        without = denoiser.prompts.negative.expand(len(positive), 1, -1, -1)
        assert_equals(golden, "perp_neg_embeddings", torch.cat([positive[:, None], without, negatives], dim=1))
        inputs = (tensor(golden, "latents"), views(golden), tensor(golden, "t"), tensor(golden, "noise"))
        # All at once: the reference, whose larger batches mix up the negatives, made them one by one.
        assert_equals(golden, "grad_perp_neg", ScoreDistillation(denoiser).gradient(*inputs))

    @pytest.mark.parametrize("name", ["threestudio_call", "threestudio_call_clipped"])
    def test_the_gradient_of_the_render(self, golden: Golden, name: str) -> None:
        clip = 0.0
        if name.endswith("_clipped"):
            clip = abs(*stated(meaning(golden, f"{name}_loss"), r"clamp to \+#"))
        rgb = tensor(golden, "call_rgb").requires_grad_()
        latents = as_latents(golden, rgb)
        denoiser = with_one_prompt(golden, model(golden, scale_of(golden, "grad_sds") + THREESTUDIO))
        loss = distilled(golden, latents, views(golden)[: len(rgb)], denoiser, tensor(golden, "call_t"), clip)
        loss.backward()
        assert rgb.grad is not None
        assert_equals(golden, f"{name}_loss", loss.detach())
        assert_equals(golden, f"{name}_rgb_grad", rgb.grad)

    def test_schedules(self, golden: Golden) -> None:
        steps = golden.sidecar["schedule_steps"]
        specs = golden.sidecar["schedule_specs"].values()
        epoch = stated(meaning(golden, "schedules"), r"epoch = step // #")[0]
        values = [[value_at(spec, step, step // epoch) for step in steps] for spec in specs]
        assert_equals(golden, "schedules", torch.tensor(values, dtype=torch.float64))

    def test_limits_of_noise_levels(self, golden: Golden) -> None:
        note = golden.sidecar["min_max_steps_note"]
        steps = stated(note, r"global steps \(.*?\)")
        low, high = stated(note, "default #/#")
        falling = RandomTimes(*(stated(note, rf"{limit} \[.*?\]") for limit in ("min", "max")))
        limits = [[times.limits(step) for step in steps] for times in (RandomTimes(low, high), falling)]
        square_root, (num_steps,) = SquareRootTimes(low, high), stated(note, "trainer_max_steps #")
        limits.append([(square_root.level(step, step / num_steps),) * 2 for step in steps])
        assert torch.tensor(limits).tolist() == tensor(golden, "min_max_steps").tolist()


@golden_fixtures("sds_small")
class TestAgainstDreamGaussian:
    def test_the_gradient_of_the_render(self, golden: Golden) -> None:
        azimuths = torch.tensor(
            stated(meaning(golden, "dreamgaussian_views_loss"), r"hors \[.*?\]"), dtype=torch.float32
        )
        angles = ViewAngles(torch.zeros_like(azimuths), azimuths, torch.ones_like(azimuths))
        for name in ("plain", "views"):
            call = meaning(golden, f"dreamgaussian_{name}_loss")
            denoiser = model(golden, *stated(call, "guidance_scale #"))
            if name == "plain":
                denoiser = with_one_prompt(golden, denoiser)
            else:
                own_angles = replace(denoiser.prompts, front_angle=60.0, back_angle=120.0)
                denoiser = replace(denoiser, prompts=own_angles)
            rgb = tensor(golden, "call_rgb").requires_grad_()
            times = torch.full((len(rgb),), FallingTimes().level(*stated(call, "step_ratio #")))
            loss = distilled(golden, 2 * as_latents(golden, rgb) - 1, angles, denoiser, times)
            loss.backward()
            assert rgb.grad is not None
            assert_equals(golden, f"dreamgaussian_{name}_loss", loss.detach())
            assert_equals(golden, f"dreamgaussian_{name}_rgb_grad", rgb.grad)

    def test_falling_noise_levels(self, golden: Golden) -> None:
        said = meaning(golden, "dreamgaussian_t")
        (first, last, num_steps), (low, high) = stated(said, "iteration # to # of #"), stated(said, "clipped to # to #")
        times = FallingTimes(low, high)
        levels = [times.level(step / num_steps) for step in range(first, last + 1)]
        assert levels == tensor(golden, "dreamgaussian_t").tolist()


def with_one_prompt(golden: Golden, denoiser: TextDiffusion) -> TextDiffusion:
    """The denoiser with the prompt itself for all directions."""
    plain = tensor(golden, "text_embeddings")[:1].expand(4, -1, -1)
    return replace(denoiser, prompts=replace(denoiser.prompts, of_direction=plain))


def as_latents(golden: Golden, rgb: Tensor) -> Tensor:
    """A render with four channels as latents, of the size of the noise."""
    size = drawn(golden.sidecar["call_noise"]).shape[2:]
    return F.interpolate(rgb.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)


def distilled(
    golden: Golden, latents: Tensor, angles: ViewAngles, denoiser: TextDiffusion, times: Tensor, clip: float = 0.0
) -> Tensor:
    noise = drawn(golden.sidecar["call_noise"])
    gradient = ScoreDistillation(denoiser, clip=clip).gradient(latents.detach(), angles, times, noise)
    return surrogate(latents, gradient)


class Constant:
    """A denoiser that predicts the same number everywhere."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.alphas_cumprod = torch.linspace(0.99, 0.01, 1000)

    def latents(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        return pictures

    def predicted_noise(self, noisy: Tensor, times: Tensor, views: ViewAngles) -> Tensor:
        return torch.full_like(noisy, self.value)


LEVEL = ViewAngles(torch.zeros(2), torch.zeros(2), torch.ones(2))


def test_the_losss_gradient_is_the_weighted_difference_over_the_batch() -> None:
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    noise, times = torch.randn(2, 3, 4, 4), torch.tensor([10, 900])
    guidance = ScoreDistillation(Constant(0.25))
    gradient = guidance.gradient(latents, LEVEL, times, noise)
    alphas = guidance.denoiser.alphas_cumprod[times][:, None, None, None]
    torch.testing.assert_close(gradient, (1 - alphas) * (0.25 - noise))
    surrogate(latents, gradient).backward()
    torch.testing.assert_close(latents.grad, gradient / 2)


def test_a_seed_makes_the_same_run_and_its_state_continues_it() -> None:
    pictures = torch.rand(2, 3, 8, 8)
    first, second = (ScoreDistillation(Constant(0.0), seed=3) for _ in range(2))
    assert first.loss(pictures, LEVEL, 0, 0.0) == second.loss(pictures, LEVEL, 0, 0.0)
    continued = ScoreDistillation(Constant(0.0), seed=9)
    continued.load_state_dict(first.state_dict())
    assert first.loss(pictures, LEVEL, 1, 0.1) == continued.loss(pictures, LEVEL, 1, 0.1)
    assert ScoreDistillation(Constant(0.0), seed=4).loss(pictures, LEVEL, 0, 0.0) != second.loss(
        pictures, LEVEL, 0, 0.0
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_said_in_one_line(value: float) -> None:
    with pytest.raises(InputError, match="the guidance's prediction is not finite.*float32"):
        ScoreDistillation(Constant(value)).loss(torch.rand(2, 3, 8, 8), LEVEL, 0, 0.0)
    with pytest.raises(InputError, match="the render is not finite"):
        ScoreDistillation(Constant(0.0)).loss(torch.full((2, 3, 8, 8), value), LEVEL, 0, 0.0)


def test_prompts_name_the_side() -> None:
    assert directed_prompts("a cow") == [f"a cow, {side} view" for side in ("side", "front", "back", "overhead")]


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [0, 1.0, 2.0, 100, 3.0]])
def test_a_schedule_of_another_form(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="a schedule is"):
        value_at(wrong, 0)


def test_the_highest_level_is_that_of_the_first_step() -> None:
    for high in (0.9, [0.9, 0.5, 100], [0, 0.9, 0.5, 100]):
        assert SquareRootTimes(0.1, high).level(50, progress=0.25) == 500  # halfway between 0.9 and 0.1
