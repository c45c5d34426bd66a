# SPDX-License-Identifier: Apache-2.0
"""Bakes a texture from pictures: each texel blends the pictures that show it best and agree with each other.

The choice of pictures follows Waechter, Moehrle and Goesele (ECCV 2014, "Let There Be Color!"): by how many pixels a
picture has for a place, and by how close its colour is to the others', so that occluders in front of a camera do not
end up on the surface. Texels are blended from the best few pictures instead of cut between them. Changes of exposure
and white balance between photos are compensated first, by a gain per photo and channel, as in panoramas (Brown and
Lowe, IJCV 2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import area_normals, check_mesh, vertex_normals
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_assets.meshing.uv_atlas import texels_of, unwrapped, with_gutters
from img3d_base.errors import InputError
from img3d_kernels.projection import in_picture

MIN_TEXTURE, MAX_TEXTURE = 64, 8192
"""Width and height in texels."""
KEPT = 4
"""Number of pictures kept for each texel."""
MIN_FACING = 0.15
"""Minimum cosine of the angle between the normal and the direction to the camera of a picture that is used."""
FEATHER = 0.02
"""Fraction of a picture's longer side over which its weight falls to zero towards its border and depth
discontinuities."""
STEP = 8.0
"""A depth discontinuity is a change by more than this many times the size of a pixel on the surface; flat surfaces
reach it at 83 degrees."""
MAX_DIFFERENCE = 0.02
"""Maximum relative difference of a mesh from the depth that was measured in a picture that shows it."""
UNMEASURED, CONTRADICTED = 0.1, 1e-3
"""Factors of a picture's weight where its depth is unknown, and where the mesh differs from it."""
PLACES = 256
"""Approximate number of places along the side of the texture at which pictures are compared. If places were much
smaller, pictures with an offset of a pixel would seem to disagree wherever there is detail."""
DISAGREEMENT = 0.1
"""Difference of colours at which a picture's weight becomes small."""
MIN_AGREEMENT = 1e-3
"""Minimum factor of a picture's weight, so that a texel has a colour if all pictures disagree."""
MAX_GAIN_PLACES = 4096
"""Maximum number of places at which the brightness of pictures is compared."""
MIN_GAIN_PLACES = 30
"""Minimum number of places that a picture shares with others; with fewer, it gets no gain."""
GAIN_ROUNDS = 6
"""Number of times that gains are estimated from the pictures with the gains of the round before."""
MAX_GAIN = 2.5
"""Maximum gain of a channel; the minimum is its reciprocal."""
MIN_EXPOSED, MAX_EXPOSED = 12, 243
"""Range of values, out of 255, that are neither under- nor overexposed and determine gains."""
BLOCK = 8192
"""Number of places processed at once."""


@dataclass
class _Points:
    """Points on the surface, relative to the centre of the mesh."""

    positions: Float32[np.ndarray, "M 3"]
    normals: Float32[np.ndarray, "M 3"]
    spacing: float
    """Distance between neighbours, in world units."""

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: Int64[np.ndarray, "K"]) -> _Points:
        return _Points(self.positions[chosen], self.normals[chosen], self.spacing)


@dataclass
class _Seen:
    """The points that a picture shows, with their colours."""

    points: Int64[np.ndarray, "K"]
    colors: Float32[np.ndarray, "K 3"]
    qualities: Float32[np.ndarray, "K"]
    """In (0, 1]: higher for more detail and more certainty."""


def check_texture_size(texture_size: int) -> None:
    """Raises InputError if the size is not supported."""
    if not MIN_TEXTURE <= texture_size <= MAX_TEXTURE:
        raise InputError(
            f"A texture of {texture_size} pixels cannot be made: choose from {MIN_TEXTURE} to {MAX_TEXTURE}."
        )


