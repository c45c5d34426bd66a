# SPDX-License-Identifier: Apache-2.0
"""Train img3d-tiny on procedural objects, none of which it sees twice; on CUDA where there is a device.

python tools/train_tiny.py --folder outputs/tiny --steps 8000
python tools/train_tiny.py --folder outputs/tiny --steps 8000 --export   # then writes the weights that img3d ships

Goes on from where it stopped: the folder holds the last checkpoint and the training curve.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.functional import max_pool2d, mse_loss

from img3d_base.atomic_files import write_atomically
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, normalised_to_first
from img3d_generators.lgm import activated
from img3d_generators.procedural_objects import ObjectViews, object_views
from img3d_generators.tiny import CELL, NUM_LAYERS, SPLIT, TINY_INPUT_SIZE, TINY_WEIGHTS, TinyLGM
from img3d_kernels.poses import focal_length

OBJECTS_PER_STEP = 4
INPUTS_PER_OBJECT = 2
NOVEL_VIEWS = 2
ALPHA_WEIGHT = 0.5
DEPTH_WEIGHT = 0.2
"""At first; it falls to 0 with the steps."""
PEAK_LR = 2e-3
WARMUP = 100
VALIDATION_SEED = 10**9
NUM_VALIDATION = 16
STEPS_PER_REPORT = 100


class TrainingObjects(torch.utils.data.Dataset[ObjectViews]):
    """The object of every seed from `first`; each rendered when asked for."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> ObjectViews:
        torch.set_num_threads(1)  # in a worker process
        return object_views(self.first + index, "train", INPUTS_PER_OBJECT, NOVEL_VIEWS)


