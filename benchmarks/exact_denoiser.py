# SPDX-License-Identifier: Apache-2.0
"""How well score distillation makes a known object, guided by its exact denoiser, seen from views of its own.

python benchmarks/exact_denoiser.py RUN/config.yml spot.obj --pictures seen.png

The run is one of img3d-dreamfusion or img3d-dreamfusion-nerf with `--pipeline.guidance known-object`. Prints the PSNR
of twelve renders, compared with the mesh's. The picture has the renders above, and the mesh below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from img3d_assets.mesh_files import read_mesh
from img3d_exporters.load_run import load_run
from img3d_generators.guidance.known_object import KnownObject
from img3d_generators.guidance.random_views import directions, looking_at
from img3d_generators.guidance.rows import guidance_row
from img3d_generators.guidance.views import ViewAngles
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras

NUM_VIEWS = 12


def compared(config: Path, mesh_file: Path, size: int) -> tuple[Float[Tensor, "V S S 3"], Float[Tensor, "V S S 3"]]:
    """Renders of the run and of the mesh, on white, from elevations between -25 and 25 degrees."""
    view = guidance_row("known-object").view
    azimuths = torch.arange(NUM_VIEWS) * 360.0 / NUM_VIEWS + 7
    elevations = torch.linspace(-25, 25, NUM_VIEWS)[torch.arange(NUM_VIEWS) * 5 % NUM_VIEWS]
    mesh, up = read_mesh(mesh_file)
    mesh.up = up or "y"
    angles = ViewAngles(elevations, azimuths, torch.full((NUM_VIEWS,), view.radius))
    rgb, alpha = KnownObject(mesh, view).rendered(angles, size)
    model = load_run(config).model
    ups = torch.tensor([[0.0, 0, 1]] * NUM_VIEWS)
    poses = looking_at(directions(elevations, azimuths), torch.zeros(NUM_VIEWS, 3), ups)
    cameras = square_cameras(poses, focal_length(view.fov, size), size)
    with torch.no_grad():
        seen = [model.get_outputs_for_camera(cameras[i : i + 1])["rgb"] for i in range(NUM_VIEWS)]
    return torch.stack(seen).clamp(0, 1), (rgb + 1 - alpha).permute(0, 2, 3, 1)


def main() -> None:
    """Print the figures, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="config.yml of the run")
    parser.add_argument("mesh", type=Path, help="the mesh that guided it")
    parser.add_argument("--size", type=int, default=128, help="width and height of the renders")
    parser.add_argument("--pictures", type=Path, help="where to write all of them")
    options = parser.parse_args()
    seen, expected = compared(options.config, options.mesh, options.size)
    psnrs = -10 * (seen - expected).square().mean(dim=(1, 2, 3)).log10()
    print(f"{NUM_VIEWS} unseen views: PSNR {psnrs.mean():.1f} dB, worst {psnrs.min():.1f} dB")
    if options.pictures is not None:
        rows = torch.cat([torch.cat(list(pictures), dim=1) for pictures in (seen, expected)])
        Image.fromarray((255 * rows).round().byte().numpy()).save(options.pictures)


if __name__ == "__main__":
    main()
