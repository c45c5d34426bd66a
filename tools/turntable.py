# SPDX-License-Identifier: Apache-2.0
"""Render a trained run from a circle of cameras around what its photos look at, into one picture.

python tools/turntable.py --load-config outputs/…/config.yml --output turntable.png
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image
from rich.progress import track
from torch import Tensor

from img3d_kernels.poses import point_of_attention


def circle_around(cameras: Cameras, num_views: int) -> Float[Tensor, "V 3 4"]:
    """Camera-to-world poses (OpenGL) on a level circle, as far from and as high above the centre as the photos' are.

    The vertical is the world's z axis.
    """
    poses = cameras.camera_to_worlds.cpu()
    origins, forward = poses[:, :, 3], -poses[:, :, 2]
    center = point_of_attention(origins, forward)
    offsets = origins - center
    radius, height = offsets[:, :2].norm(dim=-1).median(), offsets[:, 2].median()
    angles = torch.arange(num_views) * (2 * math.pi / num_views)
    eyes = center + torch.stack([radius * angles.cos(), radius * angles.sin(), height.expand(num_views)], dim=-1)
    back = torch.nn.functional.normalize(eyes - center, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]).expand_as(back), back))
    up = torch.linalg.cross(back, right)
    return torch.stack([right, up, back, eyes], dim=-1)


def main() -> None:
    """Render the circle and write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load-config", type=Path, required=True, help="config.yml of the run")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    parser.add_argument("--views", type=int, default=8, help="number of cameras on the circle")
    parser.add_argument("--columns", type=int, default=4, help="pictures side by side")
    arguments = parser.parse_args()
    if not arguments.load_config.is_file():
        raise SystemExit(f"There is no run at {arguments.load_config}: train one first (make demo).")

    _, pipeline, _, _ = eval_setup(arguments.load_config, test_mode="inference")
    cameras = pipeline.datamanager.train_dataset.cameras  # pyright: ignore[reportOptionalMemberAccess]
    width, height = int(cameras.width[0]), int(cameras.height[0])
    rows = math.ceil(arguments.views / arguments.columns)
    sheet = Image.new("RGB", (arguments.columns * width, rows * height))
    for i, pose in enumerate(track(circle_around(cameras, arguments.views), description="Rendering views")):
        camera = Cameras(
            pose[None], cameras.fx[:1], cameras.fy[:1], cameras.cx[:1], cameras.cy[:1], width=width, height=height
        )
        rgb = pipeline.model.get_outputs_for_camera(camera.to(pipeline.device))["rgb"]
        picture = Image.fromarray((rgb.cpu() * 255).round().byte().numpy())
        sheet.paste(picture, (i % arguments.columns * width, i // arguments.columns * height))
    partial = arguments.output.with_name(f".{arguments.output.stem}.partial{arguments.output.suffix}")
    sheet.save(partial)
    os.replace(partial, arguments.output)


if __name__ == "__main__":
    main()