def baked(mesh: Mesh, views: Iterable[SurfaceView], texture_size: int) -> Mesh:
    """The mesh with texture coordinates and a texture; vertices are duplicated along seams.

    Texels that no picture shows get the interpolated vertex colours.

    Args:
        mesh: A mesh without a texture.
        views: Pictures of it, iterated once. Where depth is 0 or infinite, a picture does not show the surface;
            otherwise its depth is ignored: occlusion is computed from the mesh. Measured depth lowers the weight of
            a picture where the mesh lies elsewhere, so that it does not paint what stands before or behind the mesh.
        texture_size: Width and height in pixels.

    Raises:
        InputError: The mesh is empty, or the texture size is not supported.
    """
    check_texture_size(texture_size)
    check_mesh(mesh)
    mesh = unwrapped(mesh, texture_size)
    texels = texels_of(mesh, texture_size)
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    centered = (mesh.vertices - middle).astype(np.float32)
    normals = texels.interpolated(vertex_normals(mesh), mesh)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    area = float(np.linalg.norm(area_normals(mesh), axis=1).sum())
    points = _Points(texels.interpolated(centered, mesh), normals, float(np.sqrt(area / max(len(texels), 1))))

    place_of, places = _places(points, points.spacing * max(texture_size / PLACES, 1))
    camera = _Cameras(centered, mesh.faces)
    best = _Best(len(texels))
    shown: list[_Seen] = []
    for view in views:
        view = replace(view, viewmat=_moved(view.viewmat, middle))
        best.add(camera.seen(view, points), len(shown))
        shown.append(camera.seen(view, places))
    comparison = _Comparison.of(shown, len(places))
    gains = comparison.gains()
    colors, filled = best.blended(comparison.agreement(gains), place_of, gains)
    unseen = np.flatnonzero(~filled)
    colors[unseen] = texels[unseen].interpolated(mesh.colors, mesh)

    texture = np.zeros((texture_size * texture_size, 3), np.uint8)
    texture[texels.pixels] = np.round(colors.clip(0, 1) * 255)
    return replace(mesh, texture=with_gutters(texture.reshape(texture_size, texture_size, 3), texels.pixels))


