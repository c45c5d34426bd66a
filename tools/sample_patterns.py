# SPDX-License-Identifier: Apache-2.0
"""Shapes and printed surfaces for the bundled sample: lathes, boxes, noise, wood, cloth, wallpaper, lettering.

Lengths are metres. Textures are sRGB float arrays whose row 0 is the top of the picture; meshes carry texture
coordinates with (0, 0) at that top left corner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont


@dataclass
class MeshData:
    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    smooth: bool = True

    def moved(self, x: float, y: float, z: float, turn_degrees: float = 0.0, tilt_degrees: float = 0.0) -> "MeshData":
        """Tilts about x, turns about z, then translates."""
        turn, tilt = np.radians(turn_degrees), np.radians(tilt_degrees)
        about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        vertices = self.vertices @ (about_z @ about_x).T + np.array([x, y, z])
        return MeshData(vertices, self.faces, self.uvs, self.smooth)


def merged(meshes: Sequence[MeshData]) -> MeshData:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return MeshData(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.uvs for mesh in meshes]),
        meshes[0].smooth,
    )


def grid_mesh(points: np.ndarray) -> MeshData:
    """A sheet from points[i, j]: u runs along i, and v runs down from the last j to the first."""
    columns, rows = points.shape[:2]
    index = np.arange(columns * rows).reshape(columns, rows)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(1, 0, rows), indexing="ij")
    return MeshData(points.reshape(-1, 3), faces, np.stack([u, v], -1).reshape(-1, 2))


def box(
    size: Sequence[float], center: Sequence[float] = (0, 0, 0), columns: tuple[float, float] = (0, 1), rim: bool = False
) -> MeshData:
    """A box whose faces each show the texture's given columns; with `rim`, its sides show only the picture's border."""
    parts = []
    for axis in range(3):
        for sign in (-1, 1):
            right, up = {0: ((0, sign, 0), (0, 0, 1)), 1: ((-sign, 0, 0), (0, 0, 1)), 2: ((1, 0, 0), (0, sign, 0))}[
                axis
            ]
            outward = np.eye(3)[axis] * sign
            corners = [
                outward + s * np.array(right) + t * np.array(up) for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
            top, bottom = (0.0, 0.01) if rim and axis != 2 else (0.0, 1.0)
            uvs = np.array([[columns[0], bottom], [columns[1], bottom], [columns[1], top], [columns[0], top]])
            vertices = np.array(corners) * np.array(size) / 2 + np.array(center)
            parts.append(MeshData(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uvs, smooth=False))
    return merged(parts)


def smooth_profile(points: Sequence[tuple[float, float]], count: int, scale: float = 0.01) -> np.ndarray:
    """A Catmull-Rom curve through (radius, height) points, resampled evenly along its length."""
    controls = np.array(points, dtype=np.float64) * scale
    padded = np.concatenate([[2 * controls[0] - controls[1]], controls, [2 * controls[-1] - controls[-2]]])
    t = np.linspace(0, 1, 40, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        cubic = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
        pieces.append(0.5 * (2 * p1 + (p2 - p0) * t + cubic[0] * t**2 + cubic[1] * t**3))
    curve = np.concatenate([*pieces, controls[-1:]])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.linspace(0, length[-1], count)
    return np.maximum(np.stack([np.interp(even, length, curve[:, k]) for k in (0, 1)], -1), [0.0, -np.inf])


def lathe_points(profile: np.ndarray, columns: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, columns)[:, None]
    radius, height = profile[None, :, 0], profile[None, :, 1]
    return np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(height, (columns, len(profile)))], -1
    )


def texel_points(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The 3D point behind each texel of a grid mesh's (height, width) texture, so that solid patterns have no seam."""
    columns = np.rint(np.linspace(0, points.shape[0] - 1, size[1])).astype(int)
    rows = np.rint(np.linspace(points.shape[1] - 1, 0, size[0])).astype(int)
    return points[columns[None, :], rows[:, None]]


# --- Patterns -------------------------------------------------------------------------------------------------------


