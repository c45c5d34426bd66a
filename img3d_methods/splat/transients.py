# SPDX-License-Identifier: Apache-2.0
"""What only one photo shows, such as people who walk by: masks learnt from the residuals of training.

A photo's residual alone does not tell a passer-by from detail that is not learnt yet. That detail is wrong in every
photo that shows the place, a passer-by in one: a cell of a photo is masked if its residual is large while the other
photos that see the same place have a small one there. Residuals are differences of cells' mean colours, which fine
texture and small errors of poses hardly change. (Masks from residuals as in RobustNeRF, arXiv 2302.00833, and
SpotLessSplats, arXiv 2406.20055, which tell the two apart by the size of patches and by features of a network.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.projection import in_picture
from img3d_kernels.rendering import rasterization

CELLS = 64
"""Cells along both sides of a photo, whatever its shape."""
MIN_RESIDUAL = 0.15
"""Smallest mean difference of a masked cell's colour, of colours in [0, 1]."""
OTHERS_SHARE = 0.4
"""How large, relative to a masked cell's, the residual of the other photos may be (their median)."""
MIN_OTHERS = 2
"""Other photos that must see a place."""
MAX_OTHERS = 40
"""Other photos that are asked; of more, evenly spread ones."""
DEPTH_TOLERANCE = 0.1
"""Relative difference of depths up to which another photo sees the same place."""
MIN_WIDTH = 3
"""Cells, in both directions, that hold together: less is no person but an edge or a highlight."""
MARGIN = 1
"""Cells around what differs that are masked, too: outlines and shadows."""
MAX_SHARE = 0.5
"""Part of a photo from which it counts as unlike the others (wrong pose, other light) and is not masked at all."""
MIN_VISITS = 25
"""How often each photo is trained on before the first masks, but for half of the run at most: the photos' common
content must be learnt. Masks from a tenth of 2,000 steps on cost 43 photos a third of a decibel in the middle of the
run where nobody walks by; masks after 100 visits cost 24 photos a decibel where many do (benchmarks/NOTES.md)."""
TIMES = 12
"""How often masks are made in a run."""


@dataclass(frozen=True)
class CellViews:
    """The photos' cameras, with cells as their pixels, and what the model shows there."""

    Ks: Float[Tensor, "N 3 3"]
    """Intrinsics, in cells."""
    viewmats: Float[Tensor, "N 4 4"]
    """World to camera, OpenCV axes."""
    depths: Float[Tensor, "N h w"]
    """Rendered depth along the camera's axis; 0 where nothing is."""

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        cameras: Cameras,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, "N"],
    ) -> CellViews:
        """Renders what the photos' cameras `[C]` see of Gaussians, on the Gaussians' device."""
        Ks = cameras.get_intrinsics_matrices().cpu().clone()
        Ks[:, 0] *= CELLS / cameras.width.cpu()
        Ks[:, 1] *= CELLS / cameras.height.cpu()
        poses = viewmats(cameras.camera_to_worlds.cpu())
        depths = []
        for K, pose in zip(Ks, poses, strict=True):
            depth, alpha, _ = rasterization(
                means=means,
                quats=quats,
                scales=scales,
                opacities=opacities,
                colors=means,  # only the depth is needed
                viewmats=pose[None].to(means),
                Ks=K[None].to(means),
                width=CELLS,
                height=CELLS,
                render_mode="ED",
            )
            depths.append(torch.where(alpha[0, ..., 0] > 0.5, depth[0, ..., 0], 0.0).cpu())
        return cls(Ks, poses, torch.stack(depths))


