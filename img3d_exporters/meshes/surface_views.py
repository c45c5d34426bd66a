# SPDX-License-Identifier: Apache-2.0
"""Pictures with depth, from which surfaces are fused and textures baked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.models.base_model import Model
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_base.progress import with_progress
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.images.camera_sizes import downscaled
from img3d_exporters.page.viewer_page import view_of_everything
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_kernels.poses import focal_length, viewmats
from img3d_methods.representation import representation_of

MIN_ALPHA = 0.5
"""Minimum accumulation of a pixel whose depth is that of a surface; below it, the pixel is free space. Measured: if
values between 0.1 and 0.5 count as unknown, surfaces grow."""
STANDARD_DEVIATIONS = 3.0
"""Distance from a Gaussian's centre to its front, in standard deviations."""
MAX_VIEWS = 150
"""Maximum number of views, chosen evenly, which bounds time and memory."""
DEPTH_SIZE, PAINT_SIZE = 512, 1024
"""Larger side in pixels of pictures for surfaces, and of those for textures."""
NUM_AROUND, FOV_AROUND = 96, 40.0
"""Number of cameras around splats without cameras, and their field of view in degrees."""
MARGIN_AROUND = 1.3
"""Their distance, relative to the one at which nine tenths of the Gaussians are in view."""


Renderer = Callable[[Cameras], SurfaceView]
"""Renders a pinhole camera of shape [1]."""


class SurfaceViews:
    """Pictures that are made one by one when needed, with a progress bar, so that only one is in memory.

    Args:
        cameras: Pinhole cameras, shape [C].
        look: Makes the picture of a camera of shape [1] with the given index.
        task: Description in the progress bar.
    """

    def __init__(self, cameras: Cameras, look: Callable[[Cameras, int], SurfaceView], task: str) -> None:
        self.cameras, self.look, self.task = cameras, look, task

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[SurfaceView]:
        for i in with_progress(range(len(self)), self.task, len(self)):
            yield self.look(self.cameras[i : i + 1], i)

    def in_frame(self, transform: Float[np.ndarray, "3 4"], scale: float) -> SurfaceViews:
        """All pictures in another world, as `SurfaceView.in_frame`."""
        look = self.look
        return SurfaceViews(self.cameras, lambda camera, i: look(camera, i).in_frame(transform, scale), self.task)


def rendered_for(render: Renderer, cameras: Cameras, textured: bool) -> tuple[SurfaceViews, SurfaceViews | None]:
    """Small pictures for a surface, and large ones for its texture, if wanted.

    Args:
        render: Renders the pictures.
        cameras: Shape [C], of any kind.
        textured: Whether large pictures are wanted.
    """
    small, large = (chosen(cameras, MAX_VIEWS, size) for size in (DEPTH_SIZE, PAINT_SIZE))
    views = SurfaceViews(small, lambda camera, _: render(camera), "Depth of each view")
    paint = SurfaceViews(large, lambda camera, _: render(camera), "Painting from each view")
    return views, paint if textured else None


def photographed(render: Renderer, dataset: InputDataset, model: Model) -> SurfaceViews:
    """A model's training photos, with depth rendered by the model.

    Depth is unknown where a mask excludes a photo's pixels, and infinite where the photo is transparent.

    Args:
        render: Renders the model.
        dataset: The photos, which are undistorted.
        model: The model; its refined poses are used, if any.
    """
    if not isinstance(dataset, Img3dImageDataset):
        dataset = Img3dImageDataset(dataset._dataparser_outputs, dataset.scale_factor)
    cameras = dataset.cameras.to("cpu")
    camera_optimizer: Any = getattr(model, "camera_optimizer", None)
    if camera_optimizer is not None:
        indexed = [replace(cameras[i : i + 1], metadata={"cam_idx": i}) for i in range(len(cameras))]
        poses = torch.cat([camera_optimizer.apply_to_camera(camera) for camera in indexed])
        cameras = replace(cameras, camera_to_worlds=poses.detach().cpu())

    def look(camera: Cameras, index: int) -> SurfaceView:
        view, data = render(camera), dataset.get_data(index)
        image, depth = data["image"].numpy(), view.depth.copy()
        if image.shape[2] == 4:
            depth[image[..., 3] < MIN_ALPHA] = np.inf
        if "mask" in data:
            depth[~data["mask"].numpy()[..., 0]] = 0
        return replace(view, rgb=np.ascontiguousarray(image[..., :3]), depth=depth)

    return SurfaceViews(cameras, look, "Painting from each photo")


def chosen(cameras: Cameras, at_most: int, size: int) -> Cameras:
    """Chooses cameras evenly and converts them to pinhole cameras whose sides are at most `size` pixels.

    Args:
        cameras: Cameras of any kind, shape [C]. Lens distortion is ignored; from other than perspective cameras, at
            most 90 degrees of the larger side are kept.
        at_most: Maximum number of cameras.
        size: Maximum side in pixels.
    """
    index = np.unique(np.linspace(0, len(cameras) - 1, min(len(cameras), at_most)).astype(int))
    some = cameras[torch.from_numpy(index)].to("cpu")
    larger = torch.maximum(some.width, some.height)
    perspective = some.camera_type == CameraType.PERSPECTIVE.value
    pinhole = Cameras(
        some.camera_to_worlds,
        fx=torch.where(perspective, some.fx, larger / 2),
        fy=torch.where(perspective, some.fy, larger / 2),
        cx=some.cx,
        cy=some.cy,
        width=some.width,
        height=some.height,
    )
    return downscaled(pinhole, (larger / size).clamp_min(1))


