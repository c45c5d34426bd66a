# SPDX-License-Identifier: Apache-2.0
"""How img3d-splat does on photos as people take them: PSNR, SSIM, fog and depth of photos that were held out.

Fog is the share of a held-out photo's pixels whose rendered depth is less than half of the true one. The truth is the
depth of a model that was trained on all photos of the set, the held-out ones included, where that model is opaque.
Depth is told by its median error, relative to the true one: surfaces that are not opaque are too far away.

    python benchmarks/casual_captures.py
    python benchmarks/casual_captures.py --only fox-24 still-24 --preset balanced --pictures outputs/casual
    python benchmarks/casual_captures.py --only fox-24 --model use_scale_regularization=True
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from casual_scenes import SCENES, CasualScene, make_reference, make_scene, source_frames
from nerfstudio.model_components.lib_bilagrid import color_correct
from PIL import Image
from sky_scene import make_sky_scene

from img3d_methods.specs import img3d_splat
from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.splat.trainer import Img3dSplatTrainer
from img3d_methods.training.presets import PresetName

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("IMG3D_DATA", REPOSITORY.parent / "shared" / "data"))
OPAQUE = 0.9
"""Accumulation from which a reference model's depth counts as known."""
FOG = 0.5
"""Part of the true depth before which a surface is fog."""


@dataclass(frozen=True)
class HeldOut:
    """A held-out photo and its render."""

    photo: torch.Tensor
    """`[H, W, 3]` in [0, 1]."""
    rgb: torch.Tensor
    """`[H, W, 3]` in [0, 1]."""
    depth: npt.NDArray[np.float32]
    """`[H, W]`, along the camera's axis, in the units of the photo set's poses."""
    accumulation: npt.NDArray[np.float32]
    """`[H, W]`, in [0, 1]."""


def trained(
    folder: Path, preset: PresetName, downscale_factor: float, options: dict[str, Any], output: Path, seeds: Path
) -> tuple[Img3dSplatTrainer, float]:
    """A trainer after its last step, and how many seconds training took."""
    config: Any = copy.deepcopy(img3d_splat.config)
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.data = config.pipeline.datamanager.data = folder
    config.pipeline.datamanager.dataparser.downscale_factor = downscale_factor
    config.pipeline.datamanager.dataparser.cache_dir = seeds
    config.pipeline.model.preset = preset
    for name, value in options.items():
        if name == "steps":
            config.max_num_iterations = value
        elif name == "seed":
            config.machine.seed = value
        elif hasattr(config.pipeline.datamanager.dataparser, name):
            setattr(config.pipeline.datamanager.dataparser, name, value)
        elif hasattr(config.pipeline.model, name):
            setattr(config.pipeline.model, name, value)
        else:
            sys.exit(f"--model {name}: img3d-splat has no such option.")
    config.steps_per_eval_image = config.steps_per_eval_all_images = 10**9
    config.output_dir = output
    config.set_timestamp()
    torch.manual_seed(config.machine.seed)
    np.random.seed(config.machine.seed)
    trainer = cast(Img3dSplatTrainer, config.setup(local_rank=0, world_size=1))
    trainer.setup()
    began = time.perf_counter()
    trainer.train()
    return trainer, time.perf_counter() - began


def held_out_views(trainer: Img3dSplatTrainer) -> dict[str, HeldOut]:
    """Renders of the held-out photos, by the photos' names."""
    pipeline = trainer.pipeline
    datamanager, model = pipeline.datamanager, pipeline.model
    model.eval()
    names = [path.name for path in datamanager.eval_dataset.image_filenames]
    scale = datamanager.train_dataparser_outputs.dataparser_scale
    views = {}
    for camera, batch in datamanager.fixed_indices_eval_dataloader:
        outputs = model.get_outputs_for_camera(camera)
        photo = model.composite_with_background(model.get_gt_img(batch["image"]), outputs["background"])
        views[names[batch["image_idx"]]] = HeldOut(
            photo,
            outputs["rgb"],
            (outputs["depth"][..., 0] / scale).cpu().numpy(),
            outputs["accumulation"][..., 0].cpu().numpy(),
        )
    return views


