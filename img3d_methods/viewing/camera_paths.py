# SPDX-License-Identifier: Apache-2.0
"""Camera paths for videos: around what the photos' cameras look at, or through these cameras.

The world has z up, as in Nerfstudio; poses are camera-to-world with OpenGL axes (x right, y up, z back). Paths
around an object are closed: the frame after the last one would be the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from img3d_kernels.poses import point_of_attention
from img3d_methods.viewing.path_kinds import PathKind

ROUND = math.radians(120)
"""Cameras surround an object if no gap between their azimuths is wider than this."""
MIN_SWING = math.radians(10)
"""Minimum swing to either side, if all photos are taken from about the same place."""
MAX_ELEVATION = math.radians(80)
"""Maximum elevation of a camera: straight above the object, left and right are undefined."""
WITHIN = 0.9
"""Fraction of the photos' range of angles that a spiral covers: beyond the outermost photos nothing is known."""
MAX_KEYS = 24
"""Maximum number of key poses of a path through cameras. With more cameras, keys are means of neighbours, which
smooths the shaking of a hand-held camera."""
DETOUR = 2.0
"""The photos' own order is kept if it is at most this many times longer than always going to the nearest one."""

Poses = Float[np.ndarray, "F 3 4"]


@dataclass
class Placement:
    """The arrangement of cameras around a point, in spherical coordinates about the vertical."""

    center: Float[np.ndarray, "3"]
    """What the cameras look at; if they look outward, what they surround."""
    inward: bool
    azimuths: Float[np.ndarray, "C"]
    """In radians: directions of the cameras from the centre, or, if they look outward, of their views."""
    elevations: Float[np.ndarray, "C"]
    distance: float
    """The cameras' median distance from the centre."""

    @staticmethod
    def of(cameras: Cameras) -> Placement:
        """The arrangement of C cameras."""
        poses = cameras.camera_to_worlds.cpu().double()
        origins, forward = poses[:, :, 3], -poses[:, :, 2]
        center = point_of_attention(origins, forward)
        spread = float((origins - origins.mean(dim=0)).norm(dim=1).median())
        ahead = float(((center - origins) * forward).sum(dim=1).median())
        if abs(ahead) <= 1e-3 * spread or len(origins) == 1:  # parallel axes do not determine a distance
            mean_forward = torch.nn.functional.normalize(forward.mean(dim=0), dim=0)
            ahead = 2 * spread or 1.0
            center = origins.mean(dim=0) + ahead * mean_forward
        outward = forward
        if ahead > 0:
            outward = torch.nn.functional.normalize(origins - center, dim=1)
        else:
            center = origins.mean(dim=0)
        x, y, z = outward.numpy().T
        return Placement(
            center=center.numpy(),
            inward=ahead > 0,
            azimuths=np.arctan2(y, x),
            elevations=np.arcsin(z.clip(-1, 1)),
            distance=float((origins - center).norm(dim=1).median()),
        )

    def covered(self) -> tuple[float, float]:
        """The smallest arc of azimuths that contains all cameras: its first azimuth and its length, in radians."""
        azimuths = np.sort(self.azimuths)
        gaps = np.append(azimuths[1:], azimuths[0] + 2 * math.pi) - azimuths
        widest = int(gaps.argmax())
        return float(azimuths[(widest + 1) % len(azimuths)]), 2 * math.pi - float(gaps[widest])

    @property
    def all_around(self) -> bool:
        """Whether there are cameras on all sides."""
        return 2 * math.pi - self.covered()[1] <= ROUND

    def poses(self, azimuths: Float[np.ndarray, "F"], elevations: Float[np.ndarray, "F"]) -> Poses:
        """Upright cameras at these angles and the median distance that look at the centre (or away from it)."""
        elevations = elevations.clip(-MAX_ELEVATION, MAX_ELEVATION)
        flat = np.cos(elevations)
        outward = np.stack([flat * np.cos(azimuths), flat * np.sin(azimuths), np.sin(elevations)], axis=1)
        back = outward * (1.0 if self.inward else -1.0)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        origins = self.center + self.distance * outward
        return np.stack([right, np.cross(back, right), back, origins], axis=2)


def turntable(placement: Placement, num_frames: int) -> Poses:
    """One full turn at the cameras' median elevation and distance, starting at the azimuth of the first one."""
    turn = 2 * math.pi * np.arange(num_frames) / num_frames
    elevation = float(np.median(placement.elevations))
    return placement.poses(placement.azimuths[0] + turn, np.full(num_frames, elevation))