def noise(points: np.ndarray, seed: int) -> np.ndarray:
    """Smooth value noise in [0, 1] with features of size one."""
    table = np.random.default_rng(seed).random(8192, dtype=np.float32)
    points = points.astype(np.float32)
    cell = np.floor(points)
    f = points - cell
    f *= f * (3 - 2 * f)
    primes = np.array([73856093, 19349663, 83492791], dtype=np.uint32)
    near = cell.astype(np.int32).view(np.uint32) * primes
    keys = [np.moveaxis(hashed, -1, 0) for hashed in (near, near + primes)]
    along_x, along_y, along_z = np.moveaxis(f, -1, 0)

    def at(i: int, j: int, k: int) -> np.ndarray:
        return table[(keys[i][0] ^ keys[j][1] ^ keys[k][2]) & 8191]

    def row(j: int, k: int) -> np.ndarray:
        start = at(0, j, k)
        return start + along_x * (at(1, j, k) - start)

    def sheet(k: int) -> np.ndarray:
        start = row(0, k)
        return start + along_y * (row(1, k) - start)

    start = sheet(0)
    return start + along_z * (sheet(1) - start)


def fbm(points: np.ndarray, seed: int, octaves: int = 4) -> np.ndarray:
    """Noise summed over octaves, in [0, 1] with mean one half."""
    gains = 0.55 ** np.arange(octaves)
    layers = [gain * noise(points * 2.03**k + 17.3 * k, seed + k) for k, gain in enumerate(gains)]
    return np.sum(layers, axis=0) / gains.sum()


def blend(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray, amount: np.ndarray) -> np.ndarray:
    weight = np.clip(amount, 0, 1)[..., None]
    return np.asarray(low) * (1 - weight) + np.asarray(high) * weight


def step(value: np.ndarray, start: float, end: float) -> np.ndarray:
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def plane_points(width: float, height: float, texels: tuple[int, int]) -> np.ndarray:
    """Texel positions (rows, columns, 3) of a flat picture, y up, centred on the origin."""
    y, x = np.meshgrid(
        np.linspace(0.5, -0.5, texels[0]) * height, np.linspace(-0.5, 0.5, texels[1]) * width, indexing="ij"
    )
    return np.stack([x, y, np.zeros_like(x)], -1)


def wood(p: np.ndarray, light: Sequence[float], dark: Sequence[float], seed: int) -> np.ndarray:
    """Wood whose trunk runs along x: growth rings from the distance to it, pores and fibres along it."""
    bend = fbm(p * [2.0, 9.0, 9.0], seed, 3) - 0.5
    radius = np.hypot(p[..., 1] + 0.06 + 0.07 * bend, p[..., 2] + 0.11 + 0.05 * bend)
    ring = radius / 0.011 % 1.0
    rings = step(ring, 0.0, 0.75) * (1 - step(ring, 0.85, 1.0))
    fibre = fbm(p * [18.0, 420.0, 420.0], seed + 20, 3)
    pores = step(noise(p * [55.0, 900.0, 900.0], seed + 40), 0.80, 0.92)
    stain = fbm(p * [5.0, 14.0, 14.0], seed + 60, 3)
    return blend(light, dark, 0.10 + 0.36 * rings + 0.9 * (fibre - 0.5) + 0.8 * (stain - 0.5) + 0.5 * pores)


def planks(p: np.ndarray, width: float, light: Sequence[float], dark: Sequence[float], seed: int) -> np.ndarray:
    """Boards along x, each cut from its own piece of wood, with a dark joint between them."""
    board = np.floor(p[..., 1] / width)
    across = p[..., 1] / width - board
    table = np.random.default_rng(seed).random((64, 3))
    own = table[board.astype(int) % 64]
    local = np.stack([p[..., 0] + 9 * own[..., 0], (across - 0.5) * width + 0.1 * (own[..., 1] - 0.5), own[..., 1]], -1)
    local[..., 2] = 0.02 * own[..., 2]
    colour = wood(local, light, dark, seed) * (0.86 + 0.28 * own[..., 2:3])
    joint = step(np.minimum(across, 1 - across) * width, 0.0004, 0.0022)
    return np.clip(colour * (0.25 + 0.75 * joint[..., None]), 0, 1)


def font(size: int) -> Any:
    """Pillow's own built-in typeface, so that lettering does not depend on the machine's fonts."""
    return ImageFont.load_default(size=size)


