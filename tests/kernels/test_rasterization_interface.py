# SPDX-License-Identifier: Apache-2.0
"""`rasterization` as others call it: shapes and meta, errors, the choice of backend, gsplat's radii."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from kernel_scenes import BACKENDS, Scene, needs_compiled, random_scene

from img3d_kernels import gsplat_compat, rasterization, rendering


def render(scene: Scene, backend: str = "torch", **options: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    with torch.no_grad():
        return rasterization(
            Ks=scene.Ks, width=scene.width, height=scene.height, backend=backend,
            **{**scene.tensors(), **scene.options, **options},
        )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("render_mode", "channels"), [("RGB", 3), ("D", 1), ("ED", 1), ("RGB+D", 4), ("RGB+ED", 4)])
def test_shapes(backend: str, render_mode: str, channels: int) -> None:
    scene = random_scene(n=20, n_cameras=2)
    image, alpha, meta = render(scene, backend, render_mode=render_mode)
    assert image.shape == (2, 35, 45, channels)
    assert alpha.shape == (2, 35, 45, 1)
    assert meta["means2d"].shape == (2, 20, 2)
    per_axis = (2,) if gsplat_compat.gsplat_version() >= (1, 5) else ()
    assert meta["radii"].shape == (2, 20, *per_axis) and meta["radii"].dtype == torch.int32
    assert meta["depths"].shape == meta["opacities"].shape == (2, 20)
    assert meta["conics"].shape == (2, 20, 3)
    assert (meta["width"], meta["height"], meta["n_cameras"], meta["tile_size"]) == (45, 35, 2, 16)
    assert (meta["tile_width"], meta["tile_height"]) == (3, 3)
    assert meta["gaussian_ids"] is None and meta["camera_ids"] is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 5, 9, 32])
def test_any_number_of_channels(backend: str, n_channels: int) -> None:
    scene = random_scene(sh_degree=None)
    wide = torch.rand(len(scene.means), n_channels, generator=torch.Generator().manual_seed(0))
    image, _, _ = render(dataclasses.replace(scene, colors=wide), backend, render_mode="RGB+D")
    assert image.shape[-1] == n_channels + 1
    for channel in {0, n_channels - 1}:
        alone, _, _ = render(dataclasses.replace(scene, colors=wide[:, channel : channel + 1]), backend)
        torch.testing.assert_close(image[..., channel : channel + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sh_degree", [0, 2, 3])
def test_spherical_harmonics_in_two_parts_are_those_in_one(backend: str, sh_degree: int) -> None:
    scene = random_scene(n=50)
    whole = scene.tensors(torch.float32)
    parts = scene.tensors(torch.float32)
    degree_0, others = (part.detach().requires_grad_() for part in parts.pop("colors").split([1, 15], dim=1))
    images = []
    for inputs in (whole, {**parts, "colors": (degree_0, others)}):
        image, _, _ = rasterization(
            **inputs, Ks=scene.Ks, width=scene.width, height=scene.height, backend=backend, sh_degree=sh_degree
        )
        (image * torch.linspace(-1, 1, image.numel()).reshape(image.shape)).sum().backward()
        images.append(image.detach())
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=0)
    assert degree_0.grad is not None and others.grad is not None
    torch.testing.assert_close(torch.cat([degree_0.grad, others.grad], dim=1), whole["colors"].grad, rtol=0, atol=0)
    for name, value in parts.items():
        torch.testing.assert_close(value.grad, whole[name].grad, rtol=0, atol=0)


@pytest.mark.usefixtures("annotations_unchecked")
def test_parts_of_the_wrong_shape_are_refused() -> None:
    scene = random_scene(n=20)
    part = scene.colors[:, 1:]
    for colors, options, message in (
        ((part, part), {}, "the first part of colors must have shape"),
        ((scene.colors[:, :1], part[:, :3]), {}, "needs 16 coefficients, got 4"),
        ((scene.colors[:, :1], part[:-1]), {}, "the second part of colors must have shape"),
        ((scene.colors[:, :1], part), {"sh_degree": None}, "give their sh_degree"),
    ):
        with pytest.raises(ValueError, match=message):
            render(scene, colors=colors, **options)


def test_absgrad_of_many_channels_is_refused() -> None:
    pytest.importorskip("img3d_kernels._C", reason="the compiled kernels are not built")
    scene = random_scene(sh_degree=None)
    wide = dataclasses.replace(scene, colors=torch.rand(len(scene.means), 5))
    with pytest.raises(ValueError, match="at most 4 channels"):
        render(wide, "cpu", absgrad=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gaussian_where_it_should_be(backend: str) -> None:
    """By hand: at depth 2 with focal length 10, (0.5, -0.25) is 2.5 pixels right of and 1.25 above the centre."""
    image, alpha, meta = rasterization(
        means=torch.tensor([[0.5, -0.25, 2.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), 0.2),
        opacities=torch.tensor([0.8]),
        colors=torch.tensor([[1.0, 0.5, 0.0]]),
        viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[10.0, 0.0, 6.0], [0.0, 10.0, 5.0], [0.0, 0.0, 1.0]]]),
        width=12,
        height=10,
        backend=backend,
    )
    assert meta["means2d"][0, 0].tolist() == pytest.approx([8.5, 3.75])
    assert meta["depths"][0, 0].item() == pytest.approx(2.0)
    assert divmod(int(alpha[0, ..., 0].argmax()), 12) == (3, 8)  # row 3 holds y = 3.75; x = 8.5 is column 8's centre
    # Variance of x: (10 / 2 * 0.2)^2 (1 + slope^2) + 0.3, of y likewise; 0.25 above that pixel's centre.
    a, b, c = 1.3 + 0.25**2, -0.25 * 0.125, 1.3 + 0.125**2
    expected = 0.8 * torch.exp(torch.tensor(-0.5 * 0.25**2 * a / (a * c - b * b))).item()
    assert alpha[0, 3, 8, 0].item() == pytest.approx(expected, rel=1e-4)
    assert image[0, 3, 8].tolist() == pytest.approx([expected, 0.5 * expected, 0.0], rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nearer_gaussians_hide_farther_ones(backend: str) -> None:
    scene = random_scene(n=2, sh_degree=None)
    scene.viewmats = torch.eye(4)[None]
    scene.means = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 3.0]])
    scene.scales[:], scene.opacities[:] = 1.0, 0.99
    scene.colors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    image, _, _ = render(scene, backend)
    red, _, blue = image[0, 18, 21].tolist()
    assert blue > 0.9 and red < 0.1
    depth, _, _ = render(scene, backend, render_mode="ED")
    assert depth[0, 18, 21, 0].item() == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gaussian_reaches_the_tiles_its_radius_touches_and_no_others(backend: str) -> None:
    """sigma 5.3 pixels, so radius 16, at (16, 16): the first two tiles each way, though 1/255 is further out."""
    focal = 50.0
    _, alpha, meta = rasterization(
        means=torch.tensor([[0.0, 0.0, 1.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), (5.3**2 - 0.3) ** 0.5 / focal),
        opacities=torch.tensor([0.99]),
        colors=torch.ones(1, 3),
        viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[focal, 0.0, 16.0], [0.0, focal, 16.0], [0.0, 0.0, 1.0]]]),
        width=64,
        height=48,
        backend=backend,
    )
    assert meta["radii"].flatten()[0] == 16
    alpha = alpha[0, ..., 0]
    assert alpha[16, 31] > 1 / 255 and alpha[31, 16] > 1 / 255
    assert 0.99 * math.exp(-0.5 * (16.5 / 5.3) ** 2) > 1 / 255  # what the next pixel over would get
    assert not alpha[:, 32:].any() and not alpha[32:].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(5, 2)}, r"means must have shape \[5, 3\], got \[5, 2\]"),
        ({"quats": torch.zeros(4, 4)}, r"quats must have shape \[5, 4\], got \[4, 4\]"),
        ({"opacities": torch.zeros(5, 1)}, r"opacities must have shape \[5\], got \[5, 1\]"),
        ({"colors": torch.zeros(5, 3)}, r"colors must have shape"),
        ({"colors": torch.zeros(5, 4, 3)}, "sh_degree 3 needs 16 coefficients, got 4"),
        ({"sh_degree": 4}, "sh_degree must be 0 to 3, not 4"),
        ({"viewmats": torch.eye(4)}, "viewmats must have shape"),
        ({"Ks": torch.eye(3)}, "Ks must have shape"),
        ({"backgrounds": torch.zeros(1, 4)}, r"backgrounds must have shape \[1, 3\], got \[1, 4\]"),
        ({"width": 0}, "width and height must be at least 1"),
        ({"render_mode": "depth"}, "render_mode must be"),
        ({"rasterize_mode": "sharp"}, "rasterize_mode must be"),
        ({"backend": "metal"}, "backend must be"),
    ],
)
@pytest.mark.usefixtures("annotations_unchecked")
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    scene = random_scene(n=5)
    call = {**scene.tensors(), "Ks": scene.Ks, "width": 9, "height": 9, "sh_degree": 3, "backend": "torch", **change}
    with pytest.raises(ValueError, match=message):
        rasterization(**call)


@needs_compiled
@pytest.mark.parametrize("sh_degree", [None, 2])
def test_mixed_precision_is_single_precision_where_the_means_are(sh_degree: int | None) -> None:
    scene = dataclasses.replace(random_scene(n=20, sh_degree=sh_degree), backgrounds=torch.ones(1, 3))
    if sh_degree is None:
        scene.colors = scene.colors[:, :3]
    single, mixed = scene.tensors(), scene.tensors(torch.float64)
    mixed["means"] = single["means"].detach().clone().requires_grad_()
    for inputs, Ks in ((single, scene.Ks), (mixed, scene.Ks.double())):
        image, _, _ = rasterization(**inputs, Ks=Ks, width=scene.width, height=scene.height, sh_degree=sh_degree)
        (image * torch.linspace(0, 1, image.numel()).reshape(image.shape)).sum().backward()
    for name, value in single.items():
        assert mixed[name].grad.dtype == mixed[name].dtype
        assert torch.equal(mixed[name].grad.float(), value.grad), name


def test_double_precision_goes_to_torch_and_single_to_the_compiled_backend() -> None:
    assert rendering.default_backend(torch.zeros(1, 3, dtype=torch.float64)) == "torch"
    assert rendering.default_backend(torch.zeros(1, 3)) == "cpu"


@pytest.mark.parametrize("backend", BACKENDS)
def test_radii_in_the_installed_gsplats_layout(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = random_scene(n=20, n_cameras=2)
    monkeypatch.setattr(gsplat_compat, "gsplat_version", lambda: (1, 4))
    before = render(scene, backend)[2]["radii"]
    assert before.shape == (2, 20)
    monkeypatch.setattr(gsplat_compat, "gsplat_version", lambda: (1, 5))
    since = render(scene, backend)[2]["radii"]
    assert since.shape == (2, 20, 2) and since.is_contiguous()
    assert torch.equal(since[..., 0], before) and torch.equal(since[..., 1], before)


def test_gsplats_version_is_read_from_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise gsplat_compat.metadata.PackageNotFoundError(name)

    gsplat_compat.gsplat_version.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(gsplat_compat.metadata, "version", lambda name: "1.5.3+pt24cu124")
        assert gsplat_compat.gsplat_version() == (1, 5)
        gsplat_compat.gsplat_version.cache_clear()
        patch.setattr(gsplat_compat.metadata, "version", missing)
        assert gsplat_compat.gsplat_version() == (1, 4)
    gsplat_compat.gsplat_version.cache_clear()


def test_importing_the_package_imports_neither_gsplat_nor_nerfstudio() -> None:
    code = "import sys, img3d_kernels; print([m for m in ('gsplat', 'nerfstudio') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_without_compiled_kernels_rendering_falls_back_to_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "img3d_kernels._C", None)  # importing it now fails
    monkeypatch.delattr("img3d_kernels._C", raising=False)
    rendering.has_compiled_kernels.cache_clear()
    try:
        with pytest.warns(UserWarning, match="compiled kernels are missing"):
            assert rendering.default_backend(torch.zeros(1, 3)) == "torch"
    finally:
        rendering.has_compiled_kernels.cache_clear()
