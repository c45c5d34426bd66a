# SPDX-License-Identifier: Apache-2.0
"""Renders the bundled sample: a still life, path traced by Mitsuba 3 from cameras that are known exactly.

    python tools/make_sample.py

Writes 70 pictures and `transforms.json` (Nerfstudio's format, metres, z up) to sample/still_life. The scene, the
cameras and the sampling all come from fixed seeds, so the same command gives the same pictures again: byte for byte on
the same machine and installation; another processor, Mitsuba or Pillow may round single pixels differently.

Each picture is path traced and what noise is left is removed by Intel's Open Image Denoise, guided by the surfaces' own
colours and normals, so that textures stay sharp.

Mitsuba's LLVM mode is used where a recent LLVM is found (it needs `fminimum`: LLVM 19 works, 15 does not; set
DRJIT_LIBLLVM_PATH to choose one), and its slower scalar mode otherwise; both show the same scene, with different
noise.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

WIDTH, HEIGHT = 400, 300
FOCAL_LENGTH = 440.0
"""Pixels; about 49 degrees across, a short standard lens."""

TEST_EVERY = 7
MAX_BOUNCES = 7
GUIDE_SPP = 32
EXPOSURE = 1.3
SHOULDER = 0.55
"""Linear light above this is compressed smoothly towards white, as film and camera firmware do."""

JPEG_QUALITY = 92

CENTER = np.array([0.0, 0.0, 0.085])
RINGS = ((27, 0.86, 15.0), (24, 0.84, 31.0), (19, 0.80, 49.0))
"""Views, distance in metres and elevation in degrees of each lap around the table."""

MISSING = "mitsuba and pyoidn are needed; install them with: pip install -e '.[sample]'"

PROBE = "import mitsuba as mi; mi.set_variant('llvm_ad_rgb'); mi.render(mi.load_dict(mi.cornell_box()), spp=1).numpy()"

SOURCE = """The still life in this folder is ours (the img3d authors), licensed Apache-2.0 like the rest of the project.

No photograph, scan or downloaded asset is in it: tools/make_sample.py builds every shape and every texture from
numbers and renders them with Mitsuba 3's path tracer. Running the script again reproduces it. Made with Mitsuba
{mitsuba} ({variant}), {spp} samples a pixel, at most {bounces} bounces, Open Image Denoise (pyoidn {pyoidn}),
{width} x {height}, JPEG quality {quality}.

The cameras are exact: pinhole, no distortion, pixel centres at +0.5, lengths in metres, z up. Every {every}th picture
is a test view ({tests} of {count}); the rest are for training.

The committed pictures were checked with structure-from-motion (pycolmap 4.2.1: SIFT on the CPU, exhaustive matching,
incremental mapping, one shared camera): 70 of 70 pictures registered, 7887 points, mean reprojection error 0.45 pixels.
After a similarity alignment the camera centres found lie 0.84 mm (RMS) from the exact ones, 0.11 % of the cameras' RMS
distance from their middle (0.74 m); the focal length found was 440.5 pixels, the exact one is 440.
"""


def look_at(origin: np.ndarray, target: np.ndarray, roll_degrees: float) -> np.ndarray:
    """Camera-to-world with x right, y up and z backwards."""
    back = (origin - target) / np.linalg.norm(origin - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    roll = np.radians(roll_degrees)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * up
    pose[:3, 1] = np.cos(roll) * up - np.sin(roll) * right
    pose[:3, 2] = back
    pose[:3, 3] = origin
    return pose


def camera_poses() -> np.ndarray:
    """A hand-held walk: three laps around the table, each a little higher, with the unsteadiness of a person."""
    rng = np.random.default_rng(2024)
    poses = []
    for lap, (count, distance, elevation) in enumerate(RINGS):
        for index in range(count):
            azimuth = np.radians(360 * (index + 0.33 * lap) / count - 100 + rng.uniform(-2, 2))
            height = np.radians(elevation + rng.uniform(-2.5, 2.5))
            reach = distance * rng.uniform(0.95, 1.05)
            ray = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
            target = CENTER + rng.uniform(-0.015, 0.015, 3)
            poses.append(look_at(CENTER + reach * ray, target, rng.uniform(-2, 2)))
    # Rounded here, before rendering, so that the file says exactly what was rendered.
    return np.round(poses, 9)


def transforms(poses: np.ndarray, width: int, height: int) -> dict[str, Any]:
    names = [f"images/{index + 1:04d}.jpg" for index in range(len(poses))]
    test_names = names[TEST_EVERY // 2 :: TEST_EVERY]
    focal = FOCAL_LENGTH * width / WIDTH
    return {
        "camera_model": "OPENCV",
        "fl_x": focal,
        "fl_y": focal,
        "cx": width / 2,
        "cy": height / 2,
        "w": width,
        "h": height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "frames": [
            {"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, poses, strict=True)
        ],
        "train_filenames": [name for name in names if name not in test_names],
        "val_filenames": test_names,
        "test_filenames": test_names,
    }


def mitsuba_sensor(mi: Any, pose: np.ndarray, width: int, height: int) -> Any:
    """Mitsuba's cameras look along +z with x to the left; its one-pixel box filter makes each pixel a plain average."""
    to_world = pose @ np.diag([-1.0, 1.0, -1.0, 1.0])
    return mi.load_dict(
        {
            "type": "perspective",
            "to_world": mi.ScalarTransform4f(to_world),
            "fov": float(np.degrees(2 * np.arctan(WIDTH / 2 / FOCAL_LENGTH))),
            "fov_axis": "x",
            "near_clip": 0.01,
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "pixel_format": "rgb",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "independent"},
        }
    )


