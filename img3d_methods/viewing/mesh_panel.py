# SPDX-License-Identifier: Apache-2.0
"""Controls of a mesh in the viewer, and its download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from img3d_methods.viewing.view_panel import PanelledView, ViewPanel

if TYPE_CHECKING:
    from img3d_assets.mesh import Mesh
    from img3d_methods.viewing.viewed_model import ViewedMeshModel

FILE_ENDINGS = ("glb", "usdz", "ply", "stl")
"""Endings of the downloadable formats; an OBJ consists of several files."""


class PanelledMeshView(PanelledView, Protocol):
    """What the panel needs of the view of a mesh; `MeshView` implements it."""

    @property
    def model(self) -> ViewedMeshModel: ...

    def cropped(self) -> Mesh: ...


class MeshPanel(ViewPanel):
    """The tabs "Mesh" and "Export".

    Args:
        view: The view to control; its viewer is set up.
    """

    COMMANDS = {**ViewPanel.COMMANDS, "viewer": "page"}

    def __init__(self, view: PanelledMeshView) -> None:
        self.view = view
        super().__init__(view, "Mesh")

    def _add_controls(self, gui: Any) -> Sequence[Any]:
        self._in_browser = gui.add_checkbox(
            "Draw the mesh in the browser", True, hint="On: smooth. Off: antialiased pictures rendered by the model."
        )
        return (self._in_browser,)

    def _add_exports(self, gui: Any) -> None:
        self._format = gui.add_dropdown("Format", FILE_ENDINGS)
        export = gui.add_button("Download mesh", hint="The part inside the crop box.")
        export.on_click(lambda event: self._export(self._mesh, event))

    def _model_size(self) -> str:
        return f"**Triangles** {len(self.view.model.asset().faces):,}"

    @property
    def draws_in_browser(self) -> bool:
        return self._in_browser.value

    @property
    def shown(self) -> bool:
        """What a refresh depends on."""
        return self.draws_in_browser

    def _mesh(self, event: Any) -> str:
        from img3d_assets.mesh_files import write_mesh  # late: entry points import this module

        mesh = self.view.cropped()
        name = f"mesh.{self._format.value}"
        with TemporaryDirectory() as folder:
            write_mesh(mesh, Path(folder) / name, "z")
            contents = (Path(folder) / name).read_bytes()
        event.client.send_file_download(name, contents)
        return f"{len(mesh.faces):,} triangles, {len(contents) / 1e6:.1f} MB, were sent to your downloads as `{name}`."