class TransientMasks:
    """Residuals and masks of the photos, in cells.

    Args:
        num_photos: Photos that are trained on.
        device: Where they are rendered.
    """

    def __init__(self, num_photos: int, device: torch.device | str = "cpu") -> None:
        self.residuals = torch.full((num_photos, CELLS, CELLS), torch.nan, device=device)
        """Mean absolute difference of colours at the last visit; NaN where that is not known."""
        self.masks = torch.zeros(num_photos, CELLS, CELLS, dtype=torch.bool, device=device)
        """Cells that the loss leaves out."""
        self._has_mask = [False] * num_photos  # so that a step does not wait for a CUDA device

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"residuals": self.residuals, "masks": self.masks}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continues with what `state` returned."""
        self.residuals = state["residuals"].to(self.residuals)
        self._use(state["masks"])

    def is_due(self, step: int, max_steps: int) -> bool:
        """Whether masks are made after this step. Each time costs a small render of every photo."""
        return self._steps_left(step, max_steps) == 0

    def is_visit(self, step: int, max_steps: int) -> bool:
        """Whether this step's photo is noted: all are visited in the last steps before masks are made."""
        return self._steps_left(step, max_steps) < 2 * len(self.masks)

    def _steps_left(self, step: int, max_steps: int) -> int:
        """Steps until masks are made the next time."""
        num_photos = len(self.masks)
        first = max(min(MIN_VISITS * num_photos, max_steps // 2), 2 * num_photos)
        every = max(math.ceil((max_steps - first) / TIMES), 3 * num_photos)
        return first - step if step < first else (first - step) % every

    @torch.no_grad()
    def visit(
        self,
        photo: int,
        render: Float[Tensor, "H W 3"],
        target: Float[Tensor, "H W 3"] | UInt8[Tensor, "H W 3"],
        mask: Float[Tensor, "H W 1"] | None,
    ) -> None:
        """Notes a photo's residual.

        Args:
            photo: The photo's index.
            render: What the model shows.
            target: The photo, in [0, 1] or as bytes.
            mask: 0 where the user's mask excludes pixels.
        """
        if target.dtype == torch.uint8:
            target = target.to(render) / 255
        residual = _cell_means(render - target).abs().mean(dim=0)
        if mask is not None:
            residual[_cell_means(mask)[0] < 1] = torch.nan
        self.residuals[photo] = residual

    def within(
        self, mask: Float[Tensor, "H W 1"] | None, photo: int, height: int, width: int
    ) -> Float[Tensor, "H W 1"] | None:
        """A photo's mask, 0 also where its own pixels do not count; None if all count."""
        if not self._has_mask[photo]:
            return mask
        usable = F.interpolate((~self.masks[photo])[None, None].float(), (height, width))[0, 0, ..., None]
        return usable if mask is None else usable * mask

    @torch.no_grad()
    def update(self, views: CellViews) -> None:
        """Makes the masks anew."""
        residuals = self.residuals.cpu()
        suspects = residuals > MIN_RESIDUAL
        photos, rows, columns = torch.nonzero(suspects, as_tuple=True)
        usual = _usual_residuals(residuals, views, photos, rows, columns)
        suspects[photos, rows, columns] = usual < OTHERS_SHARE * residuals[photos, rows, columns]
        masks = _grown(_coherent(suspects))
        masks[masks.float().mean(dim=(1, 2)) > MAX_SHARE] = False
        self._use(masks)

    def _use(self, masks: Bool[Tensor, "N h w"]) -> None:
        self.masks = masks.to(self.masks.device)
        self._has_mask = masks.flatten(1).any(dim=1).tolist()


def _usual_residuals(
    residuals: Float[Tensor, "N h w"],
    views: CellViews,
    photos: Int64[Tensor, "M"],
    rows: Int64[Tensor, "M"],
    columns: Int64[Tensor, "M"],
) -> Float[Tensor, "M"]:
    """The median residual of other photos at what these cells show; infinite if too few see it."""
    depths = views.depths[photos, rows, columns]
    rays = torch.stack([columns + 0.5, rows + 0.5, torch.ones(len(rows))], dim=-1)[..., None]
    in_camera = (torch.linalg.inv(views.Ks)[photos] @ rays)[..., 0] * depths[:, None]
    to_world = torch.linalg.inv(views.viewmats)[photos]
    points = (to_world[:, :3, :3] @ in_camera[..., None])[..., 0] + to_world[:, :3, 3]
    every = math.ceil(len(residuals) / MAX_OTHERS)
    seen = []
    for other in range(0, len(residuals), every):
        inside, cells, in_other = in_picture(points, views.Ks[other], views.viewmats[other], CELLS, CELLS)
        column, row = cells.long().clamp(0, CELLS - 1).unbind(dim=-1)
        same = (in_other[:, 2] / views.depths[other, row, column] - 1).abs() < DEPTH_TOLERANCE
        counts = inside & same & (depths > 0) & (photos != other)
        seen.append(torch.where(counts, residuals[other, row, column], torch.nan))
    values = torch.stack(seen)
    enough = (~values.isnan()).sum(dim=0) >= MIN_OTHERS
    return torch.where(enough, values.nanmedian(dim=0).values, torch.inf)


def _cell_means(image: Float[Tensor, "H W C"]) -> Float[Tensor, "C h w"]:
    return F.interpolate(image.permute(2, 0, 1)[None], (CELLS, CELLS), mode="area")[0]


def _coherent(cells: Bool[Tensor, "N h w"]) -> Bool[Tensor, "N h w"]:
    """Cells of squares of `MIN_WIDTH` (morphological opening), after holes of a cell are closed."""
    closed = -_dilated(-_dilated(cells.float(), 3), 3)
    eroded = -_dilated(-closed, MIN_WIDTH)
    return _dilated(eroded, MIN_WIDTH) > 0.5


def _grown(cells: Bool[Tensor, "N h w"]) -> Bool[Tensor, "N h w"]:
    return _dilated(cells.float(), 2 * MARGIN + 1) > 0.5


def _dilated(cells: Float[Tensor, "N h w"], width: int) -> Float[Tensor, "N h w"]:
    return F.max_pool2d(cells[:, None], width, stride=1, padding=width // 2)[:, 0]
