# SPDX-License-Identifier: Apache-2.0
"""Pages open at a photo's view."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from img3d_methods.viewing.initial_view import InitialView, open_at, view_of_photo


def test_it_starts_at_a_photo_and_turns_around_what_photos_look_at() -> None:
    eyes = torch.tensor([[4.0, 0, 0], [0, 4, 0], [-4, 0, 0]])
    back = torch.nn.functional.normalize(eyes, dim=-1)
    right = torch.linalg.cross(torch.tensor([0.0, 0, 1]).expand_as(back), back)
    poses = torch.stack([right, torch.linalg.cross(back, right), back, eyes], dim=-1)
    cameras = Cameras(poses, fx=100.0, fy=100.0, cx=100.0, cy=50.0, width=200, height=100)
    view = view_of_photo(cameras)
    assert view.position == pytest.approx([4, 0, 0])
    assert view.target == pytest.approx([0, 0, 0], abs=1e-5)
    assert view.fov == pytest.approx(90)  # across the width, the longer side


def test_photos_taken_outward_turn_around_a_point_ahead() -> None:
    eyes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]])
    back = -eyes
    right = torch.linalg.cross(torch.tensor([0.0, 0, 1]).expand_as(back), back)
    poses = torch.stack([right, torch.linalg.cross(back, right), back, eyes], dim=-1)
    view = view_of_photo(Cameras(poses, fx=100.0, fy=100.0, cx=50.0, cy=50.0, width=100, height=100))
    assert view.target[0] > 1
    assert view.target[1:] == pytest.approx([0, 0])


def page(position: tuple[float, float, float]) -> Any:
    """Viser's handle of a page."""
    camera = SimpleNamespace(position=np.array(position), look_at=np.zeros(3), fov=1.3)
    return SimpleNamespace(camera=camera, atomic=nullcontext)


VIEW = InitialView(np.array([0.0, -0.4, 0.2]), np.array([0.0, 0.1, 0.2]), 90.0)


def test_a_new_page_is_moved_there_in_its_own_units_past_the_photo() -> None:
    new = page((3.0, 3.0, 3.0))
    open_at(VIEW, new, 10.0)
    assert new.camera.position == pytest.approx([0, -3.7, 2])
    assert new.camera.look_at == pytest.approx([0, 1, 2])
    assert new.camera.fov == pytest.approx(math.pi / 2)


def test_it_does_not_pass_what_the_photo_shows() -> None:
    new = page((3.0, 3.0, 3.0))
    open_at(InitialView(np.zeros(3), np.array([0.0, 0.02, 0.0]), 90.0), new, 10.0)
    assert new.camera.position == pytest.approx([0, 0.1, 0])


def test_a_page_that_connects_again_stays_where_it_is() -> None:
    again = page((2.0, 0.5, 1.0))
    open_at(VIEW, again, 10.0)
    assert again.camera.position == pytest.approx([2, 0.5, 1])
    assert again.camera.fov == 1.3
