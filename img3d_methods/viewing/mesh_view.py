# SPDX-License-Identifier: Apache-2.0
"""Shows a mesh in the viewer: the page draws it, with its texture or vertex colours.

It is sent as a GLB with an unlit material. The page's tone mapping is cancelled, so that colours are close to those of
the model's own renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from torch import Tensor

from img3d_assets.color_values import linear_of_srgb, srgb_of_linear
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.glb import glb
from img3d_methods.viewing.browser_view import BrowserView
from img3d_methods.viewing.mesh_panel import MeshPanel
from img3d_methods.viewing.tone_mapping import MAX_LINEAR, before_tone_mapping

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.viewing.viewed_model import ViewedMeshModel

NODE = "/mesh_of_the_model"


class MeshView(BrowserView):
    """Sends a model's mesh to the viewer's pages, which then need no streamed pictures.

    Args:
        model: The model that is shown.
    """

    model: ViewedMeshModel
    panel: MeshPanel | None

    def __init__(self, model: ViewedMeshModel) -> None:
        super().__init__(model)
        self._node: Any = None

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        self.panel = MeshPanel(self)

    def doublings(self) -> Sequence[int]:
        return []

    def _drawn_by_page(self, thread: RenderStateMachine) -> bool:
        """Except a page's first picture: it fills the menu of what can be rendered."""
        shows = self._shows()
        if self._node is not None and self._node.visible != shows:
            self._node.visible = shows
        return shows and bool(thread.output_keys)

    def _background(self) -> Float[Tensor, "3"]:
        return self.model.background().cpu()

    def _shows(self) -> bool:
        return self.panel is not None and self.panel.draws_in_browser and self.page_can_draw()

    def _send(self) -> None:
        assert self.panel is not None
        mesh = self.cropped()
        if len(mesh.faces) == 0:
            if self._node is not None:
                self._node.remove()
                self._node = None
            return
        contents = glb(for_page(replace(mesh, vertices=mesh.vertices * self.page_units())), MAX_LINEAR)
        self._node = self.viewer.viser_server.scene.add_glb(NODE, contents)
        self.panel.sent("drawn by the browser", len(contents))

    def cropped(self) -> Mesh:
        """The mesh; with a crop box, only the faces with all corners in it."""
        mesh, box = self.model.asset(), self.crop_box()
        if box is None:
            return mesh
        inside = box.within(torch.from_numpy(mesh.vertices)).reshape(-1).numpy()
        faces = mesh.faces[inside[mesh.faces].all(axis=1)]
        kept, faces_of_kept = np.unique(faces, return_inverse=True)
        uvs = None if mesh.uvs is None else mesh.uvs[kept]
        return replace(
            mesh, vertices=mesh.vertices[kept], colors=mesh.colors[kept], uvs=uvs, faces=faces_of_kept.reshape(-1, 3)
        )


def for_page(mesh: Mesh) -> Mesh:
    """The mesh with colours that the page, multiplying them by `MAX_LINEAR` and tone mapping, shows as these."""
    texture = mesh.texture
    if texture is not None:
        rows = [
            np.round(_for_page(row / 255.0) * 255).astype(np.uint8) for row in texture
        ]  # one at a time: double precision takes eight times as much
        texture = np.stack(rows)
    return replace(mesh, colors=_for_page(mesh.colors.astype(np.float64)).astype(np.float32), texture=texture)


def _for_page(srgb: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    return srgb_of_linear(before_tone_mapping(linear_of_srgb(srgb)) / MAX_LINEAR)
