# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's own controls in its viewer, where they say what is not so: taken away, or put right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img3d_methods.compat import offer_no_depth_buffer, tab_of_page

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer


def put_controls_right(viewer: Viewer) -> None:
    """No "Export" that denies what works and only spells out commands; no output that ends "Split Screen"."""
    offer_no_depth_buffer(viewer.control_panel)
    tab_of_page(viewer.viser_server, "Export").remove()


def training_is_over(viewer: Viewer, steps: int) -> None:
    """Nothing can be paused or slowed down any more, and the step that is shown is the run's last."""
    viewer.pause_train.visible = viewer.resume_train.visible = False
    for control in (viewer.control_panel._train_speed, viewer.control_panel._train_util):
        control.set_hidden(True)
    viewer.update_step(steps)
