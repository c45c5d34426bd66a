# SPDX-License-Identifier: Apache-2.0
"""Zero123++: the reference's numbers at every stage, the sampler's arithmetic, the order of the tiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures
from PIL import Image
from torch import Tensor, nn
from zero123plus_repositories import (
    BUILDERS,
    NETWORKS,
    picture,
    preprocessing,
    published_name,
    tiny_zero123plus,
    zero123plus,
)

from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.zero123plus.model import (
    LATENT_SCALE,
    LATENT_SHIFT,
    on_background,
    seeded_noise,
    split_tiles,
)
from img3d_generators.zero123plus.samplers import DpmSolver, ancestral_step

SIZE = (48, 32)
"""Height and width of the grid of tiles in tests that only need one."""


@dataclass
class Run:
    """What one generation made of the golden noise, and what the reference made of it."""

    golden: Golden
    picture: Image.Image
    preprocessed: dict[str, Tensor]
    embeds: Tensor
    reference_inputs: Tensor
    inputs: Tensor
    outputs: Tensor
    decoder_input: Tensor
    decoded: Tensor
    image: Tensor

    @property
    def expected(self) -> dict[str, np.ndarray]:
        """The reference's arrays."""
        return self.golden.arrays

    def check(self, name: str, actual: Tensor, tolerance: float) -> None:
        """Compares with an array of the reference; the sidecar's tolerance, if it has one, replaces the test's."""
        assert actual.shape == self.expected[name].shape
        np.testing.assert_allclose(actual, self.expected[name], rtol=0, atol=self.golden.tolerance(name, tolerance))


