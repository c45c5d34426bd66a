# SPDX-License-Identifier: Apache-2.0
"""Shows a radiance field in the viewer: small pictures while the camera moves, and a large one at rest.

A page cannot draw a radiance field. If the panel says so, the page draws points instead of the small pictures: they are
where rays of the training cameras end, in the colours that these see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from torch import Tensor

from img3d_methods.viewing.browser_view import VIEWER_GREY, BrowserView
from img3d_methods.viewing.point_cloud_panel import PointCloudPanel

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.viewing.viewed_model import ViewedRayModel

MIN_ACCUMULATION = 0.5
"""Minimum accumulation of a ray that hits a surface."""
BYTES_PER_POINT = 15
"""Three single-precision numbers and three bytes."""


@dataclass
class SeenPoints:
    """N points on surfaces."""

    positions: npt.NDArray[np.float32]
    """World coordinates `[N, 3]`."""
    colors: npt.NDArray[np.uint8]
    """sRGB `[N, 3]`."""


@torch.no_grad()
def seen_points(model: ViewedRayModel, cameras: Cameras, num_rays: int, seed: int = 0) -> SeenPoints:
    """The points where rays through random pixels of the cameras end.

    Args:
        model: A model that renders "rgb", "depth" (along the ray) and "accumulation" of rays.
        cameras: Shape [C].
        num_rays: The number of rays; those that hit nothing give no point.
        seed: Random seed. With a fixed seed, points move only if the model changes.
    """
    rng = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(cameras), (num_rays, 1), generator=rng)
    sizes = torch.cat([cameras.height, cameras.width], dim=1).cpu()[indices[:, 0]]
    coords = torch.rand(num_rays, 2, generator=rng) * sizes
    rays = cameras.to(model.device).generate_rays(indices.to(model.device), coords=coords.to(model.device))
    outputs = model.get_outputs_for_camera_ray_bundle(rays.reshape((num_rays, 1)))
    ends = (rays.origins + rays.directions * outputs["depth"][:, 0]).cpu()
    met = (outputs["accumulation"][:, 0, 0].cpu() >= MIN_ACCUMULATION) & ends.isfinite().all(dim=1)
    colors = (outputs["rgb"][:, 0].cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return SeenPoints(ends[met].numpy(), colors[met].numpy())


class PointNodes:
    """The points in a viser scene, as one node per page, since each page shows and hides them with its camera."""

    NAME = "/points_of_the_model"

    def __init__(self) -> None:
        self._points: tuple[SeenPoints, float] | None = None
        self._version = 0
        self._handles: dict[int, tuple[int, Any]] = {}

    def replace(self, points: SeenPoints, point_size: float) -> None:
        """Sets the points to show from now on, in the page's units."""
        self._points = points, point_size
        self._version += 1

    def set_visible(self, client: Any, visible: bool) -> None:
        """Shows or hides the points in a page."""
        version, handle = self._handles.get(client.client_id, (0, None))
        if visible and version != self._version and self._points is not None:
            points, point_size = self._points
            handle = client.scene.add_point_cloud(
                self.NAME, points.positions, points.colors, point_size=point_size, point_shape="circle"
            )
            self._handles[client.client_id] = self._version, handle
        elif handle is not None and handle.visible != visible:
            handle.visible = visible


class PointCloudView(BrowserView):
    """Renders frames of moving cameras as large as time allows, or sends points to the viewer's pages instead.

    Args:
        model: The model that is shown.
    """

    model: ViewedRayModel
    panel: PointCloudPanel | None
    frames_per_second = 10.0

    def __init__(self, model: ViewedRayModel) -> None:
        super().__init__(model)
        self._nodes = PointNodes()

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        self.panel = PointCloudPanel(self)

    def doublings(self) -> Sequence[int]:
        return []

    def _drawn_by_page(self, thread: RenderStateMachine) -> bool:
        """While the camera moves, if the panel says so. The first picture is always rendered: it fills the menu of what
        can be rendered."""
        assert self.panel is not None
        if not self._shows():
            self._nodes.set_visible(thread.client, False)
            return False
        moves = thread.state != "high" and not self.viewer.render_tab_state.preview_render
        return moves and bool(thread.output_keys)

    def _send_backdrop(self, thread: RenderStateMachine) -> None:
        self._nodes.set_visible(thread.client, True)
        super()._send_backdrop(thread)

    def _after_still(self, client: Any) -> None:
        """Hides the points, which the page showed until the picture was ready."""
        self._nodes.set_visible(client, False)

    def _background(self) -> Float[Tensor, "3"]:
        return torch.tensor(VIEWER_GREY)

    # ------------------------------------------------------------------------------------------------- refreshes

    def _shows(self) -> bool:
        return self.panel is not None and self.panel.draws_points and self.page_can_draw()

    def _send(self) -> None:
        assert self.panel is not None
        shown = self.panel.shown
        dataset = self.viewer.pipeline.datamanager.train_dataset
        assert dataset is not None
        with self.evaluating():
            points = seen_points(self.model, dataset.cameras, shown.count)
        box = self.crop_box()
        if box is not None:
            inside = box.within(torch.from_numpy(points.positions)).numpy()
            points = SeenPoints(points.positions[inside], points.colors[inside])
        in_page = SeenPoints(points.positions * self.page_units(), points.colors)
        self._nodes.replace(in_page, shown.size * self.page_units())
        count = len(points.positions)
        self.panel.sent(f"**Points** {count:,} in the browser", BYTES_PER_POINT * count)
