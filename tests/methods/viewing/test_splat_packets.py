# SPDX-License-Identifier: Apache-2.0
"""What the viewer's page is sent: the important Gaussians, as viser takes them, under whichever name it takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
from command_lines import free_port
from hypothesis import given
from hypothesis import strategies as st

from img3d_kernels.quaternions import rotation_matrices
from img3d_methods.viewing.splat_packets import ShownGaussians, SplatNode, browser_splats, importance


def gaussians(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (1,), "features_dc": (3,)}
    return {name: torch.randn(count, *shape, generator=generator) for name, shape in shapes.items()}


class TestWhatIsShown:
    def test_everything_below_the_limit(self) -> None:
        params = gaussians(20)
        shown = ShownGaussians(limit=20).of(params)
        assert all(torch.equal(shown[name], params[name]) for name in params)

    @given(count=st.integers(1, 60), limit=st.integers(1, 60), seed=st.integers(0, 9))
    def test_the_most_important_in_their_order(self, count: int, limit: int, seed: int) -> None:
        params = gaussians(count, seed)
        shown = ShownGaussians(limit).of(params)["means"]
        ranks = importance(params).argsort(descending=True)[:limit].sort().values
        assert torch.equal(shown, params["means"][ranks])

    def test_importance_is_opacity_times_the_largest_face(self) -> None:
        params = {
            "scales": torch.tensor([[0.1, 2.0, 3.0], [3.0, 1.0, 0.5]]).log(),
            "opacities": torch.logit(torch.tensor([[0.5], [0.9]])),
        }
        assert torch.allclose(importance(params), torch.tensor([3.0, 2.7]))

    def test_size_and_opacity_are_factors(self) -> None:
        params = gaussians(5)
        shown = ShownGaussians(limit=5, size=0.5, opacity=0.25).of(params)
        assert torch.allclose(shown["scales"].exp(), params["scales"].exp() / 2)
        assert torch.allclose(shown["opacities"].sigmoid(), params["opacities"].sigmoid() / 4, atol=1e-6)


class TestAsViserTakesThem:
    def test_covariances_are_rotated_scales_in_page_units(self) -> None:
        params = gaussians(7)
        splats = browser_splats(params, sh_degree=3, units=10)
        rotation = rotation_matrices(params["quats"].double())
        expected = 100 * rotation @ torch.diag_embed(params["scales"].double().exp() ** 2) @ rotation.mT
        assert np.allclose(splats.covariances, expected.numpy(), rtol=1e-3)
        assert np.allclose(splats.centers, 10 * params["means"].numpy())

    def test_rotations_turn_as_quaternions_do(self) -> None:
        quarter_turn_about_z = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
        turned = rotation_matrices(quarter_turn_about_z)[0] @ torch.tensor([1.0, 0.0, 0.0])
        assert torch.allclose(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)

    def test_colours_are_the_harmonics_mean_or_plain(self) -> None:
        params = gaussians(1) | {"features_dc": torch.tensor([[0.0, 1.0, -9.0]]), "opacities": torch.tensor([[0.0]])}
        harmonics, plain = browser_splats(params, 3, 1.0), browser_splats(params, 0, 1.0)
        assert harmonics.rgbs.tolist() == [[128, 199, 0]]
        assert plain.rgbs.tolist() == [[128, 186, 0]]
        assert harmonics.opacities.tolist() == [[128]]

    def test_what_cannot_be_seen_is_left_out(self) -> None:
        params = gaussians(4)
        params["opacities"][0] = -8
        params["means"][1, 2] = torch.nan
        splats = browser_splats(params, 3, 1.0)
        assert np.array_equal(splats.centers, params["means"][2:].numpy())

    def test_viser_takes_the_flattest_gaussians(self, server: viser.ViserServer) -> None:
        params = gaussians(500)
        params["scales"][:, 2] = -30
        SplatNode(server).replace(browser_splats(params, 3, 10.0))


@pytest.fixture(scope="module")
def server() -> Any:
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    yield server
    server.stop()


class Scene:
    """A viser scene's memory."""

    def __init__(self, method: str) -> None:
        self.nodes: dict[str, SimpleNamespace] = {}
        setattr(self, method, self._add)

    def _add(self, name: str, centers: Any, covariances: Any, rgbs: Any, opacities: Any, visible: bool) -> Any:
        handle = SimpleNamespace(centers=centers, visible=visible, remove=lambda: self.nodes.pop(name))
        self.nodes[name] = handle
        return handle


@pytest.mark.parametrize("method", ["_add_gaussian_splats", "add_gaussian_splats"])
class TestTheNode:
    """viser 0.2.7 has the function under a private name, viser 1.0 under a public one."""

    def test_new_splats_replace_the_old_under_a_new_name(self, method: str) -> None:
        scene = Scene(method)
        node = SplatNode(SimpleNamespace(scene=scene))
        node.replace(browser_splats(gaussians(3), 3, 1.0))
        first = set(scene.nodes)
        node.replace(browser_splats(gaussians(9), 3, 1.0))
        assert len(scene.nodes) == 1
        assert not first & set(scene.nodes)

    def test_none_left_means_none_shown(self, method: str) -> None:
        scene = Scene(method)
        node = SplatNode(SimpleNamespace(scene=scene))
        node.replace(browser_splats(gaussians(3), 3, 1.0))
        node.replace(browser_splats(gaussians(0), 3, 1.0))
        assert not scene.nodes
        assert node.bytes_sent == 0

    def test_hidden_splats_stay_hidden_when_replaced(self, method: str) -> None:
        scene = Scene(method)
        node = SplatNode(SimpleNamespace(scene=scene))
        for visible in (False, True, False):
            node.visible = visible
            node.replace(browser_splats(gaussians(3), 3, 1.0))
            assert [handle.visible for handle in scene.nodes.values()] == [visible]