def spiral(placement: Placement, num_frames: int) -> Poses:
    """A full turn that rises from the lowest cameras to the highest and comes down again.

    If the cameras are on one side only, the path swings from one end of that side to the other and back.
    """
    phase = 2 * math.pi * np.arange(num_frames) / num_frames
    low, high = np.quantile(placement.elevations, [0.1, 0.9])
    elevations = (low + high) / 2 - WITHIN * (high - low) / 2 * np.cos(phase)
    if placement.all_around:
        return placement.poses(placement.azimuths[0] + phase, elevations)
    first, length = placement.covered()
    swing = max(WITHIN * length / 2, MIN_SWING)
    return placement.poses(first + length / 2 + swing * np.sin(phase), elevations)


def through_cameras(cameras: Cameras, num_frames: int) -> Poses:
    """A smooth path from the first camera to the last one at an even pace, with the cameras' orientations.

    It follows the photos' order if one could have walked that way; otherwise it goes from each camera to the nearest
    remaining one.

    Args:
        cameras: C cameras.
        num_frames: The number of frames; the first is at the first camera, the last at the last.
    """
    poses = cameras.camera_to_worlds.cpu().double().numpy()
    poses = poses[walking_order(poses[:, :, 3])]
    neighbours = np.array_split(poses, min(len(poses), MAX_KEYS))
    origins = np.stack([each[:, :, 3].mean(axis=0) for each in neighbours])
    rotations = Rotation.concatenate([Rotation.from_matrix(each[:, :, :3]).mean() for each in neighbours])
    if len(origins) == 1:
        return np.repeat(poses, num_frames, axis=0)
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    turns = (rotations[:-1].inv() * rotations[1:]).magnitude()
    # Turning on the spot takes time too; the last term keeps times distinct for identical cameras.
    scale = float(np.linalg.norm(origins - origins.mean(axis=0), axis=1).max()) or 1.0
    times = np.concatenate([[0.0], np.cumsum(np.hypot(steps / scale, turns) + 1e-6)])
    frames = np.linspace(0, times[-1], num_frames)
    turned, moved = RotationSpline(times, rotations)(frames), CubicSpline(times, origins)(frames)
    return np.concatenate([turned.as_matrix(), moved[:, :, None]], axis=2)


def walking_order(origins: Float[np.ndarray, "C 3"]) -> Int[np.ndarray, "C"]:
    """Indices of the cameras in an order in which one could walk past them: the given one, unless it jumps to and
    fro."""
    given, nearest, left = np.arange(len(origins)), [0], list(range(1, len(origins)))
    while left:
        distances = np.linalg.norm(origins[left] - origins[nearest[-1]], axis=1)
        nearest.append(left.pop(int(distances.argmin())))

    def length(order: Int[np.ndarray, "C"]) -> float:
        return float(np.linalg.norm(np.diff(origins[order], axis=0), axis=1).sum())

    return given if length(given) <= DETOUR * length(np.array(nearest)) else np.array(nearest)


def path_cameras(cameras: Cameras, kind: PathKind, num_frames: int, size: tuple[int, int]) -> Cameras:
    """Perspective cameras along a path, shape [num_frames], that show about as much as the photos do.

    Args:
        cameras: The photos' cameras, shape [C].
        kind: The kind of path.
        num_frames: The number of cameras.
        size: Width and height of the pictures.
    """
    placement = Placement.of(cameras)
    if kind == "turntable":
        poses = turntable(placement, num_frames)
    elif kind == "spiral":
        poses = spiral(placement, num_frames)
    else:
        poses = through_cameras(cameras, num_frames)
    width, height = size
    focal = _focal_length(cameras) * math.sqrt(width * height)
    camera_to_worlds = torch.from_numpy(poses).float()
    return Cameras(camera_to_worlds, fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)


def default_path(cameras: Cameras) -> PathKind:
    """A turntable if there are cameras all around, otherwise a spiral, which stays on the photographed side."""
    return "turntable" if Placement.of(cameras).all_around else "spiral"


def picture_size(cameras: Cameras, at_most: int) -> tuple[int, int]:
    """Width and height of pictures with the photos' aspect ratio, whose larger side is at most `at_most`; both even."""
    width, height = (float(sizes.float().median()) for sizes in (cameras.width, cameras.height))
    factor = min(1.0, at_most / max(width, height))
    return even(width * factor), even(height * factor)


def even(length: float) -> int:
    """The nearest even number of pixels, as video in the common 4:2:0 format requires."""
    return max(2, 2 * round(length / 2))


def _focal_length(cameras: Cameras) -> float:
    """The median focal length in units of the square root of the picture's area; for non-perspective cameras that of
    a field of view of 90 degrees."""
    perspective = (cameras.camera_type == CameraType.PERSPECTIVE.value).flatten()
    if not bool(perspective.any()):
        return 0.5
    of_photos = (cameras.fx * cameras.fy / (cameras.width * cameras.height)).flatten()[perspective]
    return float(of_photos.sqrt().median())
