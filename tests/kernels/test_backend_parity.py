# SPDX-License-Identifier: Apache-2.0
"""Every backend, in single precision, gives the values and gradients of the torch twin in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import kernel_scenes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_scenes import BACKENDS, SCENES, Rendered, Scene, random_scene, render_with_gradients
from torch import Tensor

VALUE_TOLERANCE = 1e-4
"""Of a pixel in [0, 1]: what single precision leaves after some hundred Gaussians; a wrong formula gives over 1e-2."""

OUTLIER_PIXELS = 0.003
"""Share of pixels that may differ by more. alpha = 1/255 and transmittance = 1e-4 are jumps: a pixel within rounding
of one may fall on either side, and then differs by up to 1/255. Scenes of 1,500 pixels: no more than four."""

GRADIENT_TOLERANCE = 5e-4
"""Relative L2 error of a gradient. Single precision gives some 1e-6; one pixel on the other side of a jump some 1e-4;
a dropped term or a wrong sign 1e-2 and more."""


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    with kernel_scenes.one_torch_thread():
        yield


def assert_close(actual: Rendered, expected: Rendered) -> None:
    for name in ("render", "alpha"):
        values, reference = getattr(actual, name).double(), getattr(expected, name)
        assert values.shape == reference.shape
        assert values.isfinite().all(), name
        # Depths are about 4, and expected depth divides by alpha.
        scale = reference.abs().clamp(min=1.0)
        outliers = ((values - reference).abs() > VALUE_TOLERANCE * scale).any(dim=-1).double().mean().item()
        assert outliers <= OUTLIER_PIXELS, f"{name}: {outliers:.2%} of pixels differ"
    assert actual.gradients.keys() == expected.gradients.keys()
    for name, reference in expected.gradients.items():
        gradient = actual.gradients[name].double()
        assert gradient.shape == reference.shape, name
        assert gradient.isfinite().all(), name
        error = relative_error(gradient, reference)
        assert error <= GRADIENT_TOLERANCE, f"gradient of {name}: relative error {error:.2e}"


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of what is expected; the difference's own where zero is expected."""
    norm = expected.norm().item()
    return (actual - expected).norm().item() / (norm if norm > 0 else 1.0)


def assert_same_projection(actual: Rendered, expected: Rendered) -> None:
    radii, reference = actual.meta["radii"], expected.meta["radii"]
    # A radius is rounded up, so rounding error can add or take away a pixel, and so let a Gaussian in at the border.
    assert (radii != reference).double().mean().item() <= 0.02 if radii.numel() else True
    both = (radii > 0) & (reference > 0)
    # Far below 1/255 no opacity is ever drawn, and an antialiased needle's is rounding error: of a difference of
    # products of variances, a few times 2^-24 (15 px^2)^2, over the blurred determinant of 9 px^4, the root is 3e-3.
    for name, atol in (("means2d", 1e-4), ("depths", 1e-5), ("opacities", 1e-2)):
        torch.testing.assert_close(
            actual.meta[name][both].detach().double(), expected.meta[name][both].detach(), rtol=1e-4, atol=atol
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCENES)
def test_agrees_with_double_precision(name: str, backend: str) -> None:
    scene = SCENES[name]()
    actual = render_with_gradients(scene, backend)
    expected = render_with_gradients(scene, "torch", torch.float64)
    assert_same_projection(actual, expected)
    assert_close(actual, expected)


@pytest.mark.parametrize("name", SCENES)
def test_scenes_show_something(name: str) -> None:
    """The scenes above would agree trivially if nothing were drawn."""
    scene = SCENES[name]()
    drawn = render_with_gradients(scene, kernel_scenes.FAST_BACKEND).alpha.max().item()
    assert (drawn > 0.2) == (name not in ("no Gaussian", "everything left out"))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 80),
    n_cameras=st.integers(1, 3),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    sh_degree=st.sampled_from([None, 0, 1, 2, 3]),
    render_mode=st.sampled_from(["RGB", "D", "ED", "RGB+D", "RGB+ED"]),
    rasterize_mode=st.sampled_from(["classic", "antialiased"]),
    absgrad=st.booleans(),
    background=st.booleans(),
    log_size=st.floats(-2.0, 2.0),
)
def test_agrees_on_any_scene(
    backend: str,
    seed: int,
    n: int,
    n_cameras: int,
    width: int,
    height: int,
    sh_degree: int | None,
    render_mode: str,
    rasterize_mode: str,
    absgrad: bool,
    background: bool,
    log_size: float,
) -> None:
    scene: Scene = random_scene(n, n_cameras, width, height, seed, sh_degree)
    scene.scales *= 10.0**log_size
    n_channels = (3 if sh_degree is not None else scene.colors.shape[-1]) + ("+" in render_mode)
    absgrad = absgrad and n_channels <= 4  # more are refused: test_rasterization_interface.py
    scene.options.update(render_mode=render_mode, rasterize_mode=rasterize_mode, absgrad=absgrad)
    if background:
        scene.backgrounds = torch.rand(n_cameras, 3 if sh_degree is not None else scene.colors.shape[-1])
    actual = render_with_gradients(scene, backend)
    expected = render_with_gradients(scene, "torch", torch.float64)
    for name, gradient in actual.gradients.items():
        assert gradient.isfinite().all(), name
    # Hypothesis looks for the scenes in which a pixel sits on a jump, and in a small image that one pixel weighs: so
    # looser than above, and by the median pixel. A wrong formula shows in all of them.
    difference = (actual.render.double() - expected.render).abs() / expected.render.abs().clamp(min=1.0)
    assert difference.max().item() < (0.1 if "ED" in render_mode else 0.02)
    assert difference.median().item() < VALUE_TOLERANCE
    for name, reference in expected.gradients.items():
        if reference.norm() > 1e-3:
            assert relative_error(actual.gradients[name].double(), reference) < 0.1, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds"])