def leaf(x: float, y: float, angle: float, length: float) -> list[tuple[float, float]]:
    along = np.linspace(0, 1, 12)
    half = 0.22 * length * np.sin(np.pi * along)
    outline = np.concatenate([np.stack([along * length, half], -1), np.stack([along * length, -half], -1)[::-1]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return [(px, py) for px, py in outline @ turn.T + [x, y]]


def flower(x: float, y: float, size: float, petals: int, turn: float) -> list[tuple[float, float]]:
    angle = np.linspace(0, 2 * np.pi, 12 * petals)
    radius = size * (0.55 + 0.45 * np.abs(np.cos(petals * (angle - turn) / 2)))
    return [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(radius, angle, strict=True)]


def blue_painting(width: int, height: int, seed: int) -> Image.Image:
    """Bands, a flowering vine and a lattice, painted on a jar; grey values say how much cobalt the brush left.

    Rows are the jar's profile: the inside of the neck comes first, then the lip, the body and the foot.
    """
    rng = np.random.default_rng(seed)
    image = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(image)

    def band(row: float, thickness: float, shade: int) -> None:
        draw.rectangle((0, row * height, width, (row + thickness) * height), fill=shade)

    for row, thickness, shade in (
        (0.235, 0.012, 235), (0.255, 0.004, 180), (0.405, 0.005, 220), (0.418, 0.012, 150), (0.438, 0.004, 220),
        (0.515, 0.004, 210), (0.835, 0.004, 220), (0.847, 0.013, 160), (0.868, 0.004, 220), (0.945, 0.012, 225),
    ):  # fmt: skip
        band(row, thickness, shade)
    for k in range(28):
        x = (k + 0.5) * width / 28
        cell = width / 28
        draw.line((x - cell / 2, 0.27 * height, x + cell / 2, 0.40 * height), fill=200, width=4)
        draw.line((x + cell / 2, 0.27 * height, x - cell / 2, 0.40 * height), fill=200, width=4)
        draw.ellipse((x - 7, 0.325 * height - 7, x + 7, 0.325 * height + 7), fill=int(rng.integers(120, 250)))
        draw.polygon(flower(x, 0.478 * height, 0.42 * cell, 4 + k % 3, 0.3 * k), fill=int(rng.integers(90, 210)))
        draw.polygon(leaf(x, 0.94 * height, -np.pi / 2, 0.062 * height), fill=int(rng.integers(90, 200)))
    vine = [
        (x, 0.67 * height + 0.07 * height * np.sin(6 * np.pi * x / width)) for x in np.linspace(-20, width + 20, 300)
    ]
    draw.line(vine, fill=210, width=6)
    for k in range(44):
        x = (k + rng.uniform(0.2, 0.8)) * width / 44
        y = 0.67 * height + 0.07 * height * np.sin(6 * np.pi * x / width)
        angle = (-1) ** k * rng.uniform(0.6, 1.3) + np.arctan(
            0.07 * height * 6 * np.pi / width * np.cos(6 * np.pi * x / width)
        )
        shape = leaf(x, y, angle, rng.uniform(0.07, 0.13) * height)
        for shift in (-width, 0, width):
            draw.polygon([(px + shift, py) for px, py in shape], fill=int(rng.integers(80, 200)))
    for k in range(9):
        x = (k % 9 + 0.5 + rng.uniform(-0.1, 0.1)) * width / 9
        y = 0.67 * height - 0.085 * height * np.sin(6 * np.pi * x / width) * (1 if k % 3 else 0.4)
        size = rng.uniform(0.060, 0.088) * height
        petals = int(rng.integers(5, 9))
        for shift in (-width, 0, width):
            for scale, shade in ((1.08, 250), (0.98, int(rng.integers(95, 150))), (0.55, 230), (0.40, 60), (0.18, 240)):
                draw.polygon(flower(x + shift, y, size * scale, petals, 0.4 * k), fill=shade)
    for _ in range(260):
        x, y, size = rng.uniform(0, width), rng.uniform(0.53, 0.825) * height, rng.uniform(2, 4.5)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=150)
    return image.filter(ImageFilter.GaussianBlur(1.2))


def jar_texture(points: np.ndarray, seed: int) -> np.ndarray:
    size = (960, 1536)
    p = texel_points(points, size)
    paint = np.asarray(blue_painting(size[1], size[0], seed), dtype=np.float64) / 255
    glaze = blend((0.87, 0.89, 0.88), (0.93, 0.93, 0.90), fbm(p * 30, seed, 4))
    cobalt = blend((0.05, 0.10, 0.36), (0.16, 0.27, 0.62), fbm(p * 90, seed + 5, 3))
    return blend(glaze, cobalt, paint * (0.75 + 0.5 * fbm(p * 160, seed + 9, 3)))


def landscape(width: int, height: int, seed: int, palette: Sequence[Sequence[float]]) -> np.ndarray:
    """Layered hills under a sky with a sun: the pictures on the walls and on the top book."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width) * width / height, indexing="ij")
    p = np.stack([x, y, np.zeros_like(x)], -1)
    picture = blend(palette[0], palette[1], y * 1.5 + 0.25 * (fbm(p * [3, 9, 1], seed) - 0.5))
    picture = blend(picture, palette[2], 1 - step(np.hypot(x - 0.62 * width / height, y - 0.30), 0.115, 0.125))
    for layer in range(5):
        ridge = 0.38 + 0.12 * layer + (0.30 - 0.03 * layer) * (fbm(p * [3.2, 0, 1] + 31 * layer, seed + layer, 5) - 0.5)
        shade = blend(palette[3], palette[4], np.full_like(x, layer / 4) + 0.5 * (fbm(p * 40, seed + 50, 3) - 0.5))
        picture = blend(picture, shade, step(y - ridge, 0.0, 0.008))
    return picture * (0.9 + 0.2 * fbm(p * 120, seed + 70, 2)[..., None])


def lettered(picture: np.ndarray, lines: Sequence[tuple[str, float, float, int]], ink: Sequence[float]) -> np.ndarray:
    """The picture with centred text lines (text, x and y as fractions, size in texels) printed on it."""
    height, width = picture.shape[:2]
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    for text, x, y, size in lines:
        draw.text((x * width, y * height), text, fill=255, font=font(size), anchor="mm")
    return blend(picture, ink, np.asarray(mask, dtype=np.float64) / 255)


def bookcloth(colour: Sequence[float], texels: tuple[int, int], seed: int) -> np.ndarray:
    p = plane_points(0.15, 0.215, texels)
    threads = 0.5 * noise(p * [2600, 260, 1], seed) + 0.5 * noise(p * [260, 2600, 1], seed + 1)
    wear = fbm(p * 25, seed + 2, 4)
    return np.clip(np.asarray(colour) * (0.70 + 0.35 * threads + 0.5 * (wear - 0.3))[..., None], 0, 1)


def framed(picture: np.ndarray, ink: Sequence[float], margins: Sequence[float], thickness: int = 4) -> np.ndarray:
    """Ruled rectangles at the given margins (fractions of the width)."""
    height, width = picture.shape[:2]
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    for margin in margins:
        inset = margin * width
        draw.rectangle((inset, inset, width - inset, height - inset), outline=255, width=thickness)
    return blend(picture, ink, np.asarray(mask, dtype=np.float64) / 255)


def printed_cover(seed: int) -> np.ndarray:
    cover = np.full((860, 600, 3), (0.90, 0.85, 0.72)) * (
        0.94 + 0.12 * fbm(plane_points(9, 12, (860, 600)), seed)[..., None]
    )
    palette = ((0.35, 0.55, 0.66), (0.95, 0.80, 0.58), (0.87, 0.35, 0.20), (0.52, 0.60, 0.58), (0.12, 0.22, 0.22))
    cover[200:690, 50:550] = landscape(500, 490, seed, palette)
    cover = lettered(
        cover, [("STILL LIFE", 0.5, 0.09, 92), ("with jar, eggs & pear", 0.5, 0.175, 40)], (0.13, 0.17, 0.22)
    )
    cover = lettered(
        cover, [("sixty views of one table", 0.5, 0.85, 42), ("IMG3D PRESS", 0.5, 0.925, 34)], (0.55, 0.16, 0.12)
    )
    return framed(cover, (0.13, 0.17, 0.22), [0.035], 5)


def kilim(texels: tuple[int, int], size: tuple[float, float], seed: int) -> np.ndarray:
    """A flat-woven runner: striped borders, rows of stepped diamonds, and the weave itself."""
    p = plane_points(size[0], size[1], texels)
    weave_step = 0.0042
    x = np.floor(p[..., 0] / weave_step) * weave_step
    y = np.floor(p[..., 1] / weave_step) * weave_step
    colours = np.array(
        [
            (0.60, 0.20, 0.15),
            (0.88, 0.81, 0.67),
            (0.17, 0.25, 0.36),
            (0.80, 0.55, 0.24),
            (0.36, 0.42, 0.30),
            (0.25, 0.13, 0.12),
        ]
    )
    rng = np.random.default_rng(seed)
    pitch = 0.105
    row = np.floor(y / pitch + 0.5).astype(int)
    cell = np.floor(x / pitch + 0.5 * (row % 2)).astype(int)
    along = (x / pitch + 0.5 * (row % 2) - cell - 0.5) * 2
    across = (y / pitch + 0.5 - row - 0.5) * 2
    distance = np.abs(along) + np.abs(across)
    choice = rng.integers(0, 6, (32, 32, 4))[row % 32, cell % 32]
    ground = np.where(row % 3 == 0, 0, np.where(row % 3 == 1, 2, 5))
    picked = np.where(
        distance < 0.28, choice[..., 1], np.where(distance < 0.55, 1, np.where(distance < 0.85, choice[..., 2], ground))
    )
    picked = np.where(np.abs(across) > 0.93, 3, picked)
    edge = size[1] / 2 - np.abs(y)
    stripe = (np.floor(edge / 0.0125).astype(int) * 5 + 1) % 6
    picked = np.where(edge < 0.062, stripe, picked)
    threads = np.sin(p[..., 0] * 2 * np.pi / 0.0042) * np.sin(p[..., 1] * 2 * np.pi / 0.0042)
    lint = fbm(p * [160, 900, 1], seed + 1, 3)
    fade = fbm(p * 12, seed + 2, 3)
    shade = 0.62 + 0.10 * threads + 0.45 * lint + 0.35 * (fade - 0.5)
    return np.clip(colours[picked] * shade[..., None] * 1.1, 0, 1)


def wallpaper(width: float, bottom: float, top: float, texels: tuple[int, int], seed: int) -> np.ndarray:
    """One wall from floor to top: skirting board, panelled dado, rail, and printed paper above."""
    p = plane_points(width, top - bottom, texels)
    z = p[..., 1] + (top + bottom) / 2
    rng = np.random.default_rng(seed)
    mask = Image.new("L", (texels[1], texels[0]), 0)
    draw = ImageDraw.Draw(mask)
    pitch = 0.17 / width * texels[1]
    for row in range(30):
        for column in range(-1, 28):
            x, y = (column + 0.5 * (row % 2)) * pitch, row * pitch * 0.8
            draw.polygon(
                flower(x, y, 0.24 * pitch, int(rng.integers(4, 8)), rng.uniform(0, 1)), fill=int(rng.integers(120, 255))
            )
            for side in (-1, 1):
                shape = leaf(x, y + 0.25 * pitch, np.pi / 2 - side * rng.uniform(0.4, 1.1), 0.42 * pitch)
                draw.polygon(shape, fill=int(rng.integers(120, 230)))
    print_ink = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float64) / 255
    paper = blend((0.50, 0.58, 0.52), (0.60, 0.66, 0.58), fbm(p * 5, seed, 4))
    paper = blend(paper, (0.83, 0.80, 0.67), 0.75 * print_ink)
    panel = np.abs((p[..., 0] / 0.44 + 0.5) % 1 - 0.5) * 0.44
    inset = np.minimum(0.20 - panel, np.minimum(z + 0.56, -0.17 - z))
    bevel = 0.16 * np.exp(-((inset / 0.006) ** 2)) - 0.10 * np.exp(-(((inset - 0.016) / 0.006) ** 2))
    dado = np.array([0.80, 0.78, 0.72]) * (0.93 + 0.14 * fbm(p * [8, 30, 1], seed + 3, 4) - 1.6 * bevel)[..., None]
    wall = np.where((z < -0.10)[..., None], dado, paper)
    rail = (np.abs(z + 0.08) < 0.03) | (z < bottom + 0.1)
    lit = 0.75 + 0.25 * np.cos((z + 0.08) / 0.03 * 2.2)
    return np.clip(np.where(rail[..., None], np.array([0.62, 0.45, 0.30]) * lit[..., None], wall), 0, 1)
