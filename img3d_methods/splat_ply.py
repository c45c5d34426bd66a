# SPDX-License-Identifier: Apache-2.0
"""A model's Gaussians as the PLY file that `ns-export gaussian-splat` makes, from memory instead of a checkpoint."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from img3d_dataparsers.atomic_files import write_atomically
from img3d_methods.initial_gaussians import SH_C0

LEAST_OPACITY_LOGIT = -5.5373
"""logit(1/255): what rasterisers skip and ns-export leaves out."""


@torch.no_grad()
def write_splat_ply(params: dict[str, Tensor], sh_degree: int, path: Path) -> int:
    """Write the Gaussians that can be seen; the file appears when it is complete.

    Args:
        params: splatfacto's parameters of N Gaussians, on the CPU: "means" `[N, 3]`, "features_dc" `[N, 3]`,
            "features_rest" `[N, K, 3]`, "opacities" `[N, 1]`, "scales" `[N, 3]`, "quats" `[N, 4]`.
        sh_degree: Degree of the spherical harmonics.
        path: The file; its folder is made.

    Returns:
        The number of Gaussians written.

    Raises:
        OSError: It could not be written, or there is nothing to write.
    """
    # Not at the top: Nerfstudio's exporters bring open3d and every method's configuration.
    from nerfstudio.scripts.exporter import ExportGaussianSplat

    dc = params["features_dc"]
    if sh_degree == 0:  # logits of colours: as the spherical harmonic of that colour, which is what readers expect
        dc = (dc.sigmoid() - 0.5) / SH_C0
    columns = {"xyz": params["means"], "normal": torch.zeros_like(params["means"]), "dc": dc}
    if sh_degree > 0:
        columns["rest"] = params["features_rest"].transpose(1, 2).flatten(1)
    columns |= {name: params[name] for name in ("opacities", "scales", "quats")}
    table = torch.cat([value.float() for value in columns.values()], dim=1)
    names = ["x", "y", "z", "nx", "ny", "nz"]
    names += [f"f_dc_{i}" for i in range(3)]
    names += [f"f_rest_{i}" for i in range(columns["rest"].shape[1] if sh_degree > 0 else 0)]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    table = table[table.isfinite().all(dim=1) & (params["opacities"][:, 0] >= LEAST_OPACITY_LOGIT)].numpy()
    if len(table) == 0:
        raise OSError(0, "no Gaussian is inside the crop box and opaque enough to be seen", str(path))
    with write_atomically(path) as temporary:
        vertices = OrderedDict(zip(names, table.T, strict=True))
        ExportGaussianSplat.write_ply(str(temporary), len(table), vertices)
    return len(table)
