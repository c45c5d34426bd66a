# SPDX-License-Identifier: Apache-2.0
"""Runs of a generator that makes both Gaussians and a mesh of an object: `--pipeline.output` says which of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nerfstudio.engine.trainer import TrainerConfig

from img3d_assets.meshing.texture_baking import check_texture_size
from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_generators.pairing import Choice
from img3d_generators.registry import row
from img3d_methods.compat import fail
from img3d_methods.distilled.refinement import OFF
from img3d_methods.generated.dataparser_specs import img3d_generated_gaussians
from img3d_methods.generated.generated_asset import found_or_made, origin_of
from img3d_methods.generated.mesh_dataparser import MESH_FILES
from img3d_methods.generated.options import StageOptions
from img3d_methods.generated.pipeline import Img3dGeneratedGaussiansPipelineConfig
from img3d_methods.generated.runs import mesh_run, method_name, seen_from_all_sides_run
from img3d_methods.generated.trainer import Img3dGeneratedTrainer, Img3dGeneratedTrainerConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig

Output = Literal["gaussians", "mesh", "both"]
TEXTURE_SIZE = 1024
"""The authors' default."""
MESH_FILE = "mesh.glb"
"""Name of the mesh's file in the folder of a run of both."""


@dataclass
class GaussiansOrMeshPipelineConfig(Img3dGeneratedGaussiansPipelineConfig):
    """The generator that makes Gaussians, a mesh, or both."""

    output: Output = "gaussians"
    """What the run holds: "gaussians"; "mesh", a mesh with a texture that is baked from renders of the Gaussians (the
    run is then one of the generator of meshes, such as img3d-trellis-mesh); or "both", the Gaussians, and beside its
    config.yml the textured mesh as mesh.glb."""
    texture_size: int = TEXTURE_SIZE
    """Width and height in pixels of the mesh's texture; 0: vertex colours only."""

    def choose(self) -> Choice:
        """See `Img3dGeneratedMeshPipelineConfig`; checks also the mesh's options."""
        if self.output == "gaussians" and self.texture_size != TEXTURE_SIZE:
            raise InputError("--pipeline.texture-size is for a mesh: add --pipeline.output mesh, or both")
        if self.output != "gaussians" and self.texture_size:
            check_texture_size(self.texture_size)
        return super().choose()

    def given(self) -> dict[str, Any]:
        """The options of the Gaussians that differ from their defaults."""
        return {name: value for name, value in super().given().items() if name != "texture_size"}


@dataclass
class GaussiansOrMeshTrainerConfig(Img3dGeneratedTrainerConfig):
    """Options of a run of Gaussians, a mesh, or both."""

    _target: type = field(default_factory=lambda: GaussiansOrMeshTrainer)

    def print_to_terminal(self) -> None:
        """Turns a run of a mesh into that of the generator of meshes, before config.yml is written."""
        pipeline: Any = self.pipeline
        if pipeline.output != "mesh":
            super().print_to_terminal()
            return
        if self.max_num_iterations > 0 or pipeline.guidance != OFF:
            fail(f"{self.method_name}: a mesh is not refined: leave --max-num-iterations and --pipeline.guidance out")
        made: Any = mesh_run_of(self)
        # ns-train keeps this object, so it has to become the other one.
        self.__class__, self.__dict__ = type(made), vars(made)
        self.print_to_terminal()


def gaussians_or_mesh_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds generated Gaussians, as `seen_from_all_sides_run`, or a mesh of the same object."""
    plain = seen_from_all_sides_run(method, generator)
    pipeline = GaussiansOrMeshPipelineConfig(
        generator=generator,
        datamanager=Img3dDatamanagerConfig(dataparser=img3d_generated_gaussians.config),
        model=plain.pipeline.model,
    )
    return GaussiansOrMeshTrainerConfig(method_name=method, vis="viewer", max_num_iterations=0, pipeline=pipeline)


def mesh_run_of(config: GaussiansOrMeshTrainerConfig) -> TrainerConfig:
    """The run of the generator of meshes, with the input and the options of a run of Gaussians."""
    given: Any = config.pipeline
    generator = row(given.generator).mesh_row
    made = mesh_run(method_name(generator), generator)
    pipeline: Any = made.pipeline
    manager, other = pipeline.datamanager, given.datamanager
    parser = manager.dataparser
    _copy(config, made, {one.name for one in fields(made)} - {"_target", "method_name", "pipeline", "optimizers"})
    _copy(given, pipeline, {one.name for one in fields(StageOptions)})
    _copy(other.dataparser, parser, {"data", "index", "seed", "num_views", "view_size", "cache_dir"})
    manager.data = other.data
    return made


def _copy(source: Any, target: Any, names: set[str]) -> None:
    for name in names:
        setattr(target, name, getattr(source, name))


class GaussiansOrMeshTrainer(Img3dGeneratedTrainer):
    """Holds and refines the Gaussians, and writes the mesh if both are wanted."""

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        options: Any = self.config.pipeline
        if self._start_step == 0 and options.output == "both":
            self._write_mesh()

    def _write_mesh(self) -> None:
        """Makes the mesh of the same latents, or finds it in the cache."""
        made: Any = mesh_run_of(self.config)  # pyright: ignore[reportArgumentType]  # it is the configuration of above
        made.pipeline.choose()
        parser = made.pipeline.datamanager.dataparser
        parser.data = made.pipeline.datamanager.data
        mesh = found_or_made(parser, origin_of(parser, parser.cache_dir, MESH_FILES.recipe), MESH_FILES)
        file = self.base_dir / MESH_FILE
        mesh.save(file)
        print_line(f"The mesh is in {file}")
