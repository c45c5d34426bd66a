# SPDX-License-Identifier: Apache-2.0
"""The start of `ns-train METHOD --help`: the ten options, out of 170, that people need."""

from __future__ import annotations

import sys

from img3d_generators.registry import Takes

TEXTS = {
    "--data PATH": "photos, video, transforms.json",
    "--data FILE": ".obj, .glb, .gltf, .ply, .stl, .usdz, .fbx",
    "--data PICTURE": "a picture of an object, or a folder of pictures of it",
    "--pipeline.service meshy|tripo|…": "who makes it: see `img3d-remote list`",
    "--pipeline.service-model NAME": "the service's model",
    "--pipeline.settings NAME=VALUE": "more of its options",
    "--pipeline.yes True": "agree to what is sent and paid, for scripts",
    "--pipeline.prompt TEXT": "what to make",
    "--pipeline.guidance NAME": "the model that shapes the object",
    "--pipeline.image PICTURE": "what to show, for a guidance of an image",
    "--pipeline.noise LEVELS": "first and last, 0 to 1: how much is made anew",
    "--pipeline.guidance-scale X": "how closely it is followed",
    "--pipeline.elevation DEGREES": "of the image's camera",
    "--pipeline.offload True": "for GPUs with little memory",
    "--pipeline.model.preset fast|balanced|best": "trade time for quality",
    "--max-num-iterations N": "length of the whole run",
    "--pipeline.model.max-gaussians N": "upper limit of their number",
    "--pipeline.model.camera-optimizer.mode SO3xR3": "improve inexact poses",
    "--pipeline.preset fast|balanced|best": "trade time for quality",
    "--pipeline.image-size N": "longest side in pixels for stereo",
    "--pipeline.faces N": "maximum number of triangles",
    "--pipeline.texture-size N": "width and height of the texture in pixels",
    "--pipeline.network NAME": "the network that makes the asset of views",
    "--pipeline.views 6|4": "how many views the network looks at",
    "--pipeline.quality full|fast": "fast: other views in half the time",
    "--pipeline.precision float32|fast": "fast: half precision, less exact",
    "--pipeline.output gaussians|mesh|both": "what is made; both: also mesh.glb",
    "--pipeline.multi-image stochastic|multidiffusion": "how several images are combined",
    "--output-dir DIR": "where runs go",
    "--experiment-name NAME": "name of the run (default: that of the data)",
    "--load-dir RUN/nerfstudio_models": "continue a run",
    "--vis viewer|tensorboard|…": "where to watch it",
    "--viewer.quit-on-train-completion True": "end when training ends",
    "--steps-per-save N": "steps between checkpoints",
    "img3d-photos --max-image-size N": "longest side in pixels (*)",
    "img3d-single-image --generator NAME": "generator of the other views (*)",
    "img3d-single-image --index N": "which image of a folder (*)",
    "img3d-mesh --up-axis z|y|-y": "which axis of the file points up (*)",
    "img3d-mesh --num-views N": "views to look at and evaluate (*)",
    "img3d-mesh --view-size N": "their width and height in pixels (*)",
    "img3d-mesh --cache-dir DIR": "where the views are kept (*)",
    "--pipeline.model.samples-per-side N": "antialiasing",
    "--pipeline.model.num-samples N": "samples along each ray",
    "img3d-distilled --index N": "which image of a folder (*)",
    "img3d-distilled --view-size N": "pixels of the views it is shaped on (*)",
    "img3d-generated-field --index N": "which image of a folder (*)",
    "img3d-generated-field --num-views N": "views to look at and evaluate (*)",
    "img3d-generated-gaussians --index N": "which image of a folder (*)",
    "img3d-generated-mesh --index N": "which image of a folder (*)",
    "img3d-remote --index N": "which picture of a folder; -1: all (*)",
}
"""What each option is for. An option that begins with the name of a data parser belongs to that parser."""
ONLY_MVS = {"--pipeline.preset", "--pipeline.image-size", "--pipeline.faces", "--pipeline.texture-size"}
ONLY_FIELD = {"--pipeline.model.num-samples", "img3d-generated-field"}
ONLY_INSTANTMESH = {"--pipeline.views", "--pipeline.quality", "img3d-generated-mesh"}
ONLY_REMOTE = {"--data PICTURE", "--pipeline.service", "--pipeline.settings", "--pipeline.yes", "img3d-remote"}
ONLY_TRELLIS = {"--pipeline.precision", "--pipeline.output", "--pipeline.multi-image", "img3d-generated-gaussians"}
ONLY_GUIDED = {"--pipeline.guidance", "--pipeline.elevation", "--pipeline.offload", "img3d-distilled"}
ONLY_RETEXTURE = {"--pipeline.image PICTURE", "--pipeline.noise"}
ONLY_MESH = {
    *("--data FILE", "img3d-mesh", "--pipeline.model.samples"),
    *ONLY_MVS | ONLY_FIELD | ONLY_INSTANTMESH | ONLY_REMOTE | ONLY_TRELLIS | ONLY_GUIDED | ONLY_RETEXTURE,
}
LEFT_OUT_OF_TEXTS = {
    *ONLY_MESH - ONLY_GUIDED,
    *("--data PATH", "--pipeline.model", "--pipeline.network", "--steps", "--load-dir", "img3d-photos"),
    *("img3d-single-image", "img3d-distilled --index", "--pipeline.elevation"),
}
LEFT_OUT = {
    "img3d-splat": {
        *ONLY_MESH,
        *("--pipeline.network", "--steps-per-save", "img3d-single-image", "--experiment-name"),
    },
    "img3d-mesh": {
        *ONLY_MVS | ONLY_FIELD | ONLY_INSTANTMESH | ONLY_REMOTE | ONLY_TRELLIS | ONLY_GUIDED | ONLY_RETEXTURE,
        *("--data PATH", "--pipeline.network", "--pipeline.model.preset", "--pipeline.model.max"),
        *("--pipeline.model.camera", "--max-num", "--load-dir", "--steps", "img3d-photos", "img3d-single-image"),
    },
    "img3d-mvs": {
        *ONLY_MESH - ONLY_MVS,
        *("--pipeline.network", "--pipeline.model.preset", "--pipeline.model.max", "--pipeline.model.camera"),
        *("--max-num", "--load-dir", "--steps", "img3d-single-image"),
    },
    "img3d-ngp": {
        *ONLY_MESH,
        *("--pipeline.network", "img3d-single-image", "--pipeline.model.max", "--pipeline.model.camera"),
    },
    "img3d-nerf": {
        *ONLY_MESH,
        *("--pipeline.network", "img3d-single-image", "--pipeline.model.max", "--pipeline.model.camera"),
    },
    "img3d-dreamfusion": LEFT_OUT_OF_TEXTS,
    "img3d-dreamfusion-nerf": LEFT_OUT_OF_TEXTS,
    "img3d-zero123": {
        *ONLY_MESH - ONLY_GUIDED,
        *("--pipeline.model", "--pipeline.network", "--steps", "--load-dir", "--experiment", "img3d-photos"),
        *("img3d-single-image", "--pipeline.guidance-scale"),
    },
    "img3d-retexture": {
        *ONLY_MESH - ONLY_GUIDED - ONLY_RETEXTURE - {"--data FILE", "img3d-mesh", "--pipeline.texture-size"},
        *("--data PATH", "--pipeline.model", "--pipeline.network", "--steps", "--load-dir", "--experiment"),
        *("--pipeline.guidance-scale", "--pipeline.offload", "--output-dir", "--viewer", "img3d-photos"),
        *("img3d-single-image", "img3d-distilled", "img3d-mesh --num", "img3d-mesh --view", "img3d-mesh --cache"),
    },
    "img3d-remote": {
        *ONLY_MESH - ONLY_REMOTE,
        *("--data PATH", "--pipeline.network", "--pipeline.model", "--max-num", "--load-dir", "--steps"),
        *("img3d-photos", "img3d-single-image"),
    },
    "img3d-triposr": {
        *ONLY_MESH - ONLY_FIELD,
        *("--pipeline.network", "--pipeline.model.preset", "--pipeline.model.max", "--pipeline.model.camera"),
        *("--steps", "img3d-photos", "img3d-single-image"),
    },
    "img3d-instantmesh": {
        *ONLY_MESH - ONLY_INSTANTMESH - {"--pipeline.texture-size"},
        *("--pipeline.model", "--max-num", "--load-dir", "--steps", "img3d-photos", "img3d-single-image"),
    },
    "img3d-instantmesh-nerf": {
        *ONLY_MESH - ONLY_INSTANTMESH - ONLY_FIELD,
        *("--pipeline.model", "--steps", "--load-dir", "img3d-photos", "img3d-single-image", "img3d-generated-mesh"),
        "img3d-generated-field --num-views",
    },
    "img3d-trellis": {
        *ONLY_MESH - ONLY_TRELLIS - {"--pipeline.texture-size"},
        *("--pipeline.network", "--pipeline.model", "--steps", "--load-dir", "--experiment-name"),
        *("img3d-photos", "img3d-single-image"),
    },
    "img3d-trellis-mesh": {
        *ONLY_MESH - ONLY_INSTANTMESH - ONLY_TRELLIS - {"--pipeline.texture-size"},
        *("--pipeline.output", "--pipeline.views", "--pipeline.quality", "--pipeline.network", "--pipeline.model"),
        *("--steps", "--max-num", "img3d-photos", "img3d-single-image", "img3d-generated-gaussians"),
    },
    "img3d-object-views": {
        *ONLY_MESH,
        *("--steps", "--experiment", "img3d-photos", "--pipeline.network", "--pipeline.model.camera"),
    },
}
"""For each method, prefixes of the options that it lacks or that are needed less."""
LEFT_OUT_OF_GENERATORS = {*ONLY_MESH, "--steps-per-save", "img3d-photos", "--pipeline.model"}
"""The same for the methods that are made from generators."""
LEFT_OUT_OF_INPUTS: dict[Takes | None, tuple[str, ...]] = {
    "image": ("--pipeline.prompt",),
    "views": ("--pipeline.prompt", "--pipeline.network"),
    "text": ("--data", "--pipeline.network", "img3d-single-image"),
    None: (),
}

