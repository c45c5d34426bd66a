# SPDX-License-Identifier: Apache-2.0
"""Runs TRELLIS's stages one after the other, with one network in memory at a time: the image's tokens, the structure,
the latents of its voxels, and Gaussians or a mesh."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.mesh import Mesh
from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError
from img3d_base.progress import duration, with_progress
from img3d_generators.networks.devices import Precision, dtype_of
from img3d_generators.trellis.conditioning import condition_of, on_black
from img3d_generators.trellis.cost import (
    USUAL_VOXELS,
    detail_operations,
    operations_per_second,
    structure_operations,
)
from img3d_generators.trellis.files import PARTS, Settings, load_dinov2, load_part
from img3d_generators.trellis.kept_latents import Latents, LatentsFile
from img3d_generators.trellis.latent_flow import LatentFlow
from img3d_generators.trellis.samplers import Sampler, SeveralImages
from img3d_generators.trellis.structure import StructureDecoder, StructureFlow, occupied
from img3d_generators.trellis.transformer import FlowTransformer, KeysValues
from img3d_generators.trellis.voxels import VoxelGrid

Conditions = tuple[list[list[KeysValues]], list[KeysValues]]
"""The `FlowTransformer.prepared` conditions of all images, and the negative one."""


@dataclass(frozen=True)
class Options:
    """The user's options."""

    seed: int = 0
    """Random seed of the noise; the same seed gives the same object."""
    steps: int = 0
    """Number of steps of each flow; 0: as published."""
    multi_image: SeveralImages = "stochastic"
    """How several images of an object are used."""
    precision: Precision = "float32"
    """Precision of matrix products."""


