# SPDX-License-Identifier: Apache-2.0
"""Places objects from mesh files before the generator's camera, as its input pictures are framed, and renders them.

The generator's camera is at (0, 0, 1.5) in the world, looks at the origin, and has y up. An object's own frame has y
up and its bounding box's middle at the origin; its furthest vertex is at distance 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from img3d_assets.color_values import linear_of_srgb
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.gltf_reading import read
from img3d_base.errors import InputError
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import focal_length, intrinsics

BORDER_RATIO = 0.1
"""Share of the picture's width that stays free beside the object."""
MAX_RADIUS = 0.75
"""Maximum distance of a point of a placed object from its middle. An object that would have to be larger to fill the
picture is so foreshortened that its length cannot be seen."""
PLACING_STEPS = 8


@dataclass(frozen=True)
class Light:
    """A soft light that is fixed to the object: half-Lambert shading."""

    direction: tuple[float, float, float] = (0.35, 0.85, 0.4)
    """Towards the light, in the object's frame."""
    strength: float = 0.45
    """Darkening of surfaces that face away from the light: 0 is none, 1 is black."""

    def shade(self, normals: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 1"]:
        """Factors of the colours of surfaces with these unit normals."""
        direction = normalize(torch.tensor(self.direction), dim=0).to(normals)
        return 1 - self.strength * (0.5 - 0.5 * (normals @ direction))[..., None]


@dataclass
class ObjectPicture:
    """Views of an object, unlit."""

    premultiplied: Float[Tensor, "V S S 3"]
    """Colours on black."""
    alpha: Float[Tensor, "V S S 1"]
    normals: Float[Tensor, "V S S 3"]
    """Unit normals in the object's frame, 0 where there is nothing."""
    depths: Float[Tensor, "V S S 1"] | None = None
    """Distance from the camera along its axis, in the world, if known."""

    def lit(self, light: Light) -> Float[Tensor, "V 4 S S"]:
        """Colours in the light on white, and alpha."""
        rgb = self.premultiplied * light.shade(self.normals) + 1 - self.alpha
        return torch.cat([rgb, self.alpha], dim=-1).permute(0, 3, 1, 2).clamp(0, 1)


@dataclass(frozen=True)
class ObjectMesh:
    """A mesh in the object's frame."""

    mesh: Mesh

    @staticmethod
    def framed(mesh: Mesh) -> ObjectMesh:
        """Brings a mesh that has y up and an extent into the object's frame."""
        vertices = mesh.vertices - (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
        return ObjectMesh(replace(mesh, vertices=vertices / np.linalg.norm(vertices, axis=1).max()))

    @cached_property
    def scene(self) -> MeshScene:
        """The mesh prepared for ray casting."""
        mesh = self.mesh
        return MeshScene(
            torch.from_numpy(mesh.vertices).float(),
            torch.from_numpy(mesh.faces),
            torch.from_numpy(mesh.colors),
            None if mesh.uvs is None else torch.from_numpy(mesh.uvs),
            None if mesh.texture is None else torch.from_numpy(mesh.texture).float() / 255,
        )

    def placed(self, azimuth: float, elevation: float) -> Float[Tensor, "3 4"] | None:
        """The similarity that takes the object into the world, so that its picture is framed as a generator's input.

        The picture's bounding box is centred and fills the square but for the border; the object's middle is at z = 0.

        Args:
            azimuth: The object's side that faces the camera, in degrees: 0 is +z, 90 is +x.
            elevation: Elevation of the camera above the object, in degrees.

        Returns:
            Scaled rotation and translation, or None if the object is too foreshortened from there.
        """
        rotation = orbit_camera_to_worlds([azimuth], [elevation], 1.0)[0, :, :3].T
        turned = torch.from_numpy(self.mesh.vertices).float() @ rotation.T
        wanted = (1 - BORDER_RATIO) / focal_length(LGM_FOV, 1)  # extent of the picture at distance 1
        scale, shift = 0.5, torch.zeros(3)
        for _ in range(PLACING_STEPS):
            points = scale * turned + shift
            seen = points[:, :2] / (LGM_RADIUS - points[:, 2:])
            low, high = seen.amin(dim=0), seen.amax(dim=0)
            shift[:2] -= LGM_RADIUS * (low + high) / 2
            scale = min(MAX_RADIUS, scale * wanted / float((high - low).max()))
        if scale == MAX_RADIUS:
            return None
        return torch.cat([scale * rotation, shift[:, None]], dim=1)

    def pictures(
        self,
        object_to_world: Float[Tensor, "3 4"],
        camera_to_worlds: Float[Tensor, "V 3 4"],
        size: int,
        samples_per_side: int = 2,
    ) -> ObjectPicture:
        """Renders square pictures of the placed object with the generator's field of view."""
        scale = float(object_to_world[:, 0].norm())
        to_object = object_to_world[:, :3].T / scale
        K = intrinsics(LGM_FOV, size)
        views = []
        for pose in camera_to_worlds:
            centre = to_object @ (pose[:, 3] - object_to_world[:, 3]) / scale
            in_object = torch.cat([to_object @ pose[:, :3], centre[:, None]], dim=1)
            rgb, depth, alpha, normals = self.scene.render(in_object, K, size, size, samples_per_side)
            views.append((rgb, alpha, normals, scale * depth))
        return ObjectPicture(*(torch.stack(each) for each in zip(*views, strict=True)))


def around(
    object_to_world: Float[Tensor, "3 4"], azimuths: list[float], elevations: list[float], radius: float
) -> Float[Tensor, "V 3 4"]:
    """Poses in the world of cameras on an upright orbit around the object's middle.

    Args:
        object_to_world: The object's placement.
        azimuths: In degrees in the object's frame: 0 looks at its +z side.
        elevations: In degrees above the object.
        radius: Distance from the object's middle.
    """
    scale = object_to_world[:, 0].norm()
    poses = object_to_world[:, :3] / scale @ orbit_camera_to_worlds(azimuths, elevations, radius)
    poses[:, :, 3] += object_to_world[:, 3]
    return poses


def input_camera() -> Float[Tensor, "1 3 4"]:
    """The pose of the generator's camera."""
    return orbit_camera_to_worlds([0], [0], LGM_RADIUS)


def read_object(path: Path) -> ObjectMesh:
    """Reads a .glb file, and brings it into the object's frame.

    Vertex colours are taken as sRGB, as game assets have them, although glTF says that they are linear.

    Raises:
        InputError: It is not a glTF file, damaged, or has no extent.
    """
    mesh = read(path)
    if not np.ptp(mesh.vertices, axis=0).any():
        raise InputError(f"{path} has no extent: all its vertices are in one place")
    return ObjectMesh.framed(replace(mesh, colors=linear_of_srgb(mesh.colors)))