def developed(light: np.ndarray) -> np.ndarray:
    """Linear light to 8-bit sRGB: exposure, a soft shoulder in the highlights, then the sRGB curve."""
    light = np.maximum(light, 0) * EXPOSURE
    room = 1 - SHOULDER
    light = np.where(light < SHOULDER, light, SHOULDER + room * (1 - np.exp(-(light - SHOULDER) / room)))
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(encoded, 0, 1) * 255).astype(np.uint8)


def render_view(mi: Any, scene: Any, sensor: Any, spp: int, seed: int) -> np.ndarray:
    """The linear picture, path traced and denoised."""
    import pyoidn  # pyright: ignore[reportMissingImports]

    path = mi.load_dict({"type": "path", "max_depth": MAX_BOUNCES, "rr_depth": 4})
    surfaces = mi.load_dict({"type": "aov", "aovs": "colour:albedo,facing:sh_normal"})
    light = np.array(mi.render(scene, sensor=sensor, integrator=path, spp=spp, seed=seed), dtype=np.float32)
    guide = np.array(mi.render(scene, sensor=sensor, integrator=surfaces, spp=GUIDE_SPP, seed=seed), dtype=np.float32)
    colour, facing = (np.ascontiguousarray(guide[..., first : first + 3]) for first in (0, 3))
    return pyoidn.denoise(light, albedo=colour, normal=facing, hdr=True, clean_aux=True)


def chosen_variant() -> str:
    """LLVM mode if it works here; tried in another process, because with too old an LLVM Mitsuba aborts."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False)
    return "llvm_ad_rgb" if probe.returncode == 0 else "scalar_rgb"


def make_sample(output_dir: Path, width: int, views: int, spp: int, variant: str) -> None:
    try:
        import mitsuba as mi  # pyright: ignore[reportMissingImports]
        import pyoidn  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        sys.exit(MISSING)
    from sample_scene import build_scene

    variant = chosen_variant() if variant == "auto" else variant
    mi.set_variant(variant)
    height = width * HEIGHT // WIDTH
    poses = camera_poses()
    scene_file = transforms(poses, width, height)
    chosen = np.unique(np.linspace(0, len(poses) - 1, min(views, len(poses))).round().astype(int))
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    work_dir = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}-", dir=output_dir.parent))
    try:
        (work_dir / "images").mkdir()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
            task = progress.add_task("Building the scene", total=len(chosen))
            scene = build_scene(mi)
            progress.update(task, description=f"Rendering ({variant})")
            for index in chosen:
                sensor = mitsuba_sensor(mi, poses[index], width, height)
                picture = Image.fromarray(developed(render_view(mi, scene, sensor, spp, seed=int(index))))
                path = work_dir / scene_file["frames"][index]["file_path"]
                picture.save(path, quality=JPEG_QUALITY, subsampling=0, optimize=True)
                progress.advance(task)
        kept = {scene_file["frames"][index]["file_path"] for index in chosen}
        scene_file["frames"] = [frame for frame in scene_file["frames"] if frame["file_path"] in kept]
        for split in ("train_filenames", "val_filenames", "test_filenames"):
            scene_file[split] = [name for name in scene_file[split] if name in kept]
        (work_dir / "transforms.json").write_text(json.dumps(scene_file, indent=1) + "\n")
        source = SOURCE.format(
            mitsuba=mi.__version__,
            pyoidn=version("pyoidn"),
            variant=variant,
            spp=spp,
            bounces=MAX_BOUNCES,
            width=width,
            height=height,
            quality=JPEG_QUALITY,
            every=TEST_EVERY,
            tests=len(scene_file["test_filenames"]),
            count=len(chosen),
        )
        (work_dir / "SOURCE.txt").write_text(source)
        work_dir.chmod(0o755)
        if output_dir.exists():
            shutil.rmtree(output_dir)
        os.replace(work_dir, output_dir)
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Render the bundled still life with exactly known cameras.")
    repository = Path(__file__).resolve().parent.parent
    parser.add_argument(
        "--output-dir", type=Path, default=repository / "sample" / "still_life", help="replaced if it exists"
    )
    parser.add_argument(
        "--views", type=int, default=sum(count for count, _, _ in RINGS), help="fewer: a spread of them"
    )
    parser.add_argument("--spp", type=int, default=32, help="samples per pixel")
    parser.add_argument("--width", type=int, default=WIDTH, help="picture width; the height is three quarters of it")
    parser.add_argument(
        "--variant", default="auto", choices=("auto", "llvm_ad_rgb", "scalar_rgb"), help="Mitsuba's mode"
    )
    given = parser.parse_args(arguments)
    make_sample(given.output_dir, given.width, given.views, given.spp, given.variant)


if __name__ == "__main__":
    main()
