# SPDX-License-Identifier: Apache-2.0
"""What the stages of cuda_benchmark.py do, each in a process of its own; its numbers go into the stage's result."""

from __future__ import annotations

import argparse
import copy
import math
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from guarded_stages import write_result

CALIBRATION_STEPS = 300
GROWTH = 1.5
"""How much longer steps take at the end than in the calibration: Gaussians become more and pictures larger."""


def describe() -> None:
    """The machine and the releases of what matters."""
    cuda = torch.cuda.is_available()
    nvcc = shutil.which("nvcc")
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout if nvcc else ""
    releases = {}
    for name in ("torch", "numpy", "nerfstudio", "gsplat", "img3d"):
        try:
            releases[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            releases[name] = "not installed"
    write_result(
        {
            "gpu": torch.cuda.get_device_name() if cuda else None,
            "capability": ".".join(map(str, torch.cuda.get_device_capability())) if cuda else None,
            "cuda": torch.version.cuda,
            "nvcc": version.strip().splitlines()[-1:],
            "python": platform.python_version(),
            "releases": releases,
        }
    )


def build_gsplat() -> None:
    """Have gsplat compile its kernels, and call one."""
    began = time.perf_counter()
    from gsplat.cuda._backend import _C  # pyright: ignore[reportAttributeAccessIssue] # a compiled module

    if _C is None:
        sys.exit("gsplat found no CUDA toolkit")
    seconds = time.perf_counter() - began
    numbers: dict[str, Any] = {"release": metadata.version("gsplat"), "build seconds": seconds}
    write_result(numbers)
    image = _step_inputs(1000)
    numbers["renders"] = bool(torch.isfinite(_render(image, 64, 64)[0]).all())
    write_result(numbers)


# ------------------------------------------------------------------------------------------------------------ timing


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _step_inputs(count: int) -> dict[str, torch.Tensor]:
    """Gaussians of degree 3 in a ball in front of the camera, as large as the distance to their neighbours."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    means = directions * torch.rand(count, 1, generator=generator) ** (1 / 3) + torch.tensor([0.0, 0.0, 2.5])
    values = {
        "means": means,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": torch.full((count, 3), math.log(0.8 / count ** (1 / 3))),
        "opacities": torch.randn(count, generator=generator),
        "colors": 0.3 * torch.randn(count, 16, 3, generator=generator),
    }
    return {name: value.to(_device()).requires_grad_() for name, value in values.items()}


def _render(inputs: dict[str, torch.Tensor], height: int, width: int) -> Any:
    from img3d_kernels import rasterization

    device = inputs["means"].device
    K = torch.tensor([[[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]]], device=device)
    return rasterization(
        inputs["means"],
        inputs["quats"],
        inputs["scales"].exp(),
        inputs["opacities"].sigmoid(),
        inputs["colors"],
        torch.eye(4, device=device)[None],
        K,
        width,
        height,
        sh_degree=3,
        packed=False,
    )


def _milliseconds(work: Any, repeats: int) -> float:
    """Median of so many, after three that do not count."""
    seconds = []
    for _ in range(repeats + 3):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[3:])


@torch.no_grad()
def _frame(inputs: dict[str, torch.Tensor], height: int, width: int) -> None:
    _render(inputs, height, width)


def _step(inputs: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, target: torch.Tensor) -> None:
    from img3d_kernels.losses import l1_ssim

    optimizer.zero_grad()
    image, _, _ = _render(inputs, *target.shape[:2])
    l1_ssim(image.squeeze(0), target, 0.2, None).backward()
    optimizer.step()


def time_steps(counts: list[int], height: int, width: int, repeats: int) -> None:
    """Frames, and steps of training (render, loss, backward pass, Adam), by the number of Gaussians."""
    rows: list[dict[str, float]] = []
    for count in counts:
        inputs = _step_inputs(count)
        optimizer = torch.optim.Adam(list(inputs.values()), lr=1e-4)
        target = torch.rand(height, width, 3, device=_device())

        row = {
            "Gaussians": count,
            "frame ms": _milliseconds(partial(_frame, inputs, height, width), repeats),
            "step ms": _milliseconds(partial(_step, inputs, optimizer, target), repeats),
        }
        if torch.cuda.is_available():
            row["memory MB"] = torch.cuda.max_memory_allocated() / 1e6
        rows.append(row)
        write_result({"size": f"{width}x{height}", "rows": rows})


# ---------------------------------------------------------------------------------------------------------- training


class _Stopwatch:
    """Stops a trainer of Nerfstudio's family when its time is over. Nothing is saved."""

    seconds_allowed: float
    began: float | None = None
    steps_done = 0

    def train_iteration(self, step: int) -> Any:
        """One step; the first starts the clock."""
        now = time.perf_counter()
        if self.began is None:
            self.began = now
        result = super().train_iteration(step)  # pyright: ignore[reportAttributeAccessIssue]
        self.steps_done += 1
        if time.perf_counter() - self.began >= self.seconds_allowed:
            self.stop_training = True
        return result

    def _after_train(self) -> None:
        """Nothing is saved or measured."""


def _configuration(method: str, data: Path, downscale: float, steps: int, folder: Path) -> Any:
    from nerfstudio.configs.method_configs import all_methods

    from img3d_methods.specs import img3d_splat

    ours: Any = img3d_splat.config
    config: Any = copy.deepcopy(ours if method == "img3d-splat" else all_methods[method])
    if method != "img3d-splat":
        config.pipeline.datamanager.dataparser = copy.deepcopy(ours.pipeline.datamanager.dataparser)
        config.machine.device_type = _device()
    config.pipeline.datamanager.dataparser.downscale_factor = downscale
    config.max_num_iterations = steps
    config.data = config.pipeline.datamanager.data = data
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_save = 10**9
    config.steps_per_eval_batch = 0 if method == "img3d-splat" else 10**9
    config.output_dir = folder
    config.set_timestamp()
    parent = config._target
    config._target = type(f"Timed{parent.__name__}", (_Stopwatch, parent), {})
    return config


class _NoLpips(torch.nn.Module):
    """Stands for LPIPS, which splatfacto builds whether it is wanted or not: its weights come from the network."""

    def __init__(self, normalize: bool) -> None:
        super().__init__()

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> float:
        """No number."""
        return math.nan


def _trained(config: Any, seconds: float) -> Any:
    torch.manual_seed(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.seconds_allowed = seconds
    with patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", _NoLpips):
        trainer.setup()
    trainer.train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return trainer


def train(method: str, data: Path, downscale: float, seconds: float, calibration: int) -> None:
    """Train for so long, and measure the held-out photos.

    img3d-splat's schedules stretch over the run, so a short run first says how many steps there is time for;
    splatfacto's are in steps, and the clock stops it.
    """
    with tempfile.TemporaryDirectory() as folder:
        steps = 30_000
        if method == "img3d-splat":
            trainer = _trained(_configuration(method, data, downscale, calibration, Path(folder)), seconds)
            per_step = (time.perf_counter() - trainer.began) / trainer.steps_done
            steps = max(calibration, round(seconds / per_step / GROWTH))
            del trainer
        trainer = _trained(_configuration(method, data, downscale, steps, Path(folder)), seconds)
        elapsed = time.perf_counter() - trainer.began
        numbers = {
            "method": method,
            "seconds": elapsed,
            "steps": trainer.steps_done,
            "of steps": steps,
            "ms per step": 1000 * elapsed / trainer.steps_done,
            "Gaussians": trainer.pipeline.model.num_points,
        }
        write_result(numbers)
        trainer.pipeline.eval()
        metrics = trainer.pipeline.get_average_eval_image_metrics(step=steps)
        numbers |= {name: float(metrics[name]) for name in ("psnr", "ssim", "fps") if name in metrics}
        write_result(numbers)


def main() -> None:
    """Do one stage's work."""
    parser = argparse.ArgumentParser(description=__doc__)
    work = parser.add_subparsers(dest="work", required=True)
    work.add_parser("describe")
    work.add_parser("build-gsplat")
    steps = work.add_parser("time-steps")
    steps.add_argument("--gaussians", type=int, nargs="+", required=True)
    steps.add_argument("--width", type=int, required=True)
    steps.add_argument("--height", type=int, required=True)
    steps.add_argument("--repeats", type=int, default=20)
    training = work.add_parser("train")
    training.add_argument("method")
    training.add_argument("data", type=Path)
    training.add_argument("--downscale", type=float, required=True)
    training.add_argument("--seconds", type=float, required=True)
    training.add_argument("--calibration", type=int, default=CALIBRATION_STEPS)
    arguments = parser.parse_args()
    if arguments.work == "describe":
        describe()
    elif arguments.work == "build-gsplat":
        build_gsplat()
    elif arguments.work == "time-steps":
        time_steps(arguments.gaussians, arguments.height, arguments.width, arguments.repeats)
    else:
        train(arguments.method, arguments.data, arguments.downscale, arguments.seconds, arguments.calibration)


if __name__ == "__main__":
    main()
