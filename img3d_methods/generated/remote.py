# SPDX-License-Identifier: Apache-2.0
"""`img3d-remote`: the mesh or the Gaussians that a service on the network makes, as a run.

`ns-train` orders it before it writes anything. All that comes later reads the file in the cache; nothing else talks to
a service.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from img3d_base.atomic_files import writable_cache
from img3d_base.errors import InputError
from img3d_base.output_files import written_whole
from img3d_methods.compat import fail
from img3d_methods.generated.trainer import Img3dGeneratedTrainer, NamedAfterText
from img3d_methods.mesh.trainer import Img3dMeshTrainer, Img3dMeshTrainerConfig
from img3d_methods.representation import remote_options
from img3d_methods.splat.optimizers import splat_optimizers
from img3d_methods.training.pipeline import Img3dPipelineConfig
from img3d_methods.training.trainer import Img3dTrainer

RECORD = "service.json"
"""The file beside config.yml with the order, the service's answer, its terms and the cost."""


@dataclass
class Img3dRemotePipelineConfig(Img3dPipelineConfig):
    """The service that makes a mesh or Gaussians, the order, and the model that holds the result."""

    service: str = ""
    """The service: meshy, csm, tripo, stability, fal or rodin. `img3d-remote list` shows what each
    takes, and `img3d-remote price` what it costs. Its key comes from the environment (such as MESHY_API_KEY) or from
    the system's keyring, never from an option."""
    prompt: str = ""
    """The text, instead of a picture; for rodin also with pictures."""
    service_model: str = ""
    """The service's model; empty: its default. `img3d-remote list SERVICE` shows those that are known."""
    settings: tuple[str, ...] = ()
    """Further fields of the service's request, as NAME=VALUE; `img3d-remote list SERVICE` shows them."""
    gives: Literal["Mesh", "Gaussians"] = "Mesh"
    """The kind of asset that the service makes; only tripo makes Gaussians, from one picture."""
    seed: int = 0
    """Random seed, for services that have one; another seed is another order, which is paid again."""
    yes: bool = False
    """Agrees to sending the pictures or the text, and to paying; otherwise a terminal asks. Not kept in config.yml."""

    def order(self) -> None:
        """Has the service make the asset, unless it is in the cache, and notes its file for the data parser; a model
        of Gaussians takes the place of the mesh's, if they are wanted.

        Raises:
            InputError: The user does not agree, the service refuses, or something cannot be read or written.
        """
        from img3d_generators.services.orders import Request, asset_file  # late: httpx is not for every command

        agreed, self.yes = self.yes, False
        datamanager: Any = self.datamanager
        parser = remote_options(datamanager.dataparser)
        if parser is None:
            raise InputError("a service makes the asset: do not choose another data parser than img3d-remote")
        data = datamanager.data
        text_only = bool(self.prompt.strip()) and data.is_dir() and data == Path.cwd()
        pictures = [] if text_only else pictures_of(data, parser.index)
        request = Request(self.service, pictures, self.prompt, self.service_model, self.settings, self.seed, self.gives)
        cache = writable_cache(data if data.is_dir() else data.parent, parser.cache_dir)
        parser.file = asset_file(request, cache, agreed).path.absolute()
        if self.gives == "Gaussians":
            self._hold_gaussians(parser)

    def _hold_gaussians(self, parser: Any) -> None:
        from img3d_assets.splat_files import read_splats
        from img3d_methods.generated.pipeline import Img3dGeneratedPipeline
        from img3d_methods.generated.remote_gaussians import Img3dRemoteGaussians
        from img3d_methods.splat.model import Img3dSplatModelConfig

        gaussians, _ = read_splats(parser.file)
        parser._target, self._target = Img3dRemoteGaussians, Img3dGeneratedPipeline
        self.model = Img3dSplatModelConfig(
            sh_degree=gaussians.sh_degree,
            num_downscales=0,
            stop_split_at=1,
            appearance="off",
            rasterize_mode="antialiased" if gaussians.antialiased else "classic",
        )


def pictures_of(data: Path, index: int) -> list[Path]:
    """The pictures that the user means.

    Args:
        data: A picture, or a folder of pictures.
        index: Which one of a folder, in the order of their names; -1: all.

    Raises:
        InputError: There is no such picture.
    """
    from img3d_generators.image_preparation import single_images
    from img3d_methods.generated.sources import image_of

    return single_images(data) if index == -1 else [image_of(data, index)]


@dataclass
class Img3dRemoteTrainerConfig(NamedAfterText, Img3dMeshTrainerConfig):
    """Options of a run that holds what a service made."""

    _target: type = field(default_factory=lambda: Img3dRemoteTrainer)

    def print_to_terminal(self) -> None:
        """Checks the options, and has the service make the asset, before config.yml is written."""
        super().print_to_terminal()
        pipeline: Any = self.pipeline
        try:
            pipeline.order()
        except InputError as error:
            fail(f"{self.method_name}: {error}")
        if pipeline.gives == "Gaussians":
            self._target, self.optimizers = Img3dRemoteGaussiansTrainer, splat_optimizers()


class KeepsRecord(Img3dTrainer):
    """Saves the asset, and what the service said about it."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Builds the run, and keeps the record of the order beside it."""
        super().setup(test_mode)
        from img3d_generators.services.jobs import read_job

        pipeline: Any = self.config.pipeline
        file = pipeline.datamanager.dataparser.file
        try:
            record = read_job(file.with_suffix(".json")).public_record()
            with written_whole(self.base_dir / RECORD) as temporary:
                temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf8")
        except InputError as error:
            fail(str(error))


class Img3dRemoteTrainer(KeepsRecord, Img3dMeshTrainer):
    """The trainer of a mesh, which trains nothing."""


class Img3dRemoteGaussiansTrainer(KeepsRecord, Img3dGeneratedTrainer):
    """The trainer of Gaussians, which stay as the service made them."""

    def _has_steps(self) -> bool:
        return False

    def _evaluated(self) -> tuple[str, bool]:
        dataset = self.pipeline.datamanager.eval_dataset
        return f"{len(dataset or ())} views of the Gaussians", False
