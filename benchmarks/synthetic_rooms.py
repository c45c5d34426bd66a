# SPDX-License-Identifier: Apache-2.0
"""Photos of rooms that do not exist, whose cameras are known exactly: as many as structure from motion is to face.

A ring of rooms joined by doorways, with furniture, every surface with noise and spots of its own. The camera walks
round each room, mostly looking across it, and through the doorway to the next, until it comes back to where it began.
More photos show more rooms at the same spacing. All surfaces have the same kind of texture, and there are no EXIF
tags: which photos show the same place, and what the focal length is, has to be found out.

    python benchmarks/synthetic_rooms.py rooms --photos 500

writes `rooms/images/` and `rooms/transforms.json` (metres, z up).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FOCAL_LENGTH = 640, 480, 480.0
"""Pixels; 67 degrees across, a phone's main lens."""
JPEG_QUALITY = 92
PHOTOS_PER_ROOM = 83
ROOM = np.array([6.0, 5.0, 2.7])
"""Metres, without the walls."""
WALL = 0.2
"""Metres, thickness."""
DOOR_WIDTH, DOOR_HEIGHT = 1.1, 2.1
TEXELS_PER_METRE = 200
LEVELS = 5
"""Of the textures' pyramid."""
MARGIN = 2 ** (LEVELS - 1)
"""Texels around each texture, for its smaller copies to have neighbours."""
ATLAS_WIDTH = 8192
SPOTS_PER_SQUARE_METRE = 25
NEAR = 0.05
"""Metres in front of the camera, below which nothing is drawn."""
TURN_LENGTH = 0.8
"""Metres that the walk advances in the time that it takes to turn by a radian."""


@dataclass(frozen=True)
class Rectangle:
    """A flat surface, seen from where `u` points right and `v` up."""

    corner: FloatArray
    """`[3]`, metres."""
    u: FloatArray
    """`[3]`, the edge from the corner, its length in metres."""
    v: FloatArray
    """`[3]`, the other edge, at a right angle."""


def box(low: FloatArray, high: FloatArray, inside: bool, faces: str) -> list[Rectangle]:
    """Faces of an upright box, seen from inside or from outside.

    Args:
        low: the corner `[3]` with the least coordinates.
        high: the opposite corner.
        inside: whether they are seen from inside.
        faces: which: "w", "e", "s", "n" (least and greatest x, least and greatest y), "b" and "t" (bottom and top).
    """
    x, y, z = np.diag(high - low)
    seen_from_outside = {
        "w": Rectangle(low + y, -y, z),
        "e": Rectangle(low + x, y, z),
        "s": Rectangle(low, x, z),
        "n": Rectangle(low + x + y, -x, z),
        "b": Rectangle(low + y, x, -y),
        "t": Rectangle(low + z, x, y),
    }
    chosen = [seen_from_outside[face] for face in faces]
    return [Rectangle(face.corner + face.u, -face.u, face.v) for face in chosen] if inside else chosen


def rooms_in_a_ring(num_rooms: int) -> FloatArray:
    """Centres `[R, 2]` of rooms in two rows, in the order of the walk: along one and back along the other."""
    columns = num_rooms // 2
    cells = [(i, 0) for i in range(columns)] + [(i, 1) for i in reversed(range(columns))]
    return np.array(cells, dtype=np.float64) * (ROOM[:2] + WALL)


def doors(centres: FloatArray) -> list[tuple[FloatArray, int]]:
    """The door from each room to the next: its middle `[2]` and the axis in which it is walked through."""
    following = np.roll(centres, -1, axis=0)
    return [
        ((here + there) / 2, int(np.abs(there - here).argmax())) for here, there in zip(centres, following, strict=True)
    ]


