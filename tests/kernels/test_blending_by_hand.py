# SPDX-License-Identifier: Apache-2.0
"""Blending, against a loop over pixels and Gaussians in NumPy that shares nothing with the code under test."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kernel_scenes import BACKENDS, SCENES, Scene, one_torch_thread, random_scene, render_with_gradients

from img3d_kernels import rasterization, torch_backend

BLENDED = [
    "spherical harmonics",
    "four plain channels",
    "saturated",
    "transparent",
    "one depth",
    "three cameras",
    "backgrounds",
    "tall",
    "one pixel",
    "huge",
    "many layers",
]


def blend_by_hand(scene: Scene, absgrad_of: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Render in double precision, one pixel and one Gaussian at a time; takes only the projection from elsewhere.

    `absgrad_of` are the weights of render and alpha in a loss: then also the gradient of means2d, by the textbook's
    formula pixel by pixel, summed as it is and by absolute value.
    """
    inputs = {name: value.detach() for name, value in scene.tensors(torch.float64).items()}
    options = {"near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None}
    options |= {key: value for key, value in scene.options.items() if key in options}
    radii, means2d, depths, conics, opacities, colors = (
        values.numpy()
        for values in torch_backend.project_gaussians(
            *(inputs[key] for key in ("means", "quats", "scales", "opacities", "colors", "viewmats")),
            scene.Ks.double(),
            scene.width,
            scene.height,
            antialiased=False,
            **options,
        )
    )
    n_cameras, n, channels = colors.shape
    background = np.zeros((n_cameras, channels)) if scene.backgrounds is None else scene.backgrounds.double().numpy()
    render = np.zeros((n_cameras, scene.height, scene.width, channels))
    alpha_image = np.zeros((n_cameras, scene.height, scene.width, 1))
    grad, absgrad = np.zeros((n_cameras, n, 2)), np.zeros((n_cameras, n, 2))
    for c in range(n_cameras):
        order = sorted((i for i in range(n) if radii[c, i] > 0), key=lambda i: depths[c, i])
        for py in range(scene.height):
            for px in range(scene.width):
                T, drawn = 1.0, []
                for i in order:
                    x, y, r = *means2d[c, i], radii[c, i]
                    if not (math.floor((x - r) / 16) <= px // 16 < math.ceil((x + r) / 16)):
                        continue
                    if not (math.floor((y - r) / 16) <= py // 16 < math.ceil((y + r) / 16)):
                        continue
                    d = np.array([x - (px + 0.5), y - (py + 0.5)])
                    conic = np.array([[conics[c, i, 0], conics[c, i, 1]], [conics[c, i, 1], conics[c, i, 2]]])
                    falloff = math.exp(-0.5 * d @ conic @ d)
                    alpha = min(0.999, opacities[c, i] * falloff)
                    if alpha < 1 / 255:
                        continue
                    if T * (1 - alpha) <= 1e-4:
                        break
                    drawn.append((i, alpha, T, conic @ d, opacities[c, i] * falloff <= 0.999))
                    render[c, py, px] += alpha * T * colors[c, i]
                    T *= 1 - alpha
                render[c, py, px] += T * background[c]
                alpha_image[c, py, px] = 1 - T
                if absgrad_of is not None:
                    v_render, v_alpha = absgrad_of[0][c, py, px], absgrad_of[1][c, py, px, 0]
                    behind = T * background[c]
                    for i, alpha, T_before, conic_d, unclamped in reversed(drawn):
                        d_alpha = v_render @ (T_before * colors[c, i] - behind / (1 - alpha)) + v_alpha * T / (
                            1 - alpha
                        )
                        behind = behind + alpha * T_before * colors[c, i]
                        if unclamped:
                            pixel_grad = -d_alpha * alpha * conic_d
                            grad[c, i] += pixel_grad
                            absgrad[c, i] += np.abs(pixel_grad)
    return {"render": render, "alpha": alpha_image, "means2d": grad, "absgrad": absgrad}


@pytest.mark.parametrize("name", BLENDED)
def test_torch_twin_blends_as_by_hand(name: str) -> None:
    scene = SCENES[name]()
    scene.width, scene.height = min(scene.width, 20), min(scene.height, 18)  # more than one tile each way
    expected = blend_by_hand(scene)
    with one_torch_thread(), torch.no_grad():
        render, alpha, _ = rasterization(
            **scene.tensors(torch.float64),
            Ks=scene.Ks.double(),
            width=scene.width,
            height=scene.height,
            backend="torch",
            **scene.options,
        )
    np.testing.assert_allclose(render.numpy(), expected["render"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(alpha.numpy(), expected["alpha"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_absgrad_sums_each_pixels_absolute_gradient(backend: str) -> None:
    scene = random_scene(n=40, n_cameras=2, width=20, height=18, seed=3)
    scene.opacities[:5] = 1.0  # some clamped, whose positions get no gradient there
    scene.backgrounds = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.2, 0.1]])
    scene.options["absgrad"] = True
    dtype = torch.float64 if backend == "torch" else torch.float32
    rendered = render_with_gradients(scene, backend, dtype)
    generator = torch.Generator().manual_seed(5)  # as render_with_gradients weights its loss
    weights = (
        torch.randn(rendered.render.shape, generator=generator).double().numpy(),
        torch.randn(rendered.alpha.shape, generator=generator).double().numpy(),
    )
    expected = blend_by_hand(scene, absgrad_of=weights)
    tolerance = 1e-9 if backend == "torch" else 1e-3
    for name in ("means2d", "absgrad"):
        error = np.linalg.norm(rendered.gradients[name].double().numpy() - expected[name])
        assert error < tolerance * np.linalg.norm(expected[name]), name
    assert np.linalg.norm(expected["absgrad"]) > 1.1 * np.linalg.norm(expected["means2d"])  # not the same thing
