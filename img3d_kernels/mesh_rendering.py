# SPDX-License-Identifier: Apache-2.0
"""Ray casting of textured or coloured triangle meshes: Embree (through Open3D) intersects, torch shades.

Colours are unlit. Textures are filtered trilinearly from a mipmap (Williams, "Pyramidal Parametrics", 1983), at the
level whose texels are as large as the ray's footprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

MISS = np.uint32(0xFFFFFFFF)
"""Embree's triangle index for a ray that hits nothing."""
MAX_GRAZING = 8.0
"""Largest ratio of length to width assumed for a ray's footprint; larger ones would only blur the texture."""


@dataclass
class MeshHits:
    """The first intersections of N rays with a mesh. For a miss `is_hit` is False, `depth` infinite, the rest 0."""

    is_hit: Bool[Tensor, "N"]
    depth: Float[Tensor, "N"]
    """In multiples of the length of the ray's direction."""
    rgb: Float[Tensor, "N 3"]
    """In [0, 1]."""
    normals: Float[Tensor, "N 3"]
    """Unit normals of the triangles in world coordinates, facing the ray's origin."""


class MeshScene:
    """A mesh prepared for ray casting.

    Args:
        vertices: `[V, 3]`, world coordinates.
        faces: `[F, 3]`, indices into `vertices`.
        colors: `[V, 3]` in [0, 1], interpolated if there is no texture.
        uvs: `[V, 2]`, texture coordinates with (0, 0) at the texture's lower left.
        texture: `[H, W, 3]` in [0, 1], top row first.
    """

    def __init__(
        self,
        vertices: Float[Tensor, "V 3"],
        faces: Int[Tensor, "F 3"],
        colors: Float[Tensor, "V 3"],
        uvs: Float[Tensor, "V 2"] | None = None,
        texture: Float[Tensor, "H W 3"] | None = None,
    ) -> None:
        import open3d as o3d  # takes seconds to import

        assert (uvs is None) == (texture is None)
        self._faces = faces.long()
        self._corner_colors = colors.float()
        self._uvs = uvs
        self._pyramid = [] if texture is None else _pyramid(texture.float())
        edges = vertices[self._faces[:, 1:]] - vertices[self._faces[:, :1]]
        normals = torch.linalg.cross(edges[:, 0], edges[:, 1])
        self._normals = F.normalize(normals, dim=-1).float()
        if uvs is not None and texture is not None:
            sides = (uvs[self._faces[:, 1:]] - uvs[self._faces[:, :1]]) * uvs.new_tensor(texture.shape[1::-1])
            texels = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
            self._texel_density = (texels / normals.norm(dim=-1).clamp(min=1e-20)).sqrt().float()
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            o3d.core.Tensor(np.ascontiguousarray(vertices.cpu().numpy(), np.float32)),
            o3d.core.Tensor(np.ascontiguousarray(faces.cpu().numpy(), np.uint32)),
        )

    def repaint(self, texture: Float[Tensor, "H W 3"]) -> None:
        """Replaces the texture by one of the same size. If it requires gradients, renders are differentiable with
        respect to it.

        Args:
            texture: In [0, 1], top row first.
        """
        self._pyramid = _pyramid(texture.float())

    def cast(
        self,
        origins: Float[Tensor, "N 3"],
        directions: Float[Tensor, "N 3"],
        pixel_width: float | Float[Tensor, "N"] = 0.0,
    ) -> MeshHits:
        """Intersects rays with the mesh.

        Args:
            origins: World coordinates.
            directions: World coordinates, of any length.
            pixel_width: Distance between neighbouring rays at t = 1 (a pixel's width at depth 1 for directions of
                depth 1), which determines the texture's level. 0 samples the texture at full resolution.
        """
        import open3d as o3d

        rays = torch.cat([origins, directions], dim=-1).detach().cpu().numpy().astype(np.float32)
        found = self._scene.cast_rays(o3d.core.Tensor(rays))
        triangles = found["primitive_ids"].numpy()
        device = origins.device
        is_hit = torch.from_numpy(triangles != MISS).to(device)
        index = torch.from_numpy(np.where(triangles == MISS, 0, triangles).astype(np.int64)).to(self._faces.device)
        second = torch.from_numpy(found["primitive_uvs"].numpy()).to(self._faces.device)
        weights = torch.cat([1 - second.sum(dim=-1, keepdim=True), second], dim=-1)
        depth = torch.from_numpy(found["t_hit"].numpy()).to(device)
        normals = self._normals[index].to(directions)
        slopes = (normals * directions).sum(dim=-1, keepdim=True)
        if self._pyramid:
            assert self._uvs is not None
            uvs = (weights[..., None] * self._uvs[self._faces[index]]).sum(dim=1)
            footprint = depth * pixel_width / slopes[:, 0].abs().clamp(min=1 / MAX_GRAZING).sqrt()
            levels = torch.log2((footprint.to(uvs) * self._texel_density[index]).clamp(min=1e-6)).nan_to_num(0.0)
            rgb = _sampled(self._pyramid, uvs, levels)
        else:
            rgb = (weights[..., None] * self._corner_colors[self._faces[index]]).sum(dim=1)
        shown = is_hit[:, None]
        return MeshHits(
            is_hit, depth, rgb.to(device) * shown, torch.where(slopes > 0, -normals, normals).to(device) * shown
        )

    def render(
        self,
        camera_to_world: Float[Tensor, "3 4"],
        K: Float[Tensor, "3 3"],
        width: int,
        height: int,
        samples_per_side: int = 2,
    ) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"], Float[Tensor, "H W 1"], Float[Tensor, "H W 3"]]:
        """Renders a pinhole camera's image, antialiased by several rays per pixel.

        Args:
            camera_to_world: OpenGL axes (x right, y up, z backward).
            K: Intrinsics in pixels.
            width: Image width in pixels.
            height: Image height in pixels.
            samples_per_side: Each pixel averages `samples_per_side`² rays on a regular grid.

        Returns:
            Colours on black (premultiplied), z-depth (mean over the rays that hit; 0 if none does), the share of rays
            that hit, and the normalised mean of the normals.
        """
        s = samples_per_side
        rows, columns = torch.meshgrid(
            (torch.arange(height * s, device=K.device) + 0.5) / s,
            (torch.arange(width * s, device=K.device) + 0.5) / s,
            indexing="ij",
        )
        in_camera = torch.stack(
            [(columns - K[0, 2]) / K[0, 0], -(rows - K[1, 2]) / K[1, 1], -torch.ones_like(rows)], dim=-1
        ).reshape(-1, 3)
        directions = in_camera @ camera_to_world[:, :3].T
        origins = camera_to_world[:, 3].expand_as(directions)
        hits = self.cast(origins, directions, pixel_width=1 / (s * float(K[0, 0])))

        def mean(values: Float[Tensor, "N C"]) -> Float[Tensor, "H W C"]:
            return values.reshape(height, s, width, s, -1).mean(dim=(1, 3))

        accumulation = mean(hits.is_hit[:, None].to(K))
        depth = mean(torch.where(hits.is_hit, hits.depth, 0)[:, None]) / accumulation.clamp(min=1e-6)
        return mean(hits.rgb), depth, accumulation, F.normalize(mean(hits.normals), dim=-1)


