# SPDX-License-Identifier: Apache-2.0
"""Zero123++ (Shi et al. 2023, arXiv 2310.15110): turns one picture of an object into six views of it with known
cameras.

A latent diffusion model that generates all six views as tiles of one picture, in 3 rows of 2. The input conditions
it in two ways: its CLIP embedding is added to the tokens of the empty prompt with trained weights (the ramp), and
its latents, with the same amount of noise as the sample, enter the self-attention (see `reference_attention`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from img3d_generators.zero123plus.reference_attention import ReferenceUNet
from img3d_generators.zero123plus.samplers import Quality, sampler_of

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

TILE_ROWS, TILE_COLUMNS = 3, 2
GRID_SIZE = (960, 640)
"""Height and width of the picture with all tiles of 320 x 320."""
LATENT_SCALE, LATENT_SHIFT = 0.75, 0.22
"""The network's latents are (VAE latents - shift) * scale."""
PIXEL_SCALE = 0.5 / 0.8
"""The contrast of the VAE's pictures, relative to real ones."""

Noise = Callable[[str, tuple[int, ...]], Tensor]
"""Returns standard normal noise of a shape. The first argument says what it is for: "vae_cond" and "vae_negative"
(the latents of the input and of an empty picture), "init" (the initial sample), "cond0", "ancestral0", "cond1", …
(added to the input's latents and to the sample in each step)."""
Progress = Callable[[range], Iterable[int]]
"""Wraps the range of denoising steps to show progress, as tqdm does."""


