# SPDX-License-Identifier: Apache-2.0
"""The compiled backend as a library: threads, memory, Ctrl-C, repeatability."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hang_limit import HANG_SECONDS
from kernel_scenes import needs_compiled, random_scene, render_with_gradients, three_cameras

pytestmark = needs_compiled

RENDER_FOREVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and what they start
import torch
from img3d_kernels import rasterization
n = 20000
means = (torch.randn(n, 3) + torch.tensor([0.0, 0.0, 5.0])).requires_grad_()
args = means, torch.randn(n, 4), torch.rand(n, 3) * 0.1, torch.rand(n), torch.rand(n, 3), torch.eye(4)[None]
K = torch.tensor([[[300.0, 0.0, 200.0], [0.0, 300.0, 150.0], [0.0, 0.0, 1.0]]])
print("ready", flush=True)
while True:
    render, _, _ = rasterization(*args, K, 400, 300, backend="cpu")
    render.sum().backward()
"""


def test_the_same_call_gives_the_same_bits() -> None:
    scene = random_scene(n=2000, width=100, height=80)
    first, second = render_with_gradients(scene, "cpu"), render_with_gradients(scene, "cpu")
    assert torch.equal(first.render, second.render)
    for name, gradient in first.gradients.items():
        assert torch.equal(gradient, second.gradients[name]), name


def test_calls_from_several_threads_do_not_disturb_each_other() -> None:
    scenes = [random_scene(n=500, seed=0), random_scene(n=700, seed=1, width=70), three_cameras()]
    expected = [render_with_gradients(scene, "cpu") for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: render_with_gradients(scenes[i % 3], "cpu"), range(24)))
    for i, result in enumerate(results):
        assert torch.equal(result.render, expected[i % 3].render)
        for name, gradient in result.gradients.items():
            assert torch.equal(gradient, expected[i % 3].gradients[name]), name


def one_that_covers_everything(for_backward: bool) -> Any:
    """The state of a forward pass over 32 x 48 pixels, all of them in one Gaussian."""
    from img3d_kernels import _C

    render, alpha = torch.empty(32, 48, 3), torch.empty(32, 48)
    inputs = torch.tensor([[24.0, 16.0]]), torch.tensor([[1e-6, 0.0, 1e-6]]), torch.ones(1, 3), torch.tensor([0.5])
    radii, depths = torch.tensor([3000], dtype=torch.int32), torch.ones(1)
    return _C.rasterize_forward(*inputs, radii, depths, None, 48, 32, for_backward, render, alpha)


def test_the_pairs_of_pixels_and_gaussians_are_counted() -> None:
    assert one_that_covers_everything(for_backward=True).n_pixel_pairs == 32 * 48


def test_a_pass_without_gradients_keeps_nothing_for_a_backward_pass() -> None:
    with pytest.raises(ValueError, match="backward"):
        _ = one_that_covers_everything(for_backward=False).n_pixel_pairs


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc")
def test_memory_does_not_grow() -> None:
    scene = random_scene(n=2000, width=64, height=48)
    scene.options["absgrad"] = True
    for _ in range(20):
        render_with_gradients(scene, "cpu")
    before = resident_bytes()
    for _ in range(200):
        render_with_gradients(scene, "cpu")
    # The gradient of the spherical harmonics alone is 384 kB a call: keeping it would show as 77 MB.
    assert resident_bytes() - before < 30e6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_stops_a_render_loop() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RENDER_FOREVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=HANG_SECONDS)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
