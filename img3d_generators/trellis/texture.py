# SPDX-License-Identifier: Apache-2.0
"""Textures TRELLIS's mesh with renders of its Gaussians, which show more detail than the vertex colours, as the authors
do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.spatial import KDTree

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.meshing.cleaning import decimated
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_assets.meshing.texture_baking import baked, check_texture_size
from img3d_base.progress import with_progress
from img3d_generators.cameras import directions_on_sphere, orbit_camera_to_worlds
from img3d_kernels.poses import intrinsics, viewmats

NUM_VIEWS = 100
"""Renders that the texture is baked from."""
MAX_VIEW_SIZE = 1024
"""Maximum width and height of a render; smaller textures need no more pixels than they have."""
FOV, DISTANCE = 40.0, 2.0
"""The authors' cameras: field of view in degrees, and distance from the origin."""
OPAQUE = 0.9
"""Minimum alpha of a pixel that shows the surface."""
TEXELS_OF_FACE = 16
"""Mean number of texels for each triangle: the mesh is simplified to as many. The decoder makes some hundred thousand
triangles, which would leave two texels to each."""


def textured(mesh: Mesh, gaussians: Gaussians, texture_size: int) -> Mesh:
    """The mesh, simplified, with a texture baked from renders of the Gaussians.

    Args:
        mesh: The mesh, with vertex colours, which remain where no render shows the surface.
        gaussians: Gaussians of the same object, in the same world: y up, in the box from -0.5 to 0.5.
        texture_size: Width and height of the texture in pixels.

    Raises:
        InputError: The mesh is empty, or the texture size is not supported.
    """
    check_texture_size(texture_size)
    return baked(simplified(mesh, texture_size**2 // TEXELS_OF_FACE), views_of(gaussians, texture_size), texture_size)


def simplified(mesh: Mesh, max_faces: int) -> Mesh:
    """The mesh with at most `max_faces` triangles; a vertex has the colour of the nearest one of before."""
    if len(mesh.faces) <= max_faces:
        return mesh
    vertices, faces = decimated(mesh.vertices, mesh.faces, max_faces)
    _, nearest = KDTree(mesh.vertices).query(vertices)
    return Mesh(vertices.astype(np.float32), faces, mesh.colors[nearest], up=mesh.up)


@torch.no_grad()
def views_of(gaussians: Gaussians, texture_size: int) -> Iterator[SurfaceView]:
    """Renders of Gaussians from all around, one by one."""
    activated, size = ActivatedGaussians.of(gaussians), min(texture_size, MAX_VIEW_SIZE)
    poses = orbit_camera_to_worlds(*directions_on_sphere(NUM_VIEWS), DISTANCE)
    for pose in with_progress(poses, "Rendering the Gaussians for the texture", NUM_VIEWS):
        rgb, alpha = activated.render(pose[None], FOV, size, background=0.0, antialiased=gaussians.antialiased)
        shown = alpha[0, ..., 0] >= OPAQUE
        yield SurfaceView(
            (rgb[0] / alpha[0].clamp_min(OPAQUE)).clamp(0, 1).numpy(),
            torch.where(shown, DISTANCE, torch.inf).float().numpy(),
            viewmats(pose[None])[0].double().numpy(),
            intrinsics(FOV, size).double().numpy(),
        )