@dataclass(frozen=True)
class ClipPreprocessing:
    """The preprocessing that a `preprocessor_config.json` of transformers' CLIPImageProcessor describes, done with
    Pillow as in the original.

    Later versions of that class resize with torchvision, whose results differ by 0.015.
    """

    size: int
    """Height and width of the result."""
    resample: Image.Resampling
    """Resampling filter; the shorter side becomes `size`."""
    mean: tuple[float, ...]
    """Subtracted from colours in [0, 1]; one number or three."""
    std: tuple[float, ...]
    """Divides the colours afterwards."""

    def __call__(self, image: Image.Image) -> Float[Tensor, "1 3 S S"]:
        """The normalised central square of an RGB picture."""
        width, height = image.size
        shorter = min(width, height)
        width, height = self.size * width // shorter, self.size * height // shorter
        resized = np.asarray(image.resize((width, height), self.resample), dtype=np.float32) / 255
        top, left = (height - self.size) // 2, (width - self.size) // 2
        pixels = torch.from_numpy(resized[top : top + self.size, left : left + self.size])
        return ((pixels - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(2, 0, 1)[None]


@dataclass
class Zero123Plus:
    """The published networks and constants, with our own sampler. `zero123plus.files.load_zero123plus` reads them.

    The networks may be in float32, bfloat16 or float16 and on any device; everything between them is in float32.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    vision_encoder: CLIPVisionModelWithProjection
    scheduler: EulerAncestralDiscreteScheduler
    """Predicts v, with trailing timestep spacing."""
    ramp: Float[Tensor, "T"]
    """Weight of the picture's embedding in each token of the prompt."""
    empty_prompt: Int[Tensor, "1 T"]
    """The tokens of "", the only prompt."""
    vae_preprocessing: ClipPreprocessing
    clip_preprocessing: ClipPreprocessing
    background: int = 127
    """The grey value behind the object in the training pictures: 127, or 255 for InstantMesh's network."""

    def __post_init__(self) -> None:
        self._reference_unet = ReferenceUNet(self.unet)

    @torch.no_grad()
    def generate(
        self,
        image: Image.Image,
        num_steps: int = 28,
        guidance_scale: float = 4.0,
        noise: Noise | None = None,
        size: tuple[int, int] | None = None,
        progress: Progress = iter,
        quality: Quality = "full",
    ) -> Float[Tensor, "3 H W"]:
        """Generates the six views of a picture's object.

        Args:
            image: RGB, or RGBA to have the background replaced; preferably square, with the object centred.
            num_steps: Number of denoising steps of the authors' sampler, who use 28, and 75 for fine detail.
            guidance_scale: Of classifier-free guidance; 1 takes half the time.
            noise: The source of all randomness; None for `seeded_noise(0)`. (The authors' code draws the noise on
                the input's latents from torch's global generator even if it is given another one.)
            size: Height and width of the picture with all tiles, multiples of 64; None is `GRID_SIZE`, as in
                training.
            progress: Wraps the range of denoising steps.
            quality: "full" is the authors' sampler; "fast" takes half as many steps of DPM-Solver++.

        Returns:
            sRGB in [0, 1] on the CPU; `split_tiles` separates the views.
        """
        noise, size = noise or seeded_noise(0), size or GRID_SIZE
        picture = on_background(image, self.background)
        guided = guidance_scale > 1
        embeds = self._embeds(picture, guided)
        condition = self._condition_latents(picture, guided, noise)

        sampler = sampler_of(quality, self.scheduler, num_steps)
        latents = sampler.first(self._noise(noise, "init", (1, 4, size[0] // 8, size[1] // 8)))
        reference_noise = self._noise(noise, "cond0", tuple(condition.shape))
        for step in progress(range(len(sampler.timesteps))):
            sigma, renewed = sampler.sigmas[step], None
            if sampler.renews_noise and step > 0:
                reference_noise = self._noise(noise, f"cond{step}", tuple(condition.shape))
            prediction = self._reference_unet(
                sampler.scaled(latents, step).expand(len(condition), -1, -1, -1).to(self.unet.dtype),
                ((sigma**2 + 1) ** -0.5 * (condition + sigma * reference_noise)).to(self.unet.dtype),
                sampler.timesteps[step].to(self.unet.device),
                embeds,
            ).float()
            if guided:
                negative, positive = prediction.split(1)
                prediction = negative + guidance_scale * (positive - negative)
            if sampler.renews_noise:
                renewed = self._noise(noise, f"ancestral{step}", tuple(latents.shape))
            latents = sampler.after(step, prediction, latents, renewed)
        return self._decode(latents)

    def _noise(self, noise: Noise, name: str, shape: tuple[int, ...]) -> Tensor:
        return noise(name, shape).to(self.unet.device, torch.float32)

    def _embeds(self, picture: Image.Image, guided: bool) -> Float[Tensor, "B T D"]:
        """Tokens for cross-attention: those of the empty prompt if guided, then those with the picture's embedding
        added."""
        text = self.text_encoder(self.empty_prompt.to(self.text_encoder.device)).last_hidden_state.float()
        pixels = self.clip_preprocessing(picture).to(self.vision_encoder.device, self.vision_encoder.dtype)
        seen = self.vision_encoder(pixels).image_embeds.float()
        prompt = text + seen[:, None] * self.ramp.to(seen)[:, None]
        return (torch.cat([text, prompt]) if guided else prompt).to(self.unet.dtype)

    def _condition_latents(self, picture: Image.Image, guided: bool, noise: Noise) -> Float[Tensor, "B 4 h w"]:
        """The VAE's latents, sampled and unscaled: of an all-zero picture if guided, then of the picture."""
        pixels = self.vae_preprocessing(picture).to(self.vae.device, self.vae.dtype)
        latents = [self._encode(pixels, "vae_cond", noise)]
        if guided:
            latents.insert(0, self._encode(torch.zeros_like(pixels), "vae_negative", noise))
        return torch.cat(latents)

    def _encode(self, pixels: Float[Tensor, "1 3 S S"], name: str, noise: Noise) -> Float[Tensor, "1 4 s s"]:
        posterior = self.vae.encode(pixels, return_dict=False)[0]
        mean, std = posterior.mean.float(), posterior.std.float()
        return mean + std * self._noise(noise, name, tuple(mean.shape))

    def _decode(self, latents: Float[Tensor, "1 4 h w"]) -> Float[Tensor, "3 H W"]:
        latents = (latents / LATENT_SCALE + LATENT_SHIFT) / self.vae.config["scaling_factor"]
        decoded = self.vae.decode(
            latents.to(self.vae.dtype),  # pyright: ignore[reportArgumentType]  # asks for torch's legacy FloatTensor
            return_dict=False,
        )[0][0].float()
        return (decoded / PIXEL_SCALE / 2 + 0.5).clamp(0, 1).cpu()


def seeded_noise(seed: int | torch.Generator) -> Noise:
    """Noise from a generator, drawn on its device; with a seed it is the same for networks on a CPU and on a GPU."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return lambda _, shape: torch.randn(shape, generator=generator, device=generator.device)


def on_background(image: Image.Image, grey: int) -> Image.Image:
    """Composites a picture with alpha over grey; pictures without alpha stay as they are."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    backdrop = Image.new("RGB", image.size, (grey, grey, grey))
    backdrop.paste(image, mask=image.getchannel("A"))
    return backdrop


def split_tiles(grid: Float[Tensor, "3 H W"]) -> Float[Tensor, "6 3 S S"]:
    """Splits the picture into six views in the order of their cameras: azimuths 30, 90, 150, 210, 270 and 330
    degrees."""
    channels, height, width = grid.shape
    tiles = grid.view(channels, TILE_ROWS, height // TILE_ROWS, TILE_COLUMNS, width // TILE_COLUMNS)
    return tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
