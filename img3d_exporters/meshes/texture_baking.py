# SPDX-License-Identifier: Apache-2.0
"""A surface's texture from pictures of it: each texel takes the pictures that see it best, and that agree.

Which pictures those are follows Waechter, Moehrle and Goesele (ECCV 2014, "Let There Be Color!"): how many pixels a
picture has for the place, and whether its colour there is near to what the others show, so that what stood in front of
a camera does not end up on the surface. Texels are blended from the best few pictures instead of cut between them, and
where exposure or white balance changed from photo to photo, they are brought together first: by one factor for each
photo and channel, as Brown and Lowe (IJCV 2007) do for panoramas.
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
from img3d_base.errors import InputError
from img3d_exporters.meshes.surface_views import SurfaceView
from img3d_exporters.meshes.uv_atlas import texels_of, unwrapped, with_gutters

MIN_TEXTURE, MAX_TEXTURE = 64, 8192
KEPT = 4
"""Pictures that a texel remembers."""
MIN_FACING = 0.15
"""Cosine of the angle between the normal and the direction to the camera, below which a picture says nothing."""
FEATHER = 0.02
"""Over this part of a picture's longer side its weight falls to nothing: at its border and where depth jumps."""
STEP = 8.0
"""Depth jumps where it changes by more than so many times what a pixel covers: flat surfaces do at 83 degrees."""
PLACES = 256
"""Along the side of the texture, about: how finely pictures are compared. Much finer, and those that lie beside each
other by a pixel would seem to disagree wherever there is detail."""
DISAGREEMENT = 0.1
"""Difference of colours that makes a picture count for little."""
MIN_AGREEMENT = 1e-3
GAIN_PLACES = 4096
"""Places by which pictures' brightness is compared."""
MIN_GAIN_PLACES = 30
"""Of these, that a picture has in common with others; with fewer it is taken as it is."""
GAIN_ROUNDS = 6
MAX_GAIN = 2.5
DARKEST, BRIGHTEST = 12, 243
"""Of 255: beyond, a picture's colour says little of its exposure."""
BLOCK = 8192
"""Places whose pictures are compared at once."""


@dataclass
class _Points:
    """Points of the surface, in the coordinates of rays: about the middle of the mesh."""

    positions: Float32[np.ndarray, "M 3"]
    normals: Float32[np.ndarray, "M 3"]
    spacing: float
    """Between neighbours, in world units."""

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: Int64[np.ndarray, "K"]) -> _Points:
        return _Points(self.positions[chosen], self.normals[chosen], self.spacing)


@dataclass
class _Seen:
    """What a picture shows of some points."""

    points: Int64[np.ndarray, "K"]
    colors: Float32[np.ndarray, "K 3"]
    qualities: Float32[np.ndarray, "K"]
    """In (0, 1]: larger where it shows more detail and is less in doubt."""


def check_texture_size(texture_size: int) -> None:
    """Raises InputError."""
    if not MIN_TEXTURE <= texture_size <= MAX_TEXTURE:
        raise InputError(
            f"A texture of {texture_size} pixels cannot be made: choose from {MIN_TEXTURE} to {MAX_TEXTURE}."
        )