def test_gradient_of_one_input_alone(name: str, backend: str) -> None:
    """As when a camera is refined on fixed Gaussians, or the reverse."""
    scene = SCENES["three cameras"]()
    everything = render_with_gradients(scene, backend).gradients[name]
    inputs = {key: value.detach() for key, value in scene.tensors().items()}
    inputs[name].requires_grad_()
    render, alpha, _ = kernel_scenes.rasterization(
        **inputs, Ks=scene.Ks, width=scene.width, height=scene.height, backend=backend, **scene.options
    )
    generator = torch.Generator().manual_seed(5)
    loss = (render * torch.randn(render.shape, generator=generator)).sum()
    (loss + (alpha * torch.randn(alpha.shape, generator=generator)).sum()).backward()
    assert relative_error(inputs[name].grad.double(), everything.double()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_of_alpha_alone_and_of_render_alone(backend: str) -> None:
    scene = random_scene(seed=30)
    for output in (0, 1):
        gradients = []
        for chosen, dtype in ((backend, torch.float32), ("torch", torch.float64)):
            inputs = scene.tensors(dtype)
            outputs = kernel_scenes.rasterization(
                **inputs, Ks=scene.Ks.to(dtype), width=45, height=35, backend=chosen, sh_degree=3
            )
            outputs[output].square().sum().backward()
            gradients.append(inputs["means"].grad.double())
        assert relative_error(*gradients) < GRADIENT_TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_need_not_be_contiguous(backend: str) -> None:
    scene = random_scene(seed=31)
    expected = render_with_gradients(scene, backend)

    def scattered(x: Tensor) -> Tensor:
        return x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x.repeat_interleave(2)[::2]

    inputs = {name: scattered(value.detach()).requires_grad_() for name, value in scene.tensors().items()}
    assert not inputs["means"].is_contiguous()
    render, _, _ = kernel_scenes.rasterization(
        **inputs, Ks=scattered(scene.Ks), width=45, height=35, backend=backend, sh_degree=3
    )
    torch.testing.assert_close(render.detach(), expected.render, rtol=0, atol=1e-6)
    render.transpose(1, 2).square().sum().backward()  # a gradient that is not contiguous either
    assert all(value.grad.isfinite().all() for value in inputs.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_backward_twice_through_one_graph(backend: str) -> None:
    scene = random_scene(seed=32)
    inputs = scene.tensors()
    render, _, meta = kernel_scenes.rasterization(
        **inputs, Ks=scene.Ks, width=45, height=35, backend=backend, sh_degree=3, absgrad=True
    )
    loss = render.square().sum()
    loss.backward(retain_graph=True)
    once, absgrad = inputs["means"].grad.clone(), meta["means2d"].absgrad.clone()
    loss.backward()
    torch.testing.assert_close(inputs["means"].grad, 2 * once)
    torch.testing.assert_close(meta["means2d"].absgrad, absgrad)  # the last backward's, not a sum of both


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_gradients(backend: str) -> None:
    scene = random_scene(seed=33)
    expected = render_with_gradients(scene, backend).render
    with torch.no_grad():
        render, alpha, meta = kernel_scenes.rasterization(
            **scene.tensors(), Ks=scene.Ks, width=45, height=35, backend=backend, sh_degree=3, absgrad=True
        )
    assert not render.requires_grad and not alpha.requires_grad and not meta["means2d"].requires_grad
    torch.testing.assert_close(render, expected, rtol=0, atol=1e-6)