def cameras_around(splats: Gaussians) -> Cameras:
    """Cameras on a sphere that look at most of the Gaussians from outside, as photos of an object do."""
    view = view_of_everything(splats, "y")
    distance = (
        MARGIN_AROUND
        * float(np.linalg.norm(view.position - view.target))
        * (math.sin(math.radians(view.fov / 2)) / math.sin(math.radians(FOV_AROUND / 2)))
    )
    # Points of a Fibonacci lattice are evenly distributed (González 2010).
    steps = np.arange(NUM_AROUND)
    elevations = np.degrees(np.arcsin(1 - (2 * steps + 1) / NUM_AROUND))
    azimuths = steps * 180 * (3 - math.sqrt(5))
    poses = orbit_camera_to_worlds(azimuths.tolist(), elevations.tolist(), distance)
    poses[:, :, 3] += torch.from_numpy(view.target).float()
    size = max(DEPTH_SIZE, PAINT_SIZE)
    focal = focal_length(FOV_AROUND, size)
    return Cameras(poses, fx=focal, fy=focal, cx=size / 2, cy=size / 2, width=size, height=size)


def model_renderer(model: Model) -> Renderer:
    """A renderer of any model that renders "rgb", "depth" and "accumulation"."""
    along_ray = representation_of(model).depth_along == "ray"

    @torch.no_grad()
    def render(camera: Cameras) -> SurfaceView:
        outputs = model.get_outputs_for_camera(camera.to(model.device))
        rgb, depth, accumulation = (outputs[name].cpu() for name in ("rgb", "depth", "accumulation"))
        lengths = camera.to("cpu").generate_rays(camera_indices=0, keep_shape=True).metadata["directions_norm"]
        return _surface_view(rgb, depth / lengths if along_ray else depth, accumulation, camera.to("cpu"))

    return render


def splat_renderer(splats: Gaussians, firmness: float = 1.0) -> Renderer:
    """A renderer of Gaussians, without a background.

    Depth is computed from the front Gaussians only: the far side of an object, which shines through between them,
    would move the mean depth to where there is nothing.

    Args:
        splats: The Gaussians, all finite.
        firmness: How many times each of them counts, more than once for translucent surfaces.
    """
    harmonics = torch.from_numpy(np.concatenate([splats.sh_dc[:, None], splats.sh_rest], axis=1))
    activated = ActivatedGaussians.of(splats)
    opacities = 1 - (1 - activated.opacities) ** firmness
    activated = replace(activated, opacities=opacities, colors=harmonics, sh_degree=splats.sh_degree)
    reach = STANDARD_DEVIATIONS * activated.scales.amax(dim=1)

    @torch.no_grad()
    def render(camera: Cameras) -> SurfaceView:
        def picture(which: Bool[Tensor, "N"] | slice) -> tuple[Tensor, Tensor, dict[str, Any]]:
            rgbd, alpha, meta = activated[which].rasterized(
                viewmats(camera.camera_to_worlds),
                camera.get_intrinsics_matrices(),
                int(camera.width),
                int(camera.height),
                splats.antialiased,
                render_mode="RGB+ED",
            )
            return rgbd[0], alpha[0], meta

        rgbd, alpha, meta = picture(slice(None))
        columns, rows = meta["means2d"][0].long().unbind(dim=1)
        inside = (columns >= 0) & (columns < alpha.shape[1]) & (rows >= 0) & (rows < alpha.shape[0])
        seen = torch.full_like(reach, torch.inf)
        at_center = rows[inside], columns[inside]
        seen[inside] = torch.where(alpha[at_center] < MIN_ALPHA, torch.inf, rgbd[at_center][:, 3:])[:, 0]
        in_front, _, _ = picture(meta["depths"][0] - reach <= seen)
        return _surface_view(rgbd[..., :3] / alpha.clamp_min(MIN_ALPHA), in_front[..., 3:], alpha, camera)

    return render


def _surface_view(
    rgb: Float[Tensor, "H W 3"], depth: Float[Tensor, "H W 1"], alpha: Float[Tensor, "H W 1"], camera: Cameras
) -> SurfaceView:
    depth = torch.where(depth.isfinite(), depth, 0.0)
    # The rotation is made orthogonal in double precision; its rounding errors would move points that are far from the
    # origin of the original frame.
    pose = camera.camera_to_worlds.double()
    u, _, vh = torch.linalg.svd(pose[..., :3])
    return SurfaceView(
        rgb=rgb.float().clamp(0, 1).numpy(),
        depth=torch.where(alpha < MIN_ALPHA, torch.inf, depth)[..., 0].float().numpy(),
        viewmat=viewmats(torch.cat([u @ vh, pose[..., 3:]], dim=-1))[0].numpy(),
        K=camera.get_intrinsics_matrices()[0].double().numpy(),
    )