@dataclass(frozen=True)
class Trellis:
    """The networks' files, and the stages that use them."""

    folder: Path
    """Folder of the published files."""
    dinov2_file: Path
    architecture: Mapping[str, Any]
    """Options of the networks' architectures, by `PARTS`' names; those that it lacks are the published ones."""
    dinov2_architecture: Mapping[str, Any]
    settings: Settings
    device: torch.device
    weights: str = ""
    """Identifies the files' contents in the names of files of latents."""

    def latents(
        self, images: Float[Tensor, "V 4 S S"], options: Options, keep_in: Path | None = None
    ) -> tuple[VoxelGrid, Float[Tensor, "1 N C"]]:
        """The occupied voxels of an object, and their latents.

        Args:
            images: Images of the object: RGBA in [0, 1], framed.
            options: The user's options.
            keep_in: The folder in which the latents are kept after each step; None: nothing is kept.

        Raises:
            InputError: A file is damaged, or nothing is found in the image.
        """
        settings = self.settings.with_steps(options.steps)
        file = LatentsFile(keep_in / f"trellis-{self._key(images, options, settings)}.npz" if keep_in else None)
        random = torch.Generator().manual_seed(options.seed)
        latents = Latents(torch.randn(self._structure_shape(), generator=random))  # always, so that later noise agrees
        latents = file.read() or latents
        if latents.details is None or latents.detail_steps < settings.latents.steps:
            tokens = self._tokens(images, options)
            self._announce(latents, settings, options, tokens)
            if latents.coords is None or latents.details is None:
                latents = self._with_structure(latents, settings, options, tokens, file)
                coords = self._occupied(latents, options)
                noise = torch.randn(1, len(coords), self._detail_channels(), generator=random)
                latents = replace(latents, coords=coords, details=noise)
                file.write(latents)
            latents = self._with_details(latents, settings, options, tokens, file)
        assert latents.coords is not None and latents.details is not None
        mean, deviation = (torch.tensor(values) for values in (settings.mean, settings.deviation))
        grid = VoxelGrid(latents.coords.to(self.device))
        return grid, (latents.details * deviation + mean).to(self.device)

    @torch.no_grad()
    def gaussians(
        self, grid: VoxelGrid, latents: Float[Tensor, "1 N C"], precision: Precision = "float32"
    ) -> ActivatedGaussians:
        """Decodes latents to Gaussians in the box from -0.5 to 0.5; z up, -y towards the viewer."""
        decoder = self._loaded("gaussian_decoder")
        with CONSOLE.status("Decoding Gaussians"), self._computing(precision):
            outputs = decoder(latents, grid)
        return decoder.gaussians(outputs, grid).pruned().cpu()

    @torch.no_grad()
    def mesh(self, grid: VoxelGrid, latents: Float[Tensor, "1 N C"], precision: Precision = "float32") -> Mesh:
        """Decodes latents to a mesh in the box from -0.5 to 0.5; z up, -y towards the viewer."""
        decoder = self._loaded("mesh_decoder")
        with CONSOLE.status("Decoding a mesh"):
            with self._computing(precision):
                features = decoder(latents, grid)
            return decoder.mesh(features, grid)

    def _key(self, images: Tensor, options: Options, settings: Settings) -> str:
        digest = hashlib.sha256(images.numpy().tobytes())
        digest.update(repr((self.weights, self.architecture, options, settings)).encode())
        return digest.hexdigest()[:16]

    def _structure_shape(self) -> tuple[int, int, int, int, int]:
        config = self._config("structure_flow")
        return 1, config.in_channels, *(config.resolution,) * 3

    def _detail_channels(self) -> int:
        return self._config("latent_flow").in_channels

    def _config(self, part: str) -> Any:
        return PARTS[part].config(**self.architecture.get(part, {}))

    def _loaded(self, part: str) -> Any:
        with CONSOLE.status(f"Loading TRELLIS's {part.replace('_', ' ')}"):
            return load_part(part, self.folder, self.architecture, self.device)

    @contextmanager
    def _computing(self, precision: Precision) -> Generator[None]:
        """Context in which matrix products have this precision; sums and normalisations stay in float32."""
        dtype = dtype_of(precision, self.device)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
            yield

    @torch.no_grad()
    def _tokens(self, images: Float[Tensor, "V 4 S S"], options: Options) -> Float[Tensor, "V T D"]:
        with CONSOLE.status("Encoding the image"):
            network = load_dinov2(self.dinov2_file, self.dinov2_architecture, self.device)
            seen = torch.stack([on_black(image) for image in images]).to(self.device)
            with self._computing(options.precision):
                return torch.cat([condition_of(network, image[None]) for image in seen])

    def _conditions(self, flow: FlowTransformer, tokens: Float[Tensor, "V T D"]) -> Conditions:
        """The conditions. The negative one, as many zero tokens as an image has, is represented by a single one:
        attention to equal tokens gives the same."""
        return [flow.prepared(image) for image in tokens], flow.prepared(tokens.new_zeros(1, tokens.shape[2]))

    @torch.no_grad()
    def _with_structure(
        self, latents: Latents, settings: Settings, options: Options, tokens: Tensor, file: LatentsFile
    ) -> Latents:
        if latents.structure_steps == settings.structure.steps:
            return latents
        flow: StructureFlow = self._loaded("structure_flow")
        with self._computing(options.precision):
            sampler = Sampler(flow, *self._conditions(flow, tokens), settings.structure, options.multi_image)
            steps = range(latents.structure_steps, settings.structure.steps)
            for index in with_progress(steps, "Structure", len(steps)):
                state = sampler.step(latents.structure.to(self.device), index)
                latents = replace(latents, structure=state.cpu(), structure_steps=index + 1)
                file.write(latents)
        return latents

    @torch.no_grad()
    def _occupied(self, latents: Latents, options: Options) -> Tensor:
        decoder: StructureDecoder = self._loaded("structure_decoder")
        with CONSOLE.status("Finding the occupied voxels"), self._computing(options.precision):
            coords = occupied(decoder(latents.structure.to(self.device))).cpu()
        if len(coords) == 0:
            raise InputError("TRELLIS finds no object in the image; another --seed, or a clearer image, may help")
        return coords

    @torch.no_grad()
    def _with_details(
        self, latents: Latents, settings: Settings, options: Options, tokens: Tensor, file: LatentsFile
    ) -> Latents:
        assert latents.coords is not None and latents.details is not None
        flow: LatentFlow = self._loaded("latent_flow")
        grid = VoxelGrid(latents.coords.to(self.device))

        def velocity(states: Tensor, time: Tensor, conditions: Sequence[Sequence[KeysValues]]) -> Tensor:
            return flow(states, time, conditions, grid)

        with self._computing(options.precision):
            sampler = Sampler(velocity, *self._conditions(flow, tokens), settings.latents, options.multi_image)
            steps = range(latents.detail_steps, settings.latents.steps)
            for index in with_progress(steps, f"Details of {len(grid):,} voxels", len(steps)):
                assert latents.details is not None
                state = sampler.step(latents.details.to(self.device), index)
                latents = replace(latents, details=state.cpu(), detail_steps=index + 1)
                file.write(latents)
        return latents

    def _announce(self, latents: Latents, settings: Settings, options: Options, tokens: Tensor) -> None:
        """Prints how long the object takes, and after how many steps it continues."""
        speed = operations_per_second(self.device, dtype_of(options.precision, self.device))
        images, length = tokens.shape[:2]
        structure = structure_operations(self._config("structure_flow"), length) / speed
        voxels = USUAL_VOXELS if latents.coords is None else len(latents.coords)
        details = detail_operations(self._config("latent_flow"), voxels, length) / speed
        structure *= settings.structure.velocities(images, options.multi_image, latents.structure_steps)
        details *= settings.latents.velocities(images, options.multi_image, latents.detail_steps)
        if latents.structure_steps > 0 or latents.detail_steps > 0:
            done = latents.structure_steps + latents.detail_steps
            print_line(f"TRELLIS goes on after {done} of {settings.structure.steps + settings.latents.steps} steps.")
        if latents.coords is None:
            print_line(
                f"TRELLIS takes about {duration(structure)} for the structure, then about {duration(details)} if the "
                f"object has {voxels:,} voxels; when it is stopped, it goes on after the last step."
            )
        else:
            print_line(f"TRELLIS takes about {duration(details)} for the details of {voxels:,} voxels.")
