# SPDX-License-Identifier: Apache-2.0
"""Pictures of a moving camera are as large as they can be rendered smoothly, and show what the page looks at."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState, get_camera

from img3d_methods.viewing.render_pace import FIRST_PIXELS, MAX_CHANGE, RenderPace


def viewer_camera(height: int, aspect: float = 1.5):
    state = CameraState(fov=0.8, aspect=aspect, c2w=torch.eye(4)[:3], camera_type=CameraType.PERSPECTIVE)
    return get_camera(state, height, int(height * aspect))


def next_size(pace: RenderPace, aspect: float = 1.5, max_size: int = 2048) -> tuple[int, int]:
    camera = viewer_camera(30, aspect)
    pace.resize(camera, aspect, max_size)
    return int(camera.width), int(camera.height)


def settled(seconds_of_picture, max_size: int = 2048, frames_per_second: float = 20.0) -> tuple[int, int]:
    """The size after a while on a machine that takes `seconds_of_picture(pixels)`."""
    pace = RenderPace(frames_per_second)
    for _ in range(50):
        width, height = next_size(pace, max_size=max_size)
        pace.record(width * height, seconds_of_picture(width * height))
    return next_size(pace, max_size=max_size)


@given(fixed=st.floats(0, 0.02), rate=st.floats(1e6, 1.5e7), frames_per_second=st.sampled_from([10.0, 20.0]))
def test_pictures_take_the_time_that_there_is(fixed: float, rate: float, frames_per_second: float) -> None:
    width, height = settled(lambda pixels: fixed + pixels / rate, frames_per_second=frames_per_second)
    assert 0.9 < (fixed + width * height / rate) * frames_per_second < 1.1


def test_a_fast_machine_renders_all_that_is_asked_for() -> None:
    assert settled(lambda _: 0.001, max_size=512) == (512, 341)


def test_a_hopeless_machine_still_shows_something() -> None:
    width, height = settled(lambda _: 10.0)
    assert 4000 < width * height < 4200


def test_one_late_picture_does_not_spoil_the_next() -> None:
    pace = RenderPace(20.0)
    pace.record(int(FIRST_PIXELS), 30.0)
    width, height = next_size(pace)
    assert width * height > FIRST_PIXELS / MAX_CHANGE * 0.95


@given(aspect=st.floats(0.4, 2.5), asked=st.integers(30, 900))
def test_the_view_is_the_pages_own(aspect: float, asked: int) -> None:
    camera = viewer_camera(asked, aspect)
    RenderPace(20.0).resize(camera, aspect, 2048)
    width, height = int(camera.width), int(camera.height)
    expected = viewer_camera(height, aspect)
    torch.testing.assert_close(camera.fx, expected.fx)
    torch.testing.assert_close(camera.fy, expected.fy)
    assert (float(camera.cx), float(camera.cy)) == (width / 2, height / 2)
    assert abs(width - height * aspect) <= 0.5