TAKES: dict[str, Takes | None] = {
    "img3d-dreamfusion": "text",
    "img3d-dreamfusion-nerf": "text",
    "img3d-retexture": None,
}
"""What methods take that are not a generator's, None for several kinds; others take an image."""


def most_used(method: str, takes: Takes | None = None) -> dict[str, str]:
    """The options of one of our methods that people need, and what they are for.

    Args:
        method: Its name.
        takes: What it takes, if it is a generator's.
    """
    takes = takes or TAKES.get(method, "image")
    left_out = (*LEFT_OUT.get(method, LEFT_OUT_OF_GENERATORS), *LEFT_OUT_OF_INPUTS[takes])
    return {option: text for option, text in TEXTS.items() if not option.startswith(left_out)}


def description(method: str, summary: str, takes: Takes | None = None) -> str:
    """The summary, followed by the most used options if the command line asks for this method.

    tyro prints the description in `ns-train --help`, where it has to be short, and again above the options of the
    method, which tyro sorts by where they are defined.
    """
    if method not in sys.argv[1:]:
        return summary
    options = most_used(method, takes)
    width = max(map(len, options))
    lines = "\n".join(f"  {option:{width}}  {text}" for option, text in options.items())
    return (
        f"{summary}\n\nWhat most runs need:\n{lines}\n\n(*) At the end of the command, after the data parser's "
        "name.\n\nA config.yml runs code when it is loaded, as all of Nerfstudio's do: load only\n  your own."
    )