def surfaces(centres: FloatArray, rng: np.random.Generator) -> list[Rectangle]:
    """Everything that there is to see."""
    result = []
    openings = doors(centres)
    for centre in centres:
        low = np.array([*(centre - ROOM[:2] / 2), 0.0])
        high = np.add(low, ROOM)
        result += box(low, high, True, "bt")
        for face in "wesn":
            result += _wall(box(low, high, True, face)[0], [middle for middle, _ in openings])
        result += _furniture(low, high, rng)
    for middle, axis in {(tuple(middle), axis) for middle, axis in openings}:
        half = np.full(2, DOOR_WIDTH / 2)
        half[axis] = WALL / 2
        low, high = np.array([*(middle - half), 0.0]), np.array([*(middle + half), DOOR_HEIGHT])
        result += box(low, high, True, "bt" + ("sn" if axis == 0 else "we"))
    return result


def _wall(whole: Rectangle, openings: list[FloatArray]) -> list[Rectangle]:
    """The wall in up to three pieces, around its door."""
    length = np.linalg.norm(whole.u)
    along = whole.u / length
    for middle in openings:
        offset = np.array([*middle, 0.0]) - whole.corner
        at = float(offset @ along)
        if np.linalg.norm(offset - at * along) < WALL and 0 < at < length:
            left, right = at - DOOR_WIDTH / 2, at + DOOR_WIDTH / 2
            up = whole.v / ROOM[2]
            return [
                Rectangle(whole.corner, left * along, whole.v),
                Rectangle(whole.corner + right * along, (length - right) * along, whole.v),
                Rectangle(
                    whole.corner + left * along + DOOR_HEIGHT * up, DOOR_WIDTH * along, (ROOM[2] - DOOR_HEIGHT) * up
                ),
            ]
    return [whole]


def _furniture(low: FloatArray, high: FloatArray, rng: np.random.Generator) -> list[Rectangle]:
    """A table with things on it in the middle, a cupboard in each corner."""
    result = []
    half = rng.uniform([0.4, 0.3], [0.55, 0.45])
    middle = (low + high)[:2] / 2
    table = rng.uniform(0.5, 0.8)
    result += box(np.array([*(middle - half), 0.0]), np.array([*(middle + half), table]), False, "wesnt")
    for side in (-1, 1):
        size = rng.uniform([0.15, 0.15, 0.1], [0.3, 0.4, 0.5])
        corner = np.array([middle[0] + side * half[0] / 2 - size[0] / 2, middle[1] - size[1] / 2, table])
        result += box(corner, corner + size, False, "wesnt")
    for i in range(4):
        size = rng.uniform([0.5, 0.3, 0.4], [1.3, 0.6, 2.2])
        corner = np.where([i & 1, i & 2], (high - size)[:2], low[:2])
        result += box(np.array([*corner, 0.0]), np.array([*(corner + size[:2]), size[2]]), False, "wesnt")
    return result