def baked(mesh: Mesh, views: Iterable[SurfaceView], texture_size: int) -> Mesh:
    """The mesh with texture coordinates and a texture; its vertices are doubled along the seams.

    Texels that no picture sees have the colours of the vertices around them.

    Args:
        mesh: Without a texture.
        views: Pictures of it, gone through once. Where a depth is 0 or infinite, the picture does not show the surface;
            otherwise the depth is not used: what hides what is up to the mesh.
        texture_size: Pixels along a side.

    Raises:
        InputError: There is no mesh, or the texture is too small or too large.
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
    """The same camera in a world whose origin is at `origin` of the other."""
    moved = viewmat.astype(np.float64)
    moved[:3, 3] += moved[:3, :3] @ origin
    return moved


def _places(points: _Points, size: float) -> tuple[Int64[np.ndarray, "M"], _Points]:
    """For each point the place that it belongs to, and one point of each place.

    A place is what of the surface is in a cube of that size and faces the same of six directions.
    """
    cells = np.floor((points.positions - points.positions.min(axis=0)) / size).astype(np.int64)
    main = np.abs(points.normals).argmax(axis=1)
    negative = points.normals[np.arange(len(points)), main] < 0
    counts = cells.max(axis=0) + 1
    keys = ((cells[:, 0] * counts[1] + cells[:, 1]) * counts[2] + cells[:, 2]) * 6 + 2 * main + negative
    _, first, place_of = np.unique(keys, return_index=True, return_inverse=True)
    return place_of.reshape(-1), replace(points[first], spacing=size)


class _Cameras:
    """Finds what pictures show of a surface."""

    def __init__(self, vertices: Float32[np.ndarray, "N 3"], faces: Int64[np.ndarray, "F 3"]) -> None:
        import open3d

        self.vertices = vertices
        self.scene = open3d.t.geometry.RaycastingScene()
        self.scene.add_triangles(vertices, faces.astype(np.uint32))

    def seen(self, view: SurfaceView, points: _Points) -> _Seen:
        """Colours of the points that the picture shows, looked up where it has about one pixel for each."""
        rotation, translation = view.viewmat[:3, :3].astype(np.float32), view.viewmat[:3, 3].astype(np.float32)
        towards = -(translation @ rotation) - points.positions
        facing = (towards * points.normals).sum(axis=1) / np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
        candidates = np.flatnonzero(facing > MIN_FACING)
        image = (points.positions[candidates] @ rotation.T + translation) @ view.K.T.astype(np.float32)
        depths = image[:, 2]
        height, width = view.depth.shape
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = image[:, :2] / depths[:, None]
        inside = np.flatnonzero((depths > 0) & ((pixels > 0) & (pixels < [width, height])).all(axis=1))
        if len(inside) == 0:
            return _Seen(inside, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
        candidates, pixels, depths = candidates[inside], pixels[inside], depths[inside]

        focal = float(np.sqrt(view.K[0, 0] * view.K[1, 1]))
        resolutions = focal * points.spacing / depths  # pixels from one point to the next, seen from in front
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
        """The picture with what it can be trusted and the surface's inverse depth, and how much smaller it is."""
        import open3d

        height, width = view.depth.shape
        scale = min(1.0, 1 / resolution)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        K = np.diag([size[0] / width, size[1] / height, 1]) @ view.K
        rays = open3d.t.geometry.RaycastingScene.create_rays_pinhole(
            open3d.core.Tensor(K), open3d.core.Tensor(view.viewmat), *size
        )
        inverse_depth = 1 / self.scene.cast_rays(rays)["t_hit"].numpy()  # along the optical axis; 0 where there is none
        shown = (np.isfinite(view.depth) & (view.depth > 0)).astype(np.float32)
        rgb, shown = (
            each if scale == 1 else cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (view.rgb, shown)
        )
        usable = (shown > 0.99) & (inverse_depth > 0) & ~_jumps(inverse_depth, float(np.sqrt(K[0, 0] * K[1, 1])))
        inner = np.pad(usable, 1).astype(np.uint8)
        distance = cv2.distanceTransform(inner, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        trust = ((distance - 1) / max(FEATHER * max(size), 1)).clip(0, 1)
        return torch.from_numpy(np.stack([*rgb.transpose(2, 0, 1), trust, inverse_depth]).astype(np.float32)), scale


def _jumps(inverse_depth: Float32[np.ndarray, "h w"], focal: float) -> Bool[np.ndarray, "h w"]:
    """Pixels beside which depth is another surface's: across a plane, the inverse changes by the same in each step."""
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
    """0 where there are not so many."""
    colors: UInt8[np.ndarray, "T S 3"] = field(init=False)
    views: Int64[np.ndarray, "T S"] = field(init=False)

    def __post_init__(self) -> None:
        self.qualities = np.zeros((self.num, KEPT), np.float32)
        self.colors = np.zeros((self.num, KEPT, 3), np.uint8)
        self.views = np.zeros((self.num, KEPT), np.uint16)

    def add(self, seen: _Seen, view: int) -> None:
        """Puts a picture in the place of the worst where it is better."""
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
        """The texels' colours, and which are known.

        Args:
            agreement: Of each picture at each place with the others.
            place_of: Of each texel.
            gains: To multiply each picture with.
        """
        # The worst kept picture gets nearly no weight: where another one replaces it, the colour does not jump.
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
    """What V pictures show of P places."""

    colors: UInt8[np.ndarray, "V P 3"]
    weights: Float32[np.ndarray, "V P"]
    """0 where a picture does not show a place."""

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
        """What to multiply each picture's channels with, so that they agree; 1 on (geometric) average."""
        gains = np.ones((len(self.weights), 3))
        common = np.flatnonzero((self.weights > 0).sum(axis=0) > 1)
        if len(common) > GAIN_PLACES:
            common = np.random.default_rng(0).choice(common, GAIN_PLACES, replace=False)
        colors, weights = self.colors[:, common], self.weights[:, common]
        usable = (weights > 0)[..., None] & (colors > DARKEST) & (colors < BRIGHTEST)
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
        """From near 0, where a picture shows another colour than the median of all, to 1."""
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
    """Of each channel, over the pictures."""
    order = values.argsort(axis=0, kind="stable")
    above = np.take_along_axis(np.broadcast_to(weights[..., None], values.shape), order, axis=0).cumsum(axis=0)
    middle = (above >= above[-1:] / 2).argmax(axis=0)
    return np.take_along_axis(np.take_along_axis(values, order, axis=0), middle[None], axis=0)[0].astype(np.float32)