@pytest.fixture(scope="module")
def run(golden: Golden) -> Run:
    """Generates from the golden picture, noise and weights; hooks keep what passes between the networks."""
    arrays, config = golden.arrays, golden.sidecar["config"]
    model = zero123plus(config, torch.from_numpy(arrays["ramp"]), torch.from_numpy(arrays["input_ids"]))
    for name in NETWORKS:
        golden.fill(getattr(model, name), rename=lambda key, name=name: published_name(name, key))
    passes: list[tuple[Tensor, Tensor, Tensor]] = []
    decoder_inputs: list[Tensor] = []
    decoded: list[Tensor] = []

    def keep_pass(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        passes.append((args[0], kwargs["encoder_hidden_states"], output[0]))

    vae: Any = model.vae
    model.unet.register_forward_hook(keep_pass, with_kwargs=True)
    vae.post_quant_conv.register_forward_hook(lambda module, args, output: decoder_inputs.append(args[0]))
    vae.decoder.register_forward_hook(lambda module, args, output: decoded.append(output))

    def golden_noise(name: str, shape: tuple[int, ...]) -> Tensor:
        stem = name.rstrip("0123456789")
        drawn = arrays[f"noise_{stem}"]
        drawn = drawn[int(name[len(stem) :])] if stem != name else drawn
        assert drawn.shape == shape
        return torch.from_numpy(drawn)

    source = Image.fromarray(arrays["image_uint8"])
    call = golden.sidecar["call"]
    image = model.generate(
        source,
        call["num_inference_steps"],
        call["guidance_scale"],
        golden_noise,
        size=(call["height"], call["width"]),
    )
    opaque = on_background(source, 127)
    return Run(
        golden=golden,
        picture=opaque,
        preprocessed={"image_vae": model.vae_preprocessing(opaque), "image_clip": model.clip_preprocessing(opaque)},
        embeds=passes[-1][1],
        reference_inputs=torch.stack([reference for reference, _, _ in passes[::2]]),
        inputs=torch.stack([sample for sample, _, _ in passes[1::2]]),
        outputs=torch.stack([output for _, _, output in passes[1::2]]),
        decoder_input=decoder_inputs[0],
        decoded=decoded[0],
        image=image,
    )


@golden_fixtures("zero123plus_", "unet_output", "latents", "image")
class TestReference:
    """Tolerances are those of the golden numbers' README; how much a wrong detail shows is said there, too."""

    def test_picture_is_put_on_grey_and_resized_alike(self, run: Run) -> None:
        np.testing.assert_array_equal(np.asarray(run.picture), run.expected["rgb_grey_uint8"])
        for name, pixels in run.preprocessed.items():
            run.check(name, pixels, 1e-6)

    def test_embeddings(self, run: Run) -> None:
        run.check("prompt_embeds", run.embeds[-1:], 2e-5)
        if len(run.embeds) == 2:
            run.check("text_embeds", run.embeds[:1], 2e-5)

    def test_condition_latents(self, run: Run) -> None:
        sigma = float(run.expected["sigmas"][-2])
        noise = torch.from_numpy(run.expected["noise_cond"][-1])
        latents = run.reference_inputs[-1] * (sigma**2 + 1) ** 0.5 - sigma * noise
        run.check("cond_lat", latents, 5e-5)
        run.check("noisy_cond_scaled", run.reference_inputs, 5e-5)

    def test_every_output_of_the_network(self, run: Run) -> None:
        run.check("unet_output", run.outputs, 5e-5)

    def test_latents_after_every_step(self, run: Run) -> None:
        sigmas = torch.from_numpy(run.expected["sigmas"])[:-1].view(-1, 1, 1, 1, 1)
        latents = run.inputs[:, :1] * (sigmas**2 + 1) ** 0.5
        scaling = run.golden.sidecar["config"]["vae"]["scaling_factor"]
        last = (run.decoder_input * scaling - LATENT_SHIFT) * LATENT_SCALE
        run.check("latents", torch.cat([latents, last[None]]), 1e-4)

    def test_picture(self, run: Run) -> None:
        run.check("decoder_input", run.decoder_input, 5e-4)
        run.check("decoded", run.decoded, 5e-5)
        run.check("image", run.image[None], 5e-5)


@pytest.mark.parametrize(("background", "grey"), [("grey", 127), ("white", 255)])
@golden_fixtures("zero123plus_", "rgb_grey_uint8")
def test_preprocessing_at_the_published_sizes(golden: Golden, background: str, grey: int) -> None:
    if f"rgb_{background}_uint8" not in golden.arrays:
        pytest.skip(f"{golden.name} has no {background} background")
    opaque = on_background(Image.fromarray(golden.arrays["image_uint8"]), grey)
    np.testing.assert_array_equal(np.asarray(opaque), golden.arrays[f"rgb_{background}_uint8"])
    names = [re.fullmatch(rf"published_(vae|clip)(\d+)_{background}_values", name) for name in golden.arrays]
    for values, network, size in ((name[0], name[1], int(name[2])) for name in names if name):
        config = dict(golden.sidecar["config"][f"feature_extractor_{network}"], size={"shortest_edge": size})
        pixels = preprocessing(config)(opaque)
        assert pixels.shape == (1, 3, size, size)
        sampled = pixels.numpy().ravel()[golden.arrays[f"published_{network}{size}_index"]]
        np.testing.assert_allclose(sampled, golden.arrays[values], atol=golden.tolerance(values, 1e-6))


@pytest.mark.parametrize(
    ("network", "published", "parameters"),
    [
        ("unet", "zero123plus_unet", 865_910_724),
        ("vae", "zero123plus_vae", 83_653_863),
        ("text_encoder", "zero123plus_text", 340_387_840),
        ("vision_encoder", "zero123plus_vision", 632_076_800),
    ],
)
def test_the_architecture_in_configs_has_the_published_layout(
    network: str,
    published: str,
    parameters: int,
    published_keys: Callable[[str], dict[str, tuple[int, ...]]],
    layout_of: Callable[[nn.Module], dict[str, tuple[int, ...]]],
) -> None:
    architecture = checkpoint("zero123plus-v1.2").architecture[network]
    with torch.device("meta"):
        module = BUILDERS[network](architecture)
    layout = layout_of(module)
    assert layout == published_keys(published)
    assert sum(int(np.prod(shape)) for shape in layout.values()) == parameters


class TestSampler:
    def test_ancestral_step_is_that_of_diffusers(self) -> None:
        scheduler = tiny_zero123plus().scheduler
        scheduler.set_timesteps(5)
        generator = torch.Generator().manual_seed(3)
        latents = torch.randn(1, 4, 6, 4, generator=generator) * scheduler.init_noise_sigma
        for step, timestep in enumerate(scheduler.timesteps):
            prediction = torch.randn(latents.shape, generator=generator)
            sigma, next_sigma = scheduler.sigmas[step : step + 2].tolist()
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
            ours = ancestral_step(prediction, latents, sigma, next_sigma, noise)
            scheduler.scale_model_input(latents, timestep)
            latents = scheduler.step(
                prediction, timestep, latents, generator=torch.Generator().manual_seed(step), return_dict=False
            )[0]
            # Latents reach 60, and a step adds and scales them: some roundings of 60 * 2^-24 = 4e-6 each, which the
            # next step takes over. A noise level that is 0.1 % off gives 2e-3 and more.
            torch.testing.assert_close(ours, latents, atol=1e-4, rtol=1e-5)

    @pytest.mark.parametrize("spread", [0.1, 0.3, 1.0])
    def test_half_the_steps_of_the_fast_sampler_are_more_exact_than_eulers(self, spread: float) -> None:
        """Of a picture whose values are normally distributed, with mean 0.7, the best prediction is known, and so is
        where noise goes: to 0.7 + spread * noise."""
        mean, noise = 0.7, torch.linspace(-2, 2, 12).view(1, 4, 3, 1)
        scheduler = tiny_zero123plus().scheduler

        def v_of(scaled: Tensor, sigma: float) -> Tensor:
            signal = (sigma**2 + 1) ** -0.5
            amount = sigma * signal
            share = signal * spread**2 / (signal**2 * spread**2 + amount**2)
            known = mean + share * (scaled - signal * mean)
            return signal * (scaled - signal * known) / amount - amount * known

        def error(last: Tensor, first: Tensor, sigma: float) -> float:
            """Of the result, given what the sampler started from, as signal plus sigma times noise."""
            exact = mean + spread * (first - mean) / (spread**2 + sigma**2) ** 0.5
            return float((last - exact).abs().max())

        def error_of_ours(num_steps: int) -> float:
            sampler = DpmSolver(scheduler, num_steps)
            latents, first = sampler.first(noise), sampler.sigmas[0]
            for step in range(num_steps):
                predicted = v_of(sampler.scaled(latents, step), sampler.sigmas[step])
                latents = sampler.after(step, predicted, latents, None)
            return error(latents, sampler.first(noise) * (first**2 + 1) ** 0.5, first)

        def error_of_euler(num_steps: int) -> float:
            scheduler.set_timesteps(num_steps)
            sigmas = scheduler.sigmas.tolist()
            latents = sigmas[0] * noise
            for sigma, following in zip(sigmas, sigmas[1:], strict=False):
                scaled = latents * (sigma**2 + 1) ** -0.5
                denoised = latents / (sigma**2 + 1) - v_of(scaled, sigma) * sigma / (sigma**2 + 1) ** 0.5
                latents = denoised + (latents - denoised) * (following / sigma)
            return error(latents, sigmas[0] * noise, sigmas[0])

        assert error_of_ours(100) < 0.01
        assert error_of_ours(14) < 0.04
        assert error_of_ours(14) < error_of_euler(28) / 3

    def test_the_fast_sampler_takes_half_the_steps_and_one_noise(self) -> None:
        drawn: list[str] = []

        def noise(name: str, shape: tuple[int, ...]) -> Tensor:
            drawn.append(name)
            return torch.randn(shape, generator=torch.Generator().manual_seed(len(drawn)))

        steps: list[range] = []
        tiny_zero123plus().generate(
            picture(), 5, noise=noise, size=SIZE, quality="fast", progress=lambda each: steps.append(each) or each
        )
        assert steps == [range(3)] and drawn == ["vae_cond", "vae_negative", "init", "cond0"]

    def test_the_seed_decides(self) -> None:
        model = tiny_zero123plus()

        def generate(seed: int | torch.Generator) -> Tensor:
            torch.rand(1)  # whatever the global generator is at
            return model.generate(picture(), 2, noise=seeded_noise(seed), size=SIZE)

        assert torch.equal(generate(1), generate(1))
        assert torch.equal(generate(1), generate(torch.Generator().manual_seed(1)))
        assert not torch.allclose(generate(1), generate(2), atol=0.01)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
    def test_half_precision_paints_nearly_the_same(self, dtype: torch.dtype, tolerance: float) -> None:
        model = tiny_zero123plus()
        precise = model.generate(picture(), 2, size=SIZE)
        for network in (model.unet, model.text_encoder, model.vision_encoder):
            nn.Module.to(network, dtype)
        assert (model.generate(picture(), 2, size=SIZE) - precise).abs().mean() < tolerance

    def test_progress_goes_around_the_steps(self) -> None:
        seen: list[int] = []

        def progress(steps: range) -> Any:
            for step in steps:
                seen.append(step)
                yield step

        tiny_zero123plus().generate(picture(), 3, size=SIZE, progress=progress)
        assert seen == [0, 1, 2]

    @pytest.mark.cuda
    def test_gpu_paints_what_the_cpu_paints(self) -> None:
        model = tiny_zero123plus()
        expected = model.generate(picture(), 3, size=SIZE)
        for network in (model.unet, model.vae, model.text_encoder, model.vision_encoder):
            nn.Module.cuda(network)
        torch.testing.assert_close(model.generate(picture(), 3, size=SIZE), expected, atol=1e-3, rtol=0)


def test_tiles_come_row_by_row() -> None:
    grid = torch.arange(6.0).view(3, 1, 2, 1).expand(3, 4, 2, 4).reshape(1, 12, 8).expand(3, 12, 8)
    tiles = split_tiles(grid)
    assert tiles.shape == (6, 3, 4, 4)
    for index, tile in enumerate(tiles):
        assert (tile == index).all()
