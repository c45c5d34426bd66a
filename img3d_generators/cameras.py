# SPDX-License-Identifier: Apache-2.0
"""Cameras of the generators: on orbits around the origin, with y up, +z at azimuth 0, and OpenGL axes (looking along
-z).

Positive elevations are above the object (in LGM's own code, kiui's have the opposite sign). Pictures are square,
with the principal point at the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.poses import focal_length, world_to_cameras

LGM_FOV = 49.1
"""Field of view that LGM was trained with, in degrees."""
LGM_RADIUS = 1.5
"""Distance of LGM's cameras from the origin."""
GOLDEN_ANGLE = 180 * (3 - math.sqrt(5))
"""Azimuth in degrees between neighbours on a Fibonacci lattice."""
TO_FRONT_ON_Z = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
"""From the axes of networks whose world has z up (x towards the viewer of the input image, y right, z up) to ours (x
right, y up, z towards the viewer)."""


@dataclass(frozen=True)
class Rig:
    """Cameras at one distance that look at the origin, the same for every object."""

    azimuths: tuple[float, ...]
    """In degrees; 0 looks at the object's +z side, 90 (the camera moved to its right) at its +x side."""
    elevations: tuple[float, ...]
    """In degrees; positive is above the object."""
    fov: float
    """Field of view in degrees, from edge to edge of a picture."""
    radius: float
    """Distance from the origin."""

    def camera_to_worlds(self) -> Float[Tensor, "V 3 4"]:
        """The cameras' poses."""
        return orbit_camera_to_worlds(self.azimuths, self.elevations, self.radius)


ZERO123PLUS_RIGS = {
    "v1.1": Rig(
        azimuths=(30, 90, 150, 210, 270, 330),
        elevations=(30, -20, 30, -20, 30, -20),
        fov=2 * math.degrees(math.atan(16 / 35)),  # according to the authors, a 35 mm lens on a 32 mm sensor
        radius=LGM_RADIUS,  # the distance follows the input's framing; this is LGM's
    ),
    "v1.2": Rig(
        azimuths=(30, 90, 150, 210, 270, 330),
        elevations=(20, -10, 20, -10, 20, -10),
        fov=30,
        radius=0.5 / math.tan(math.radians(15)),  # the object's bounding sphere has radius 0.5
    ),
}
"""The six views of Zero123++, in the order of its tiles. Azimuths are relative to the input view; elevations are
absolute.

InstantMesh's white-background network has the same cameras as v1.2.
"""


def orbit_camera_to_worlds(
    azimuths: Sequence[float] | Float[Tensor, "V"],
    elevations: Sequence[float] | Float[Tensor, "V"],
    radius: float,
) -> Float[Tensor, "V 3 4"]:
    """Poses of cameras that look at the origin, with y up.

    Args:
        azimuths: In degrees; 0 is on +z, 90 on +x.
        elevations: In degrees, positive above; ±90 is not allowed.
        radius: Distance from the origin.

    Returns:
        Camera-to-world poses, OpenGL axes, float32.
    """
    azimuth = torch.as_tensor(azimuths, dtype=torch.float64).deg2rad()
    elevation = torch.as_tensor(elevations, dtype=torch.float64).deg2rad()
    back = torch.stack(
        [elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()], dim=-1
    )  # unit already
    right = torch.stack([azimuth.cos(), torch.zeros_like(azimuth), -azimuth.sin()], dim=-1)  # up x back, normalised
    return torch.stack([right, torch.linalg.cross(back, right), back, radius * back], dim=-1).float()


def directions_on_sphere(count: int) -> tuple[list[float], list[float]]:
    """Azimuths and elevations, in degrees, that are distributed evenly over the sphere: a Fibonacci lattice."""
    steps = range(count)
    elevations = [math.degrees(math.asin(1 - (2 * step + 1) / count)) for step in steps]
    return [step * GOLDEN_ANGLE for step in steps], elevations


def normalised_to_first(
    camera_to_worlds: Float[Tensor, "V 3 4"],
) -> tuple[Float[Tensor, "V 3 4"], Float[Tensor, "4 4"]]:
    """The same cameras in the world in which the first is at [I | (0, 0, r)], as in LGM's training.

    r is the first camera's distance from the origin.

    Returns:
        The poses, and the rigid transform from the old world to the new one.
    """
    poses = camera_to_worlds.double()
    transform = world_to_cameras(poses[:1])[0]
    transform[2, 3] += poses[0, :, 3].norm()
    normalised = transform[:3, :3] @ poses
    normalised[:, :, 3] += transform[:3, 3]
    return normalised.float(), transform.float()


def plucker_rays(camera_to_worlds: Float[Tensor, "V 3 4"], fov: float, size: int) -> Float[Tensor, "V 6 S S"]:
    """Plücker coordinates (origin x direction, direction) of the ray through the centre of each pixel, as LGM takes
    them.

    Args:
        camera_to_worlds: OpenGL axes.
        fov: Field of view in degrees.
        size: Height and width of the pictures in pixels; row 0 is at the top.
    """
    steps = (torch.arange(size, dtype=torch.float32) - size / 2 + 0.5) / focal_length(fov, size)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    in_camera = torch.stack([x, y, -torch.ones_like(x)], dim=-1).to(camera_to_worlds)
    directions = torch.einsum("vij,hwj->vhwi", camera_to_worlds[:, :, :3], in_camera)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    origins = camera_to_worlds[:, None, None, :, 3].expand_as(directions)
    return torch.cat([torch.linalg.cross(origins, directions), directions], dim=-1).permute(0, 3, 1, 2)