def _moved(viewmat: Float[np.ndarray, "4 4"], origin: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The same camera in a world whose origin is at `origin` of the old one."""
    moved = viewmat.astype(np.float64)
    moved[:3, 3] += moved[:3, :3] @ origin
    return moved


def _places(points: _Points, size: float) -> tuple[Int64[np.ndarray, "M"], _Points]:
    """Groups points into places: returns the place of each point, and one point of each place.

    A place is the part of the surface in a cube of side `size` that faces the same of six directions.
    """
    cells = np.floor((points.positions - points.positions.min(axis=0)) / size).astype(np.int64)
    main = np.abs(points.normals).argmax(axis=1)
    negative = points.normals[np.arange(len(points)), main] < 0
    counts = cells.max(axis=0) + 1
    keys = ((cells[:, 0] * counts[1] + cells[:, 1]) * counts[2] + cells[:, 2]) * 6 + 2 * main + negative
    _, first, place_of = np.unique(keys, return_index=True, return_inverse=True)
    return place_of.reshape(-1), replace(points[first], spacing=size)


class _Cameras:
    """Finds which points of a surface pictures show."""

    def __init__(self, vertices: Float32[np.ndarray, "N 3"], faces: Int64[np.ndarray, "F 3"]) -> None:
        import open3d

        self.vertices = vertices
        self.scene = open3d.t.geometry.RaycastingScene()
        self.scene.add_triangles(vertices, faces.astype(np.uint32))

    def seen(self, view: SurfaceView, points: _Points) -> _Seen:
        """The colours of the points that a picture shows, sampled at about one pixel per point."""
        rotation, translation = view.viewmat[:3, :3].astype(np.float32), view.viewmat[:3, 3].astype(np.float32)
        towards = -(translation @ rotation) - points.positions
        facing = (towards * points.normals).sum(axis=1) / np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
        candidates = np.flatnonzero(facing > MIN_FACING)
        height, width = view.depth.shape
        inside, pixels, in_camera = (
            each.numpy()
            for each in in_picture(
                torch.from_numpy(points.positions[candidates]),
                torch.from_numpy(view.K),
                torch.from_numpy(view.viewmat),
                width,
                height,
            )
        )
        if not inside.any():
            return _Seen(np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
        candidates, pixels, depths = candidates[inside], pixels[inside], in_camera[inside, 2]

        focal = float(np.sqrt(view.K[0, 0] * view.K[1, 1]))
        resolutions = focal * points.spacing / depths  # pixels between neighbouring points, seen frontally
        picture, scale = self._planes(view, float(np.percentile(resolutions, 75)))
        grid = torch.from_numpy(pixels / [width, height] * 2 - 1).float()
        sampled = torch.nn.functional.grid_sample(
            picture[None], grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0].numpy()
        colors, trust, inverse_depths = sampled[:3].T, sampled[3], sampled[4]
        hidden = depths * inverse_depths > 1 + STEP / (focal * scale)
        qualities = facing[candidates] * np.minimum(resolutions, 1) ** 2 * trust
        shown = np.flatnonzero(~hidden & (qualities > 0))
        return _Seen(candidates[shown], np.ascontiguousarray(colors[shown]), qualities[shown])

    def _planes(self, view: SurfaceView, resolution: float) -> tuple[Float32[torch.Tensor, "5 h w"], float]:
        """The picture, its trust and the surface's inverse depth as 5 planes, and their scale."""
        import open3d

        height, width = view.depth.shape
        scale = min(1.0, 1 / resolution)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        K = np.diag([size[0] / width, size[1] / height, 1]) @ view.K
        rays = open3d.t.geometry.RaycastingScene.create_rays_pinhole(
            open3d.core.Tensor(K), open3d.core.Tensor(view.viewmat), *size
        )
        inverse_depth = 1 / self.scene.cast_rays(rays)["t_hit"].numpy()  # along the optical axis; 0 for misses
        shown = (np.isfinite(view.depth) & (view.depth > 0)).astype(np.float32)
        rgb, shown = (
            each if scale == 1 else cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (view.rgb, shown)
        )
        usable = (shown > 0.99) & (inverse_depth > 0) & ~_jumps(inverse_depth, float(np.sqrt(K[0, 0] * K[1, 1])))
        inner = np.pad(usable, 1).astype(np.uint8)
        distance = cv2.distanceTransform(inner, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        trust = ((distance - 1) / max(FEATHER * max(size), 1)).clip(0, 1)
        if view.measured is not None:
            trust *= _confirmation(cv2.resize(view.measured, size, interpolation=cv2.INTER_NEAREST) * inverse_depth)
        return torch.from_numpy(np.stack([*rgb.transpose(2, 0, 1), trust, inverse_depth]).astype(np.float32)), scale


def _confirmation(ratio: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Factors of a picture's weight from the ratio of measured depth to the mesh's; they fall smoothly."""
    confirmed = np.abs(ratio - 1) <= MAX_DIFFERENCE
    factor = np.where(ratio == 0, UNMEASURED, np.where(confirmed, 1.0, CONTRADICTED)).astype(np.float32)
    factor = cv2.erode(factor, np.ones((3, 3), np.uint8))  # colours of both sides mix in pixels along edges
    side = 2 * round(FEATHER * max(ratio.shape) / 4) + 1
    return np.minimum(factor, cv2.blur(factor, (side, side))).astype(np.float32)


def _jumps(inverse_depth: Float32[np.ndarray, "h w"], focal: float) -> Bool[np.ndarray, "h w"]:
    """Pixels at depth discontinuities. Across a plane, inverse depth is linear in pixels."""
    jumps = np.zeros(inverse_depth.shape, bool)
    for values, found in ((inverse_depth, jumps), (inverse_depth.T, jumps.T)):
        bend = np.abs(values[2:] + values[:-2] - 2 * values[1:-1])
        nearest = np.maximum(np.maximum(values[2:], values[:-2]), values[1:-1])
        found[1:-1] |= bend > STEP / focal * nearest
    return jumps


@dataclass
class _Best:
    """The pictures that show each texel best."""

    num: int
    qualities: Float32[np.ndarray, "T S"] = field(init=False)
    """0 in unused slots."""
    colors: UInt8[np.ndarray, "T S 3"] = field(init=False)
    views: Int64[np.ndarray, "T S"] = field(init=False)

    def __post_init__(self) -> None:
        self.qualities = np.zeros((self.num, KEPT), np.float32)
        self.colors = np.zeros((self.num, KEPT, 3), np.uint8)
        self.views = np.zeros((self.num, KEPT), np.uint16)

    def add(self, seen: _Seen, view: int) -> None:
        """Replaces the worst picture of each texel where this one is better."""
        worst = self.qualities[seen.points].argmin(axis=1)
        better = np.flatnonzero(seen.qualities > self.qualities[seen.points, worst])
        where = (seen.points[better], worst[better])
        self.qualities[where] = seen.qualities[better]
        self.colors[where] = np.round(seen.colors[better].clip(0, 1) * 255)
        self.views[where] = view

    def blended(
        self,
        agreement: Float32[np.ndarray, "P V"],
        place_of: Int64[np.ndarray, "T"],
        gains: Float32[np.ndarray, "V 3"],
    ) -> tuple[Float32[np.ndarray, "T 3"], Bool[np.ndarray, "T"]]:
        """The texels' colours, and which of them are known.

        Args:
            agreement: The agreement of each picture with the others at each place.
            place_of: The place of each texel.
            gains: The gain of each picture and channel.
        """
        # The worst kept picture gets almost no weight, so that colours do not jump where another one replaces it.
        weights = self.qualities - 0.99 * self.qualities.min(axis=1, keepdims=True)
        weights *= agreement[place_of[:, None], self.views]
        total = weights.sum(axis=1)
        known = total > 0
        colors = np.zeros((self.num, 3), np.float32)
        for weight, color, view in zip(weights.T, self.colors.swapaxes(0, 1), self.views.T, strict=True):
            colors += weight[:, None] * color * gains[view]
        return colors / np.where(known, total, 1)[:, None] / 255, known


@dataclass
class _Comparison:
    """The colours of V pictures at P places."""

    colors: UInt8[np.ndarray, "V P 3"]
    weights: Float32[np.ndarray, "V P"]
    """0 if a picture does not show a place."""

    @staticmethod
    def of(shown: list[_Seen], num_places: int) -> _Comparison:
        num_views = max(len(shown), 1)
        colors = np.zeros((num_views, num_places, 3), np.uint8)
        weights = np.zeros((num_views, num_places), np.float32)
        for i, seen in enumerate(shown):
            colors[i, seen.points] = np.round(seen.colors.clip(0, 1) * 255)
            weights[i, seen.points] = seen.qualities
        return _Comparison(colors, weights)

    def gains(self) -> Float32[np.ndarray, "V 3"]:
        """Gains of each picture's channels that make pictures agree; their geometric mean is 1."""
        gains = np.ones((len(self.weights), 3))
        common = np.flatnonzero((self.weights > 0).sum(axis=0) > 1)
        if len(common) > MAX_GAIN_PLACES:
            common = np.random.default_rng(0).choice(common, MAX_GAIN_PLACES, replace=False)
        colors, weights = self.colors[:, common], self.weights[:, common]
        usable = (weights > 0)[..., None] & (colors > MIN_EXPOSED) & (colors < MAX_EXPOSED)
        for _ in range(GAIN_ROUNDS):
            median = _weighted_median(_multiplied(colors, gains), weights)
            ratios = np.log(np.maximum(median, 1) / np.maximum(colors, 1))
            for picture, ratio, use in zip(gains, ratios, usable, strict=True):
                for channel in range(3):
                    if use[:, channel].sum() >= MIN_GAIN_PLACES:
                        picture[channel] = np.exp(np.median(ratio[use[:, channel], channel]))
            gains /= np.exp(np.log(gains).mean(axis=0))
            gains = gains.clip(1 / MAX_GAIN, MAX_GAIN)
        return gains.astype(np.float32)

    def agreement(self, gains: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "P V"]:
        """The agreement of each picture with the weighted median, from near 0 to 1."""
        num_views, num_places = self.weights.shape
        agreement = np.ones((num_places, num_views), np.float32)
        for start in range(0, num_places, BLOCK):
            block = slice(start, start + BLOCK)
            colors = _multiplied(self.colors[:, block], gains)
            difference = np.abs(colors - _weighted_median(colors, self.weights[:, block])).max(axis=2).T / 255
            agreement[block] = np.maximum(np.exp(-((difference / DISAGREEMENT) ** 2)), MIN_AGREEMENT)
        return agreement


def _multiplied(colors: UInt8[np.ndarray, "V P 3"], gains: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "V P 3"]:
    return np.round(np.minimum(colors * gains[:, None].astype(np.float32), 255)).astype(np.uint8)


def _weighted_median(
    values: UInt8[np.ndarray, "V P 3"], weights: Float32[np.ndarray, "V P"]
) -> Float32[np.ndarray, "P 3"]:
    """The weighted median over the pictures, for each channel."""
    order = values.argsort(axis=0, kind="stable")
    above = np.take_along_axis(np.broadcast_to(weights[..., None], values.shape), order, axis=0).cumsum(axis=0)
    middle = (above >= above[-1:] / 2).argmax(axis=0)
    return np.take_along_axis(np.take_along_axis(values, order, axis=0), middle[None], axis=0)[0].astype(np.float32)
