# SPDX-License-Identifier: Apache-2.0
"""InstantMesh as a generator: loads the published weights, and brings meshes and fields into the world of the views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh import Mesh
from img3d_base.console import CONSOLE
from img3d_generators.cameras import TO_FRONT_ON_Z
from img3d_generators.instantmesh.cameras import RADIUS, camera_numbers, chosen
from img3d_generators.instantmesh.heads import MeshHead
from img3d_generators.instantmesh.network import InstantMesh, config_of, load_instantmesh
from img3d_generators.networks.devices import Precision, default_device, dtype_of
from img3d_generators.posed_views import PosedViews
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.weight_files import to_use


def instantmesh_asset(name: str) -> Callable[..., Mesh | TriplaneField]:
    """Loads a row that makes a mesh or a field from views, without random numbers.

    Args:
        name: The row's name, which is also its checkpoint's.

    Raises:
        InputError: The weights are not installed, damaged, or for another network.
    """
    known = checkpoint(name)
    device = default_device()
    path = to_use(name) / known.files[0].path
    with CONSOLE.status(f"Loading {name}"):
        network = load_instantmesh(path, config_of(known.architecture)).to(device)
    return partial(asset_of_views, network)


def asset_of_views(
    network: InstantMesh,
    given: PosedViews,
    views: int = 6,
    texture_size: int = 0,
    precision: Precision = "float32",
) -> Mesh | TriplaneField:
    """Makes a mesh or a field from views, in the views' world.

    Args:
        network: The network, ready to generate.
        given: Views of the object, on white.
        views: Number of views to use: 6 or 4.
        texture_size: Height and width of a mesh's texture; 0: vertex colours only.
        precision: Precision of the network's matrix products.

    Raises:
        InputError: The network was trained on other cameras, or there is another number of views.
    """
    used = chosen(given, views)
    cameras = camera_numbers(used)
    device = network.transformer.pos_embed.device
    with CONSOLE.status("Generating the object's planes"):
        planes = network.planes(used.images, cameras, dtype_of(precision, device))
    scale = float(used.camera_to_worlds[0, :, 3].norm()) / RADIUS
    head, config = network.head, network.config
    if not isinstance(head, MeshHead):
        return head.field(planes).turned(TO_FRONT_ON_Z, scale, up="y")
    with CONSOLE.status("Generating a mesh"):
        mesh = head.mesh(planes, config.grid_resolution, config.grid_scale, texture_size)
    mesh.vertices, mesh.up = mesh.vertices @ (scale * TO_FRONT_ON_Z.numpy().T), "y"
    return mesh