def losses(
    model: TinyLGM, objects: list[ObjectViews], depth_weight: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What to minimise, and the mean PSNR of the other views, over every input view of every object.

    An input view is itself among the views to predict, which keeps the front sharp. That the first and the last layer
    are the object's front and back is also asked for directly: from pictures alone, it becomes a fog at first.
    """
    inputs = range(INPUTS_PER_OBJECT)
    rgb = torch.stack([views.rgb[i] for views in objects for i in inputs]).to(device)
    alpha = torch.stack([views.alpha[i] for views in objects for i in inputs]).to(device)
    raw, mask = model(
        rgb.contiguous(memory_format=torch.channels_last), alpha.contiguous(memory_format=torch.channels_last)
    )
    total, psnr = torch.zeros((), device=device), torch.zeros((), device=device)
    for sample in range(len(raw)):
        views, i = objects[sample // INPUTS_PER_OBJECT], sample % INPUTS_PER_OBJECT
        chosen = [i, *(other for other in range(len(views.rgb)) if other != i)]
        poses, to_first = normalised_to_first(views.camera_to_worlds[chosen])
        surface = views.surface.to(device) @ to_first[:3, :3].T.to(device) + to_first[:3, 3].to(device)
        total = total + depth_weight * depth_error(raw[sample, :, :3], mask[sample], surface)
        render, coverage = activated(raw[sample, mask[sample]]).render(poses.to(device), LGM_FOV, TINY_INPUT_SIZE)
        render, coverage = render.permute(0, 3, 1, 2), coverage.permute(0, 3, 1, 2)
        total = total + mse_loss(render, views.rgb[chosen].to(device))
        total = total + ALPHA_WEIGHT * mse_loss(coverage, views.alpha[chosen].to(device))
        psnr += views.psnr(render.detach(), chosen)[1:].mean()
    return total / len(raw), psnr / len(raw)


def depth_error(
    positions: Float[Tensor, "N 3"], mask: Bool[Tensor, "N"], surface: Float[Tensor, "M 3"]
) -> Float[Tensor, ""]:
    """Mean distance in depth of the first and last layer from the nearest and farthest surface points in their pixels.

    Args:
        positions: all Gaussians of the network, layer by layer.
        mask: which of them belong to the object.
        surface: points of it, in the world of the input's camera, which is at (0, 0, 1.5).
    """
    size = TINY_INPUT_SIZE * SPLIT // CELL
    focal = focal_length(LGM_FOV, size)
    places = (surface[:, :2] / (LGM_RADIUS - surface[:, 2:]) * focal + size / 2).long().clamp(0, size - 1)
    pixels = (size - 1 - places[:, 1]) * size + places[:, 0]
    errors = []
    for layer, sign in ((0, 1), (-1, -1)):
        z = positions[:, 2].unflatten(0, (NUM_LAYERS, -1))[layer]
        nothing = torch.full_like(z, -torch.inf)
        seen = nothing.scatter_reduce(0, pixels, sign * surface[:, 2], "amax").view(1, size, size)
        seen = max_pool2d(seen, 3, stride=1, padding=1).flatten()  # a pixel may have no point on one of its sides
        known = mask.unflatten(0, (NUM_LAYERS, -1))[layer] & seen.isfinite()
        errors.append((sign * z - seen)[known].abs().mean())
    return torch.stack(errors).sum()


def learning_rate(step: int, steps: int) -> float:
    """A short warm-up, and a parabola down to 0."""
    return PEAK_LR * min(1, (step + 1) / WARMUP) * (1 - step / steps) ** 2


def main() -> None:
    """Train, report and checkpoint until `--steps`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and training curve")
    parser.add_argument("--steps", type=int, default=8000, help="steps in all, those of earlier runs included")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of the CPU")
    parser.add_argument("--export", action="store_true", help=f"write {TINY_WEIGHTS.name} in the end")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint, curve = arguments.folder / "checkpoint.pt", arguments.folder / "curve.csv"
    arguments.folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    model = TinyLGM().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]
    else:
        curve.write_text("step,seconds,learning_rate,loss,training_psnr,validation_psnr\n")

    validation = [
        object_views(VALIDATION_SEED + i, "train", INPUTS_PER_OBJECT, NOVEL_VIEWS) for i in range(NUM_VALIDATION)
    ]
    loader = torch.utils.data.DataLoader(
        TrainingObjects(first * OBJECTS_PER_STEP, arguments.steps * OBJECTS_PER_STEP),
        batch_size=OBJECTS_PER_STEP,
        num_workers=1,
        collate_fn=list,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("Training", total=arguments.steps, completed=first)
        sums, count, started = torch.zeros(2), 0, time.monotonic() - seconds
        for step, objects in enumerate(loader, start=first):
            rate = learning_rate(step, arguments.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, psnr = losses(model, objects, DEPTH_WEIGHT * (1 - step / arguments.steps), device)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            sums, count = sums + torch.stack([loss.detach(), psnr]).cpu(), count + 1
            progress.advance(task)
            if (step + 1) % STEPS_PER_REPORT == 0 or step + 1 == arguments.steps:
                with torch.no_grad():
                    _, validation_psnr = losses(model, validation, 0.0, device)
                seconds = time.monotonic() - started
                mean_loss, mean_psnr = (sums / count).tolist()
                sums, count = torch.zeros(2), 0
                row = [step + 1, f"{seconds:.0f}", f"{rate:.2e}", f"{mean_loss:.5f}", f"{mean_psnr:.2f}"]
                with curve.open("a", newline="") as file:
                    csv.writer(file).writerow([*row, f"{validation_psnr.item():.2f}"])
                with write_atomically(checkpoint) as temporary:
                    torch.save(
                        {
                            "model": model.state_dict(),
                            "optimizer": optimizer.state_dict(),
                            "step": step + 1,
                            "seconds": seconds,
                        },
                        temporary,
                    )
    if arguments.export:
        from safetensors.torch import save_file

        with write_atomically(TINY_WEIGHTS) as temporary:
            half = {key: value.half().cpu().contiguous() for key, value in model.state_dict().items()}
            save_file(half, temporary)


if __name__ == "__main__":
    main()
