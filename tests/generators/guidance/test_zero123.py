# SPDX-License-Identifier: Apache-2.0
"""Zero123 and Stable Zero123, compared with their own code, threestudio's and DreamGaussian's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden import Golden, golden_fixtures
from guidance_goldens import assert_equals, drawn, meaning, networks, stated, tensor
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from img3d_generators.guidance.distillation import ScoreDistillation, denoised, surrogate
from img3d_generators.guidance.latent_space import LatentSpace
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.guidance.zero123 import CameraProjection, ConditionView, Zero123, pose_numbers
from img3d_generators.guidance.zero123_files import CLIP_MEAN, CLIP_STD, clip_pixels, in_our_names, seen_image
from img3d_generators.zero123plus.model import ClipPreprocessing


def projection(golden: Golden) -> CameraProjection:
    config = golden.sidecar["config"]["clip_camera_projection"]
    made = CameraProjection(config["embedding_dim"], config["additional_embeddings"])
    golden.fill(made)
    return made.requires_grad_(False)


def model(golden: Golden, scale: float, fixed_distance: bool = False, **camera: float) -> Zero123:
    unet, vae, alphas = networks(golden)
    condition = ConditionView(tensor(golden, "clip_embeds"), tensor(golden, "cond_latent_mode"), **camera)
    space = LatentSpace(len(golden.picture()), vae)
    return Zero123(
        unet, space, projection(golden), condition, alphas, guidance_scale=scale, fixed_distance=fixed_distance
    )


def encoder(golden: Golden) -> Any:
    made = CLIPVisionModelWithProjection(CLIPVisionConfig(**golden.sidecar["config"]["image_encoder"]))
    golden.fill(made)
    return made.eval().requires_grad_(False)


def camera(golden: Golden) -> dict[str, float]:
    """The camera of the image in threestudio's runs."""
    said = golden.sidecar["condition_view"]
    return {"elevation": said["elevation_deg"], "azimuth": said["azimuth_deg"], "distance": said["distance"]}


def targets(golden: Golden) -> ViewAngles:
    return ViewAngles(*(tensor(golden, f"target_{name}") for name in ("elevation", "azimuth", "distance")))