def _pyramid(texture: Float[Tensor, "H W 3"]) -> list[Float[Tensor, "1 3 _ _"]]:
    """The mipmap: the texture and copies of half the previous size, until a side has one texel."""
    levels = [texture.permute(2, 0, 1)[None]]
    while min(levels[-1].shape[2:]) > 1:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    return levels


def _sampled(
    pyramid: list[Float[Tensor, "1 3 _ _"]], uvs: Float[Tensor, "N 2"], levels: Float[Tensor, "N"]
) -> Float[Tensor, "N 3"]:
    """Samples the mipmap trilinearly at texture coordinates, which repeat outside [0, 1], and fractional levels."""
    uvs = torch.where((uvs < 0) | (uvs > 1), uvs % 1, uvs)
    grid = torch.stack([uvs[:, 0], 1 - uvs[:, 1]], dim=-1) * 2 - 1
    levels = levels.clamp(0, len(pyramid) - 1)
    lower = levels.floor().long()
    colors = torch.zeros(len(uvs), 3, device=uvs.device)
    for level, picture in enumerate(pyramid):
        weight = torch.where(lower == level, 1 - (levels - level), torch.where(lower == level - 1, levels - lower, 0))
        wanted = weight.nonzero()[:, 0]
        if len(wanted):
            found = F.grid_sample(picture, grid[wanted][None, None].float(), padding_mode="border", align_corners=False)
            colors[wanted] += weight[wanted, None].float() * found[0, :, 0].T
    return colors
