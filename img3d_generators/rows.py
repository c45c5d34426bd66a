# SPDX-License-Identifier: Apache-2.0
"""Our own generators. A new one consists of a file with the network, a YAML file in configs/, and a row here."""

from __future__ import annotations

from typing import Literal

from img3d_generators.registry import Generator, InputView

SMALL_GENERATOR = "img3d-small"
"""The generator whose weights come with img3d."""
WHITE_VIEWS = "instantmesh-zero123plus-white"
"""The generator of views that InstantMesh was trained with."""
ZERO123PLUS_INPUT = InputView(border_ratio=0.15, fov=30, radius=1.866)
"""The input of Zero123++ v1.2, and a camera from which the object looks like its views."""


def _instantmesh(name: str, gives: Literal["Mesh", "Field"], rank: int) -> Generator:
    """A row of a published InstantMesh."""
    options = ("views", "precision", "texture_size") if gives == "Mesh" else ("views", "precision")
    return Generator(
        name=name,
        takes="views",
        gives=gives,
        views=("zero123plus-30-degrees",),
        load="img3d_generators.instantmesh.generator:instantmesh_asset",
        view_generators=(WHITE_VIEWS,),
        options=options,
        checkpoints=(name,),
        rank=rank,
    )


def _trellis(name: str, gives: Literal["Gaussians", "Mesh"], title: str) -> Generator:
    """A row of the published TRELLIS."""
    options = ("steps", "multi_image", "precision", "keep_in")
    return Generator(
        name=name,
        title=f"{title}; any object, from one image or several; hours on a CPU",
        takes="image",
        gives=gives,
        load=f"img3d_generators.trellis.generator:trellis_{gives.lower()}",
        frame="img3d_generators.trellis.conditioning:framed",
        options=(*options, "texture_size") if gives == "Mesh" else options,
        checkpoints=("trellis-image-large", "dinov2-large-registers"),
        rank=60,
        on_request=True,
        is_aligned=False,
        takes_several=True,
        mesh_row="trellis-mesh" if gives == "Gaussians" else "",
    )


ROWS = (
    # Whole generators.
    Generator(
        name="lgm",
        title="views by Zero123++, then Gaussians by LGM; any object",
        takes="image",
        gives="Gaussians",
        networks=("lgm-big", "lgm-big-fp32"),
        rank=50,
    ),
    Generator(
        name=SMALL_GENERATOR,
        title="one small network of our own; low-poly objects, a rough guess of others",
        takes="image",
        gives="Gaussians",
        load="img3d_generators.small.generator:small_gaussians",
        checkpoints=(SMALL_GENERATOR,),
        rank=5,
    ),
    Generator(
        name="triposr",
        title="one network; any object; img3d-export makes a coloured mesh of it",
        takes="image",
        gives="Field",
        load="img3d_generators.triposr.generator:triposr_field",
        frame="img3d_generators.triposr.preparation:framed",
        options=("precision",),
        checkpoints=("triposr",),
        rank=30,
    ),
    Generator(
        name="instantmesh",
        title="views by Zero123++ on white, then a mesh by InstantMesh; any object",
        takes="image",
        gives="Mesh",
        networks=("instantmesh-mesh-large", "instantmesh-mesh-base"),
        view_generators=(WHITE_VIEWS,),
        input=ZERO123PLUS_INPUT,
        rank=40,
    ),
    Generator(
        name="instantmesh-nerf",
        title="views by Zero123++ on white, then a field by InstantMesh; any object",
        takes="image",
        gives="Field",
        networks=("instantmesh-nerf-large", "instantmesh-nerf-base"),
        view_generators=(WHITE_VIEWS,),
        input=ZERO123PLUS_INPUT,
        rank=35,
    ),
    _trellis("trellis", "Gaussians", "Gaussians by TRELLIS"),
    _trellis("trellis-mesh", "Mesh", "a mesh by TRELLIS"),
    # Stages: an image → views.
    Generator(
        name="zero123plus-v1.2",
        takes="image",
        gives="views",
        views=("zero123plus", "zero123plus-30-degrees"),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
        options=("num_steps", "guidance_scale", "quality"),
        checkpoints=("zero123plus-v1.2",),
        rank=30,
    ),
    Generator(
        name=WHITE_VIEWS,
        takes="image",
        gives="views",
        views=("zero123plus", "zero123plus-30-degrees"),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
        options=("num_steps", "guidance_scale", "quality"),
        checkpoints=(WHITE_VIEWS,),
        rank=20,
    ),
    Generator(
        name="zero123plus-v1.1",
        takes="image",
        gives="views",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
        options=("num_steps", "guidance_scale", "quality"),
        checkpoints=("zero123plus-v1.1",),
        rank=10,
    ),
    # Stages: views → an asset.
    Generator(
        name="lgm-big",
        takes="views",
        gives="Gaussians",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:lgm_gaussians",
        checkpoints=("lgm-big",),
        rank=20,
    ),
    Generator(
        name="lgm-big-fp32",
        takes="views",
        gives="Gaussians",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:lgm_gaussians",
        checkpoints=("lgm-big-fp32",),
        rank=10,
    ),
    _instantmesh("instantmesh-mesh-large", "Mesh", rank=9),
    _instantmesh("instantmesh-mesh-base", "Mesh", rank=8),
    _instantmesh("instantmesh-nerf-large", "Field", rank=7),
    _instantmesh("instantmesh-nerf-base", "Field", rank=6),
)