@golden_fixtures("zero123_small")
class TestAgainstTheReferences:
    def test_what_clip_sees(self, golden: Golden) -> None:
        picture = golden.picture()
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        size = golden.sidecar["config"]["image_encoder"]["image_size"]
        assert_equals(golden, "clip_pixel_values_ldm", clip_pixels(pixels, size))
        preprocessing = ClipPreprocessing(size, Image.Resampling.BICUBIC, CLIP_MEAN, CLIP_STD)
        assert_equals(golden, "clip_pixel_values", preprocessing(Image.fromarray(picture)))

    def test_what_the_image_encoder_makes_of_it(self, golden: Golden) -> None:
        embeds = encoder(golden)(tensor(golden, "clip_pixel_values")).image_embeds
        assert_equals(golden, "clip_embeds", embeds)

    def test_the_latents_of_the_image(self, golden: Golden) -> None:
        pixels = torch.from_numpy(golden.picture()).permute(2, 0, 1).float() / 255
        with_alpha = torch.cat([pixels, torch.ones_like(pixels[:1])])
        space = LatentSpace(len(golden.picture()), networks(golden)[1])
        assert_equals(golden, "cond_latent_mode", seen_image(with_alpha, space, encoder(golden)).latents)
        assert space.vae is not None
        posterior = space.vae.encode(2 * pixels[None] - 1, return_dict=False)[0]
        assert_equals(golden, "cond_latent_std", posterior.std)

    @pytest.mark.parametrize("kind", ["zero123", "stable_zero123"])
    def test_pose_and_token(self, golden: Golden, kind: str) -> None:
        denoiser = model(golden, 1.0, kind.startswith("stable"), **camera(golden))
        assert_equals(golden, f"{kind}_T", pose_numbers(targets(golden), denoiser.condition, denoiser.fixed_distance))
        assert_equals(golden, f"{kind}_token", denoiser.tokens(targets(golden)))

    @pytest.mark.parametrize("kind", ["zero123", "stable_zero123"])
    def test_threestudios_step(self, golden: Golden, kind: str) -> None:
        call = meaning(golden, f"{kind}_sds_loss")
        denoiser = model(golden, *stated(call, "guidance #"), kind.startswith("stable"), **camera(golden))
        rgb = tensor(golden, f"{kind}_sds_rgb").requires_grad_()
        noise = tensor(golden, f"{kind}_sds_noise")
        latents = as_latents(rgb.permute(0, 3, 1, 2), noise)
        times = torch.tensor(stated(call, "t = #, #"))
        first, last = stated(call, "views # and #")
        views = targets(golden)[first : last + 1]
        gradient = ScoreDistillation(denoiser).gradient(latents.detach(), views, times, noise)
        loss = surrogate(latents, gradient)
        loss.backward()
        assert rgb.grad is not None
        assert_equals(golden, f"{kind}_sds_loss", loss.detach())
        assert_equals(golden, f"{kind}_sds_rgb_grad", rgb.grad)

    @pytest.mark.parametrize("kind", ["zero123", "stable_zero123"])
    def test_dreamgaussians_step(self, golden: Golden, kind: str) -> None:
        name = f"dreamgaussian_{kind}"
        call, pose = meaning(golden, f"{name}_loss"), meaning(golden, f"{name}_T")
        image_elevation = -stated(pose, "default_elevation #")[0]  # its own sign is positive below
        denoiser = model(golden, *stated(call, "guidance #"), kind.startswith("stable"), elevation=image_elevation)
        offsets, azimuths = (
            torch.tensor(stated(pose, rf"{angle} \[.*?\]"), dtype=torch.float32) for angle in ("elevation", "azimuth")
        )
        views = ViewAngles(  # offsets are positive below, too
            image_elevation - offsets, azimuths, torch.full_like(azimuths, *stated(pose, "radius #"))
        )
        assert_equals(
            golden, f"dreamgaussian_{kind}_T", pose_numbers(views, denoiser.condition, denoiser.fixed_distance)
        )
        rgb = tensor(golden, f"dreamgaussian_{kind}_rgb").requires_grad_()
        noise = drawn(golden.sidecar[f"{name}_noise"])
        latents = as_latents(rgb, noise)
        times = torch.full((len(rgb),), *stated(call, "t #"))
        gradient = ScoreDistillation(denoiser).gradient(latents.detach(), views, times, noise)
        loss = len(latents) * surrogate(latents, gradient)  # it does not divide by the size of the batch
        loss.backward()
        assert rgb.grad is not None
        assert_equals(golden, f"dreamgaussian_{kind}_loss", loss.detach())
        assert_equals(golden, f"dreamgaussian_{kind}_rgb_grad", rgb.grad)

    def test_the_authors_own_pose(self, golden: Golden) -> None:
        denoiser = model(golden, golden.sidecar["pipe_call"]["guidance_scale"])
        said, count = meaning(golden, "gradio_T"), len(golden.arrays["gradio_T"])
        (lower,), (azimuth,), (farther,) = (stated(said, f"{name}=#") for name in "xyz")
        views = ViewAngles(*(torch.full((count,), float(value)) for value in (-lower, azimuth, farther)))
        assert_equals(golden, "gradio_T", pose_numbers(views, denoiser.condition))
        assert_equals(golden, "gradio_token", denoiser.tokens(views))

    def test_a_new_view_in_four_steps(self, golden: Golden) -> None:
        call = golden.sidecar["pipe_call"]
        denoiser = model(golden, call["guidance_scale"])
        denoiser.condition = replace(denoiser.condition, latents=tensor(golden, "pipe_image_latents"))
        view = ViewAngles(*(torch.tensor([x]) for x in (-call["elevation"], call["azimuth"], call["distance"])))
        steps = call["num_inference_steps"]
        tokens = denoiser.tokens(view)
        assert_equals(golden, "pipe_tokens", torch.cat([torch.zeros_like(tokens), tokens]))
        made = denoised(denoiser, tensor(golden, "pipe_latents"), view, call["timesteps"][0], steps)
        assert_equals(golden, "pipe_result", made)

    def test_one_prediction(self, golden: Golden) -> None:
        inputs, (without, with_image) = tensor(golden, "pipe_model_input"), tensor(golden, "pipe_eps")
        call = golden.sidecar["pipe_call"]
        time = torch.tensor(stated(meaning(golden, "pipe_eps"), "t = #"))
        denoiser = model(golden, 1.0)
        denoiser.condition = replace(denoiser.condition, latents=inputs[1:, 4:])
        view = ViewAngles(*(torch.tensor([x]) for x in (-call["elevation"], call["azimuth"], call["distance"])))
        for scale, expected in ((1.0, with_image), (0.0, without)):
            denoiser.guidance_scale = scale
            predicted = denoiser.predicted_noise(inputs[1:, :4], time, view)
            tolerance = golden.tolerance("pipe_eps", 1e-5)
            torch.testing.assert_close(predicted[0], expected, atol=tolerance, rtol=0)


def as_latents(rgb: Tensor, noise: Tensor) -> Tensor:
    """A render with four channels as latents, of the size of the noise."""
    return 2 * F.interpolate(rgb, size=noise.shape[2:], mode="bilinear", align_corners=False) - 1


@pytest.mark.parametrize("prefix", ["proj.", "projection.", "cc_projection.", ""])
def test_every_published_name_of_the_projection(prefix: str) -> None:
    weights = {f"{prefix}weight": torch.zeros(2, 6), f"{prefix}bias": torch.zeros(2)}
    assert set(in_our_names(weights)) == {"proj.weight", "proj.bias"}
    assert "proj.extra" in in_our_names({"proj.extra": torch.zeros(1)}), "what is not known stays, to be refused"
