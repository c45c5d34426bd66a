# SPDX-License-Identifier: Apache-2.0
"""Our own generators. A new one consists of a file with the network, a YAML file in configs/, and a row here."""

from __future__ import annotations

from img3d_generators.registry import Generator

OWN_GENERATOR = "img3d-tiny"
"""The generator whose weights come with img3d."""
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
        name=OWN_GENERATOR,
        title="one small network of our own; simple objects, a rough guess of others",
        takes="image",
        gives="Gaussians",
        load="img3d_generators.tiny:tiny_gaussians",
        checkpoints=(OWN_GENERATOR,),
    ),
    Generator(
        name="triposr",
        title="one network; any object; img3d-export makes a coloured mesh of it",
        takes="image",
        gives="Field",
        load="img3d_generators.triposr.generator:triposr_field",
        frame="img3d_generators.triposr.preparation:framed",
        checkpoints=("triposr",),
        rank=30,
    ),
    # Stages: an image → views.
    Generator(
        name="zero123plus-v1.2",
        takes="image",
        gives="views",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
        checkpoints=("zero123plus-v1.2",),
        rank=30,
    ),
    Generator(
        name="instantmesh-zero123plus-white",
        takes="image",
        gives="views",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
        checkpoints=("instantmesh-zero123plus-white",),
        rank=20,
    ),
    Generator(
        name="zero123plus-v1.1",
        takes="image",
        gives="views",
        views=("zero123plus",),
        load="img3d_generators.lgm_on_zero123plus:zero123plus_views",
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
)
