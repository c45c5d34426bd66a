# SPDX-License-Identifier: Apache-2.0
"""Removes or corrects controls of Nerfstudio's viewer that would be wrong for our runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img3d_methods.compat import offer_no_depth_buffer, quote_render_command, tab_of_page

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer


def put_controls_right(viewer: Viewer) -> None:
    """Removes the "Export" tab, which says that working exports are unsupported and only prints commands, and the
    output that breaks "Split Screen"; quotes paths in the command of the "Render" tab."""
    offer_no_depth_buffer(viewer.control_panel)
    tab_of_page(viewer.viser_server, "Export").remove()
    viewer.viser_server.on_client_connect(quote_render_command)


def training_is_over(viewer: Viewer, steps: int) -> None:
    """Hides the controls that pause or slow training, and shows the run's last step."""
    viewer.pause_train.visible = viewer.resume_train.visible = False
    for control in (viewer.control_panel._train_speed, viewer.control_panel._train_util):
        control.set_hidden(True)
    viewer.update_step(steps)