def texture(height: int, width: int, rng: np.random.Generator) -> ByteArray:
    """Noise of all scales between two colours, and spots of all sizes in any colour, `[H, W, 3]`."""
    noise = np.zeros((height, width), dtype=np.float32)
    roughness = rng.uniform(0.3, 0.7)
    cell = 1
    while cell <= 256:
        coarse = rng.standard_normal((height // cell + 3, width // cell + 3), dtype=np.float32)
        fine = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC) if cell > 1 else coarse
        y, x = rng.integers(0, cell, size=2)
        noise += cell**roughness * fine[y : y + height, x : x + width]
        cell *= 2
    noise = (noise - noise.mean()) / (3 * noise.std()) + 0.5
    dark, bright = rng.uniform([[20], [110]], [[110], [230]], size=(2, 3)).astype(np.float32)
    image = (dark + noise[..., None] * (bright - dark)).clip(0, 255).astype(np.uint8)
    num_spots = round(SPOTS_PER_SQUARE_METRE * height * width / TEXELS_PER_METRE**2)
    for _ in range(num_spots):
        x, y = rng.uniform([0, 0], [width, height])
        radius = np.exp(rng.uniform(np.log(0.006), np.log(0.1))) * TEXELS_PER_METRE
        axes = (radius, radius * rng.uniform(0.4, 1))
        colour = tuple(rng.uniform(10, 245, size=3).tolist())
        cv2.ellipse(image, ((x, y), (2 * axes[0], 2 * axes[1]), rng.uniform(0, 180)), colour, -1, cv2.LINE_AA)
    return image


class Rooms:
    """Surfaces and their textures, in one picture and its reduced copies, ready to be seen from anywhere."""

    def __init__(self, rectangles: list[Rectangle], rng: np.random.Generator) -> None:
        self.corners = np.array([rectangle.corner for rectangle in rectangles])
        self.edges = np.array([(rectangle.u, rectangle.v) for rectangle in rectangles])
        self.lengths = np.linalg.norm(self.edges, axis=2)
        self.axes = self.edges / self.lengths[..., None]
        self.normals = np.cross(self.axes[:, 0], self.axes[:, 1])
        sizes = np.ceil(self.lengths * TEXELS_PER_METRE).astype(int) + 2 * MARGIN
        sizes = -(-sizes // MARGIN) * MARGIN  # so that every texture begins at a whole texel of every copy
        self.offsets = np.zeros((len(rectangles), 2), dtype=np.int64)
        x = y = shelf = 0
        for i in np.argsort(-sizes[:, 1], kind="stable"):
            width, height = sizes[i]
            if x + width > ATLAS_WIDTH:
                x, y, shelf = 0, y + shelf, 0
            self.offsets[i] = x, y
            x, shelf = x + width, max(shelf, height)
        atlas = np.zeros((y + shelf, ATLAS_WIDTH, 3), dtype=np.uint8)
        for (x, y), (width, height) in zip(self.offsets, sizes, strict=True):
            atlas[y : y + height, x : x + width] = texture(height, width, rng)
        self.offsets += MARGIN
        self.pyramid = [atlas]
        for _ in range(LEVELS - 1):
            reduced = cv2.resize(self.pyramid[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            self.pyramid.append(np.asarray(reduced, dtype=np.uint8))

    def seen_from(self, camera_to_world: FloatArray) -> ByteArray:
        """What a camera sees, `[H, W, 3]`.

        On a flat surface 1/z, u/z and v/z change evenly from pixel to pixel, which is all that is computed for each.

        Args:
            camera_to_world: `[3, 4]`, axes right, down, forward.
        """
        axes, centre = camera_to_world[:, :3], camera_to_world[:, 3]
        heights = ((centre - self.corners) * self.normals).sum(axis=1)
        # A pixel's ray is axes @ (x, y, 1); it meets a surface at 1/z = -normal . ray / height.
        inverse_depth = -(self.normals @ axes) / np.where(heights > 1e-6, heights, np.inf)[:, None]
        from_corner = ((centre - self.corners)[:, None] * self.axes).sum(axis=2)
        uv_over_depth = from_corner[..., None] * inverse_depth[:, None] + self.axes @ axes
        planes = np.concatenate([inverse_depth[:, None], uv_over_depth], axis=1)  # [R, 3, 3]
        planes = planes @ _PIXEL_TO_RAY

        nearest = np.full((HEIGHT, WIDTH), 1e-3, dtype=np.float32)
        surface = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
        for i in np.nonzero(heights > 1e-6)[0]:
            window = self._window(int(i), axes, centre)
            if window is None:
                continue
            w, u, v = _evenly(planes[i], window)
            inside = (w > nearest[window]) & (w < 1 / NEAR)
            inside &= (u >= 0) & (u <= self.lengths[i, 0] * w) & (v >= 0) & (v <= self.lengths[i, 1] * w)
            nearest[window][inside] = w[inside]
            surface[window][inside] = i
        return self._coloured(surface, planes, heights)

    def _window(self, i: int, axes: FloatArray, centre: FloatArray) -> tuple[slice, slice] | None:
        """Rows and columns within which a rectangle is seen."""
        u, v = self.edges[i]
        outline = (self.corners[i] + np.array([0 * u, u, u + v, v]) - centre) @ axes
        following = np.roll(outline, -1, axis=0)
        crossing = (outline[:, 2] < NEAR) != (following[:, 2] < NEAR)
        share = (NEAR - outline[:, 2])[crossing] / (following - outline)[crossing, 2]
        cut = outline[crossing] + share[:, None] * (following - outline)[crossing]
        visible = np.concatenate([outline[outline[:, 2] >= NEAR], cut])
        if len(visible) == 0:
            return None
        x, y = (FOCAL_LENGTH * visible[:, :2] / visible[:, 2:] + [WIDTH / 2, HEIGHT / 2]).T
        columns = slice(max(0, int(np.floor(x.min()))), min(WIDTH, int(np.ceil(x.max()))))
        rows = slice(max(0, int(np.floor(y.min()))), min(HEIGHT, int(np.ceil(y.max()))))
        return (rows, columns) if columns.start < columns.stop and rows.start < rows.stop else None

    def _coloured(self, surface: npt.NDArray[np.int64], planes: FloatArray, heights: FloatArray) -> ByteArray:
        coefficients = planes.astype(np.float32)[surface]  # [H, W, 3, 3]
        w, u, v = np.moveaxis(coefficients @ _PIXELS[..., None], 2, 0)[..., 0]
        offsets = self.offsets.astype(np.float32)[surface]
        x = offsets[..., 0] + u / w * TEXELS_PER_METRE
        y = offsets[..., 1] + v / w * TEXELS_PER_METRE
        # Texels in a pixel; across a surface seen aslant they are more than along it: the geometric mean.
        slant = heights.astype(np.float32)[surface] * w / _RAY_LENGTHS
        texels = TEXELS_PER_METRE / FOCAL_LENGTH / (w * np.sqrt(slant.clip(0.05)))
        level = np.log2(texels).clip(0, LEVELS - 1).astype(np.float32)
        result = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
        for i, reduced in enumerate(self.pyramid):
            share = (1 - np.abs(level - i)).clip(0)
            if share.any():
                colours = cv2.remap(reduced, x / 2**i - 0.5, y / 2**i - 0.5, cv2.INTER_LINEAR)
                result += share[..., None] * colours
        return result.round().astype(np.uint8)


_PIXEL_TO_RAY = np.array(
    [
        [1 / FOCAL_LENGTH, 0, (0.5 - WIDTH / 2) / FOCAL_LENGTH],
        [0, 1 / FOCAL_LENGTH, (0.5 - HEIGHT / 2) / FOCAL_LENGTH],
        [0, 0, 1],
    ]
)
_PIXELS = np.stack([*np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), np.ones((HEIGHT, WIDTH))], axis=-1).astype(
    np.float32
)
_RAY_LENGTHS = np.linalg.norm(_PIXELS @ _PIXEL_TO_RAY.T, axis=-1).astype(np.float32)


def _evenly(planes: FloatArray, window: tuple[slice, slice]) -> list[Float32Array]:
    """What changes evenly from pixel to pixel, in a window."""
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    return [
        (by_column * columns).astype(np.float32) + (by_row * rows + constant).astype(np.float32)[:, None]
        for by_column, by_row, constant in planes
    ]


def walk(centres: FloatArray, num_photos: int, rng: np.random.Generator) -> FloatArray:
    """Cameras `[N, 3, 4]` along the walk, axes right, down, forward."""
    xy, yaw = _path(centres)
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=1) + TURN_LENGTH * np.abs(np.diff(yaw))
    progress = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0, progress[-1], num_photos, endpoint=False)
    x, y, yaw = (np.interp(at, progress, values) for values in (*xy.T, yaw))
    z = 1.5 + 0.1 * np.sin(at / 1.3)
    positions = np.stack([x, y, z], axis=1) + rng.uniform(-0.03, 0.03, size=(num_photos, 3))
    tremble = np.radians(rng.uniform(-2, 2, size=(3, num_photos)))
    yaw = yaw + tremble[0]
    pitch = np.radians(-8 + 6 * np.sin(at / 2.1)) + tremble[1]
    cameras = []
    for position, heading, tilt, roll in zip(positions, yaw, pitch, tremble[2], strict=True):
        forward = np.array([np.cos(tilt) * np.cos(heading), np.cos(tilt) * np.sin(heading), np.sin(tilt)])
        level = np.array([np.sin(heading), -np.cos(heading), 0.0])
        below = np.cross(forward, level)
        right, down = np.cos(roll) * level + np.sin(roll) * below, np.cos(roll) * below - np.sin(roll) * level
        cameras.append(np.column_stack([right, down, forward, position]))
    return np.array(cameras)


def _path(centres: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The closed walk in small steps: positions `[S, 2]` and headings `[S]` in radians, without jumps."""
    positions, headings = [], []
    middles = [middle for middle, _ in doors(centres)]
    for i, centre in enumerate(centres):
        enter, leave = middles[i - 1] - centre, middles[i] - centre
        first, last = (np.arctan2(*door[::-1]) for door in (enter, leave))
        angle = first + np.linspace(0, 2 * np.pi + (last - first) % (2 * np.pi), 200)
        lap = centre + ROOM[:2] * 0.28 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        across = angle + np.pi + 0.3
        # Towards the end of the lap the view turns to the door, the shorter way round.
        turn = (last - across[-1] + np.pi) % (2 * np.pi) - np.pi
        share = np.linspace(0, 1, 200)
        begin, end = (_smooth((share / 0.1).clip(0, 1)), _smooth(((share - 0.7) / 0.3).clip(0, 1)))
        positions += [np.linspace(middles[i - 1], lap[0], 20, endpoint=False), lap]
        positions.append(np.linspace(lap[-1], middles[i], 20, endpoint=False))
        heading = across - 0.3 * (1 - begin) + turn * end
        headings += [np.full(20, heading[0]), heading, np.full(20, heading[-1])]
    kernel = np.hanning(25) / np.hanning(25).sum()  # takes the corners off, which nobody walks
    xy = np.concatenate(positions)
    padded = np.concatenate([xy[-12:], xy, xy[:12]])
    xy = np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
    return xy, np.unwrap(np.concatenate(headings))


def _smooth(share: FloatArray) -> FloatArray:
    return share**2 * (3 - 2 * share)


def make_rooms(folder: Path, num_photos: int) -> None:
    """Writes `images/` and `transforms.json` into a folder; the same for the same number of photos.

    Args:
        folder: is made if it is not there.
        num_photos: the more, the more rooms.
    """
    rng = np.random.default_rng(0)
    centres = rooms_in_a_ring(2 * max(1, round(num_photos / PHOTOS_PER_ROOM / 2)))
    rooms = Rooms(surfaces(centres, rng), rng)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    noise = rng.normal(0, 2, size=(2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)
    frames = []
    for i, camera_to_world in enumerate(walk(centres, num_photos, rng)):
        y, x = rng.integers(0, [HEIGHT, WIDTH])
        exposure = rng.uniform(0.92, 1.08)
        image = exposure * rooms.seen_from(camera_to_world) + noise[y : y + HEIGHT, x : x + WIDTH]
        name = f"images/{i + 1:04d}.jpg"
        pixels = image.clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        opengl = camera_to_world * [1, -1, -1, 1]
        frames.append({"file_path": name, "transform_matrix": [*opengl.tolist(), [0, 0, 0, 1]]})
    camera = {"fl_x": FOCAL_LENGTH, "fl_y": FOCAL_LENGTH, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}, indent=1))


def main() -> None:
    """Write the photos and their cameras."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write images/ and transforms.json")
    parser.add_argument("--photos", type=int, default=500)
    arguments = parser.parse_args()
    make_rooms(arguments.folder, arguments.photos)


if __name__ == "__main__":
    main()