def reference_depths(
    scene: CasualScene, frames: list[Any], kept_in: Path, temporary: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """The depth of each held-out photo's pixels, NaN where it is not known; from a cache where that has it."""
    cache = kept_in / f"{scene.source}.npz"
    if not cache.is_file():
        print(f"Reference depths of {scene.source}: training on all of its photos, once", file=sys.stderr)
        made = temporary / f"{scene.source}-reference"
        make_reference(frames, made)
        trainer, _ = trained(made, "fast", scene.downscale_factor, {}, temporary / "runs", kept_in)
        _make_firm(trainer.pipeline.model)
        views = held_out_views(trainer)
        depths = {
            name: np.where(view.accumulation >= OPAQUE, view.depth, np.nan).astype(np.float32)
            for name, view in views.items()
        }
        np.savez_compressed(cache, **cast(Any, depths))
    with np.load(cache) as kept:
        return {name: kept[name] for name in kept.files}


def _make_firm(model: Img3dSplatModel) -> None:
    """Let each Gaussian count as often as exports of depth do, as surfaces of few photos are translucent."""
    opacities = model.gauss_params["opacities"].data
    opacities.copy_(torch.logit(1 - (1 - torch.sigmoid(opacities)) ** model.firmness, eps=1e-6))


def fog(view: HeldOut, reference: npt.NDArray[np.float32]) -> tuple[int, int]:
    """How many pixels have something opaque in front of half of their true depth, of how many that have one."""
    known = np.isfinite(reference)
    foggy = known & (view.accumulation >= 0.5) & (view.depth < FOG * reference)
    return int(foggy.sum()), int(known.sum())


def depth_errors(view: HeldOut, reference: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How far the depth of pixels is off that have a true one, relative to that."""
    known = np.isfinite(reference)
    return np.abs(view.depth[known] / reference[known] - 1)


def main() -> None:
    """Train on each scene and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SCENES, default=list(SCENES), metavar="SCENE", help=str([*SCENES]))
    parser.add_argument("--preset", choices=get_args(PresetName), default="fast")
    parser.add_argument(
        "--model", nargs="*", default=[], metavar="NAME=VALUE", help="options of model and data, steps, seed"
    )
    parser.add_argument("--pictures", type=Path, help="folder for photo, render and depth of each held-out photo")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "img3d" / "casual_captures",
        help="where solved poses and reference depths stay",
    )
    arguments = parser.parse_args()
    options = {name: _value(value) for name, _, value in (option.partition("=") for option in arguments.model)}
    arguments.cache.mkdir(parents=True, exist_ok=True)
    print("| scene | photos | PSNR dB | worst | colours fitted | SSIM | fog % | depth off % | Gaussians | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    # One folder for all runs: Tensorboard's threads write into it after a run's end.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for name in arguments.only:
            _measure(name, arguments.preset, options, arguments.cache, arguments.pictures, Path(temporary))


def _measure(
    name: str, preset: PresetName, options: dict[str, Any], cache: Path, pictures: Path | None, temporary: Path
) -> None:
    """Train on a scene and print its row."""
    scene = SCENES[name]
    folder = _photos(scene, cache)
    if not folder.is_dir():
        print(f"No data at {folder}: {name} is left out. IMG3D_DATA is the folder that holds it.", file=sys.stderr)
        return
    frames = source_frames(folder, cache)
    references = reference_depths(scene, frames, cache, temporary)
    make_scene(frames, scene, temporary / name)
    trainer, seconds = trained(temporary / name, preset, scene.downscale_factor, options, temporary / "runs", cache)
    views = held_out_views(trainer)
    num_train = len(trainer.pipeline.datamanager.train_dataset)
    psnr_of = trainer.pipeline.model.image_metrics.psnr
    metrics = [trainer.pipeline.model.image_metrics.all(view.rgb, view.photo) for view in views.values()]
    psnr, ssim = ([metric[key] for metric in metrics] for key in ("psnr", "ssim"))
    fitted = [psnr_of(color_correct(view.rgb, view.photo), view.photo) for view in views.values()]
    off = np.median(np.concatenate([depth_errors(view, references[photo]) for photo, view in views.items()]))
    counts = np.array([fog(view, references[photo]) for photo, view in views.items()]).sum(axis=0)
    print(
        f"| {name} | {num_train} | {np.mean(psnr):.2f} | {min(psnr):.2f} | "
        f"{np.mean(fitted):.2f} | "
        f"{np.mean(ssim):.3f} | {100 * counts[0] / counts[1]:.2f} | {100 * off:.1f} | "
        f"{trainer.pipeline.model.num_points:,} | {seconds:.0f} |",
        flush=True,
    )
    if pictures is not None:
        _write_pictures(views, references, pictures / name)


def _photos(scene: CasualScene, cache: Path) -> Path:
    """The folder of the whole set of photos; rendered ones are made once."""
    if scene.source == "still_life":
        return REPOSITORY / "sample" / "still_life"
    if scene.source != "sky":
        return DATA / scene.source
    folder, objects = cache / "sky", DATA / "cc0_objects"
    if not objects.is_dir():
        return objects
    if not (cache / "sky.npz").is_file():
        print("Rendering the photos of sky, once", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        np.savez_compressed(cache / "sky.npz", **cast(Any, make_sky_scene(objects, folder)))
    return folder


def _value(text: str) -> Any:
    """A number, a truth value or another literal; anything else is text, such as a path or the name of a preset."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write_pictures(views: dict[str, HeldOut], references: dict[str, npt.NDArray[np.float32]], folder: Path) -> None:
    """Photo, render, rendered depth and true depth side by side; both depths on the scale of the true one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, view in views.items():
        largest = np.nanpercentile(references[name], 98)
        depths = [np.nan_to_num(depth / largest).clip(0, 1) for depth in (view.depth, references[name])]
        strip = [view.photo.cpu().numpy(), view.rgb.cpu().numpy(), *(np.repeat(d[..., None], 3, 2) for d in depths)]
        picture = (np.concatenate(strip, axis=1) * 255).round().astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{Path(name).stem}.png")


if __name__ == "__main__":
    main()
