# SPDX-License-Identifier: Apache-2.0
"""The still life of the bundled sample, as a Mitsuba scene: a laid table in a room with a window.

Units are metres, z is up and the table top is z = 0. Everything comes from fixed seeds; nothing is read from disk.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sample_patterns as pattern
from sample_patterns import MeshData, box, fbm, grid_mesh, lathe_points, merged, noise, smooth_profile, texel_points

ROOM_HALF_SIZE = 2.2
FLOOR_HEIGHT = -0.74
WALL_TOP = 1.3
TABLE_SIZE = (1.36, 1.04)
CLOTH_THICKNESS = 0.002
CLOTH_SIZE = (0.46, 1.02)
CLOTH_TURN = 62.0
VARNISH_GLOSS = 0.2

TOP_BOOK_SIZE = (0.150, 0.210, 0.024)
TOP_BOOK_PLACE = (0.135, 0.045, 0.080, -14.0)
"""x, y, height of its underside, and turn in degrees."""


# Turned outlines: (radius, height) in centimetres, along the surface from the axis underneath.
# fmt: off
JAR_PROFILE = (
    (0, 0.5), (3.6, 0.5), (4.3, 0.0), (4.6, 0.5), (4.5, 1.4), (5.6, 4.5), (7.1, 9.0), (7.7, 13.0), (7.0, 17.0),
    (4.9, 19.8), (3.5, 21.3), (3.2, 23.0), (3.5, 24.6), (4.3, 25.6), (4.45, 25.9), (4.1, 25.9), (3.2, 24.6),
    (2.9, 23.0), (2.9, 20.0),
)
BOWL_PROFILE = (
    (0, 0.6), (3.4, 0.6), (3.7, 0), (4.0, 0.1), (4.1, 0.8), (6.3, 2.0), (8.2, 4.0), (9.0, 6.2), (9.1, 6.6),
    (8.8, 6.6), (7.9, 4.3), (6.0, 2.6), (3.0, 1.6), (0, 1.4),
)
APPLE_PROFILE = (
    (0, 0.9), (0.9, 0.45), (1.8, 0.12), (2.9, 1.1), (3.65, 2.9), (3.75, 4.4), (3.1, 5.9), (1.9, 6.65), (0.9, 6.3),
    (0.25, 5.6), (0, 5.45),
)
PEAR_PROFILE = (
    (0, 0.35), (1.0, 0.05), (2.4, 0.7), (3.25, 2.3), (3.2, 3.9), (2.5, 5.6), (1.75, 7.1), (1.35, 8.3), (0.8, 8.95),
    (0.2, 8.85), (0, 8.8),
)
ORANGE_PROFILE = (
    (0, 0.25), (0.9, 0.1), (2.4, 0.8), (3.6, 2.6), (3.7, 4.2), (2.7, 6.1), (0.9, 7.05), (0.3, 6.95), (0, 6.9),
)
MILL_PROFILE = (
    (0, 0), (2.9, 0), (3.0, 0.4), (2.95, 1.6), (2.3, 2.3), (2.6, 3.0), (2.1, 5.0), (1.55, 8.0), (1.9, 9.8),
    (2.25, 10.3), (1.9, 10.8), (2.2, 11.3), (1.5, 11.9), (1.7, 13.0), (2.35, 14.4), (2.2, 16.0), (1.2, 17.1),
    (0, 17.3),
)
LID_PROFILE = (
    (3.6, 9.4), (3.72, 9.45), (3.72, 10.8), (3.62, 11.0), (2.9, 11.05), (2.7, 10.85), (0, 10.85),
)
# fmt: on


def top_book_corners() -> np.ndarray:
    """The four upper corners of the top book: points that are easy to find in a picture."""
    width, depth, height = TOP_BOOK_SIZE
    x, y, z, turn = TOP_BOOK_PLACE
    corners = np.array([[-width, -depth], [width, -depth], [width, depth], [-width, depth]]) / 2
    flat = MeshData(np.column_stack([corners, np.full(4, height)]), np.zeros((0, 3)), np.zeros((4, 2)))
    return flat.moved(x, y, z, turn).vertices


class SceneParts:
    """Collects textured meshes into the dictionary that Mitsuba loads."""

    def __init__(self, mitsuba: Any) -> None:
        self.mi = mitsuba
        self.parts: dict[str, Any] = {"type": "scene"}

    def texture(self, picture: np.ndarray) -> dict[str, Any]:
        pixels = np.ascontiguousarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        return {"type": "bitmap", "bitmap": self.mi.Bitmap(pixels), "wrap_mode": "clamp"}

    def add(
        self, name: str, data: MeshData, picture: np.ndarray, gloss: float | None = None, metal: bool = False
    ) -> None:
        """`gloss` is the roughness of a clear coat over the picture; without one the surface is matte."""
        colour = self.texture(picture)
        if metal:
            surface = {"type": "principled", "base_color": colour, "metallic": 1.0, "roughness": gloss}
        elif gloss is None:
            surface = {"type": "diffuse", "reflectance": colour}
        else:
            # Wax and varnish are thinner than glaze and shine less; at full strength the window's image would wash out
            # the table's grain in a third of the views.
            shine = 1.0 if gloss < VARNISH_GLOSS else 0.35
            surface = {
                "type": "roughplastic",
                "diffuse_reflectance": colour,
                "specular_reflectance": shine,
                "alpha": gloss,
                "nonlinear": True,
            }
        properties = self.mi.Properties()
        properties["bsdf"] = self.mi.load_dict({"type": "twosided", "surface": surface})
        mesh = self.mi.Mesh(
            name,
            len(data.vertices),
            len(data.faces),
            props=properties,
            has_vertex_normals=data.smooth,
            has_vertex_texcoords=True,
        )
        values = self.mi.traverse(mesh)
        values["vertex_positions"] = data.vertices.astype(np.float32).ravel()
        values["vertex_texcoords"] = data.uvs.astype(np.float32).ravel()
        values["faces"] = data.faces.astype(np.uint32).ravel()
        if data.smooth:
            values["vertex_normals"] = smooth_normals(data).astype(np.float32).ravel()
        values.update()
        self.parts[name] = mesh

    def add_turned(
        self,
        name: str,
        points: np.ndarray,
        place: Sequence[float],
        picture: np.ndarray,
        gloss: float | None,
        metal: bool = False,
    ) -> None:
        self.add(name, grid_mesh(points).moved(*place), picture, gloss, metal)


def smooth_normals(data: MeshData) -> np.ndarray:
    """Area-weighted vertex normals, shared by vertices at the same place so that a lathe's seam does not show."""
    corners = data.vertices[data.faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    _, place = np.unique(np.rint(data.vertices * 1e6).astype(np.int64), axis=0, return_inverse=True)
    sums = np.zeros((place.max() + 1, 3))
    for corner in range(3):
        np.add.at(sums, place.reshape(-1)[data.faces[:, corner]], face_normals)
    normals = sums[place.reshape(-1)]
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


# --- The table and what lies on it ------------------------------------------------------------------------------------


def add_table(scene: SceneParts) -> None:
    width, depth = TABLE_SIZE
    p = pattern.plane_points(width, depth, (1040, 1360))
    top = pattern.planks(p, 0.13, (0.66, 0.45, 0.27), (0.33, 0.19, 0.10), seed=11)
    scene.add("table_top", box((width, depth, 0.035), (0, 0, -0.0175), rim=True), top, gloss=0.26)
    legs = [
        box((0.06, 0.06, 0.70), (x * (width / 2 - 0.08), y * (depth / 2 - 0.08), -0.385))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    scene.add("table_legs", merged(legs), top[:200, :200], gloss=0.25)
    side = np.linspace(-0.5, 0.5, 340)
    x, y = np.meshgrid(side[::2] * CLOTH_SIZE[0], side * CLOTH_SIZE[1], indexing="ij")
    free = np.clip((np.hypot(x, y) - 0.27) / 0.12, 0, 1)
    folds = fbm(np.stack([x * 9, y * 14, np.zeros_like(x)], -1), 5, 3)
    z = (
        CLOTH_THICKNESS
        + 0.016 * free * np.clip(folds - 0.38, 0, None)
        + 0.0003 * fbm(np.stack([x, y, y], -1) * 400, 6, 1)
    )
    cloth = grid_mesh(np.stack([x, y, z], -1)).moved(0, 0, 0, CLOTH_TURN)
    scene.add("cloth", cloth, pattern.kilim((1500, 680), CLOTH_SIZE, seed=3))


def add_jar(scene: SceneParts) -> None:
    """The glossy piece: a tall glazed jar with cobalt painting."""
    profile = smooth_profile(JAR_PROFILE, 260)
    points = lathe_points(profile, 161)
    scene.add_turned("jar", points, (-0.035, 0.095, CLOTH_THICKNESS, 20), pattern.jar_texture(points, 8), gloss=0.04)


def add_bowl_of_eggs(scene: SceneParts) -> None:
    profile = smooth_profile(BOWL_PROFILE, 180)
    points = lathe_points(profile, 121)
    p = texel_points(points, (640, 1400))
    row = np.linspace(1, 0, 640)[:, None]
    run = fbm(p * [40, 40, 18], 31, 4)
    outside = pattern.blend(
        (0.34, 0.20, 0.13), (0.24, 0.42, 0.42), pattern.step(p[..., 2] + 0.03 * (run - 0.5), 0.022, 0.036)
    )
    inside = pattern.blend(
        (0.83, 0.77, 0.64), (0.30, 0.47, 0.47), pattern.step(fbm(p * 55, 33, 4) + (p[..., 2] - 0.045) * 9, 0.5, 0.9)
    )
    glaze = np.where((row > 0.56)[..., None], inside, outside)
    specks = pattern.step(noise(p * 520, 35), 0.80, 0.90) * pattern.step(fbm(p * 60, 36), 0.35, 0.6)
    glaze = pattern.blend(glaze, (0.16, 0.09, 0.05), 0.8 * specks)
    place = (-0.150, -0.085, CLOTH_THICKNESS, 0)
    scene.add_turned("bowl", points, place, glaze, gloss=0.12)
    shells = [
        ((0.66, 0.76, 0.72), (-0.030, 0.014, 0.0375, 20, 82)),
        ((0.88, 0.79, 0.66), (0.024, 0.026, 0.0385, 130, 78)),
        ((0.70, 0.49, 0.34), (0.004, -0.030, 0.0385, 255, 84)),
    ]
    for index, (colour, (x, y, z, turn, tilt)) in enumerate(shells):
        angle = np.linspace(-np.pi / 2, np.pi / 2, 70)
        egg = np.stack([0.0212 * np.cos(angle) * (1 - 0.13 * np.sin(angle)), 0.028 * np.sin(angle)], -1)
        shell = lathe_points(np.maximum(egg, [0, -1]), 81)
        q = texel_points(shell, (420, 640))
        blots = pattern.step(fbm(q * 260, 40 + index, 3), 0.60, 0.66) + 0.6 * pattern.step(
            noise(q * 900, 45 + index), 0.84, 0.9
        )
        picture = np.asarray(colour) * (0.93 + 0.14 * fbm(q * 70, 50 + index)[..., None])
        picture = pattern.blend(picture, (0.24, 0.15, 0.10), 0.85 * blots)
        centre = (place[0] + x, place[1] + y, place[2] + z)
        scene.add(f"egg{index}", grid_mesh(shell).moved(*centre, turn, tilt), picture, gloss=0.3)


def add_book(
    scene: SceneParts,
    name: str,
    size: Sequence[float],
    place: Sequence[float],
    cover: np.ndarray,
    spine: np.ndarray,
    seed: int,
) -> None:
    """Boards, a rounded spine on the left and a block of pages, with the front cover upwards."""
    width, depth, height = size
    board = 0.0028
    boards = [box((width, depth, board), (0, 0, z), rim=True) for z in (board / 2, height - board / 2)]
    scene.add(f"{name}_boards", merged([part.moved(*place) for part in boards]), cover, gloss=0.3)
    block = box((width - 0.006, depth - 0.008, height - 2 * board), (-0.001, 0, height / 2)).moved(*place)
    rng = np.random.default_rng(seed)
    leaves = np.repeat(0.70 + 0.22 * rng.random((160, 1)), 200, axis=1) * (0.95 + 0.1 * rng.random((160, 200)))
    scene.add(f"{name}_pages", block, leaves[..., None] * np.array([1.0, 0.95, 0.83]))
    bend = np.linspace(np.pi, 0, 24)[:, None]
    along = np.linspace(-depth / 2, depth / 2, 2)[None, :]
    x = -width / 2 - 0.005 * np.sin(bend) + 0 * along
    z = height / 2 + height / 2 * np.cos(bend) + 0 * along
    sheet = np.stack([x, 0 * bend + along, z], -1)
    # Lettering runs along the spine: the picture's width lies along y, and its top is the front cover's side.
    scene.add(f"{name}_spine", grid_mesh(np.swapaxes(sheet, 0, 1)[::-1]).moved(*place), spine, gloss=0.3)


def add_books(scene: SceneParts) -> None:
    gold, cream, navy, red = (0.80, 0.63, 0.30), (0.90, 0.86, 0.74), (0.15, 0.22, 0.36), (0.50, 0.13, 0.12)
    bottom = pattern.framed(pattern.bookcloth(navy, (860, 640), 60), gold, [0.06, 0.075])
    spine = pattern.bookcloth(navy, (130, 900), 61)
    spine = pattern.lettered(spine, [("A FIELD GUIDE TO RAYS", 0.42, 0.5, 62), ("VOL. II", 0.88, 0.5, 44)], gold)
    place = (0.150, 0.040, CLOTH_THICKNESS, 9)
    add_book(scene, "bottom_book", (0.175, 0.240, 0.043), place, bottom, spine, 70)
    middle = pattern.framed(pattern.bookcloth(red, (860, 600), 62), cream, [0.05, 0.09, 0.10])
    spine = pattern.bookcloth(red, (120, 900), 63)
    spine = pattern.lettered(spine, [("THE PATH TRACER", 0.40, 0.5, 66), ("a novel", 0.86, 0.5, 46)], cream)
    place = (0.150, 0.035, CLOTH_THICKNESS + 0.043, -4)
    add_book(scene, "middle_book", (0.158, 0.222, 0.035), place, middle, spine, 71)
    spine = pattern.bookcloth((0.88, 0.83, 0.70), (100, 900), 64)
    spine = pattern.lettered(spine, [("STILL LIFE", 0.32, 0.5, 62), ("IMG3D PRESS", 0.80, 0.5, 40)], (0.13, 0.17, 0.22))
    add_book(scene, "top_book", TOP_BOOK_SIZE, TOP_BOOK_PLACE, pattern.printed_cover(65), spine, 72)


def add_fruit(scene: SceneParts) -> None:
    stem_picture = np.full((4, 4, 3), (0.28, 0.19, 0.10))

    def stem(name: str, place: Sequence[float], length: float) -> None:
        profile = np.array([[0.0016, -0.012], [0.0013, 0.5 * length], [0.0022, length], [0.0, length]])
        scene.add(name, grid_mesh(lathe_points(profile, 13)).moved(*place), stem_picture, gloss=0.4)

    profile = smooth_profile(APPLE_PROFILE, 120)
    points = lathe_points(profile, 121)
    angle = np.arctan2(points[..., 1], points[..., 0])
    points[..., :2] *= (1 + 0.025 * np.cos(5 * angle + 0.5) * (points[..., 2] / 0.06 - 0.2))[..., None]
    p = texel_points(points, (512, 1024))
    turn = np.stack(
        [np.cos(np.arctan2(p[..., 1], p[..., 0])), np.sin(np.arctan2(p[..., 1], p[..., 0])), p[..., 2] * 6], -1
    )
    blush = fbm(p * 22, 80, 3) + 0.5 * (fbm(turn * [14, 14, 1], 81, 3) - 0.5) + 0.22 * turn[..., 0]
    apple = pattern.blend((0.80, 0.68, 0.26), (0.60, 0.09, 0.08), pattern.step(blush, 0.30, 0.62))
    apple = pattern.blend(apple, (0.90, 0.78, 0.50), 0.7 * pattern.step(noise(p * 330, 82), 0.87, 0.93))
    hollow = pattern.step(np.hypot(p[..., 0], p[..., 1]), 0.004, 0.013)
    apple = pattern.blend((0.42, 0.40, 0.16), apple, np.where(p[..., 2] > 0.03, hollow, 1.0))
    place = (0.020, -0.120, CLOTH_THICKNESS, 0)
    scene.add_turned("apple", points, place, apple, gloss=0.12)
    stem("apple_stem", (place[0], place[1], place[2] + 0.056, 40, 14), 0.016)

    profile = smooth_profile(PEAR_PROFILE, 120)
    points = lathe_points(profile, 121)
    points[..., 0] += 0.006 * (points[..., 2] / 0.09) ** 2
    p = texel_points(points, (512, 900))
    pear = pattern.blend((0.62, 0.60, 0.22), (0.80, 0.68, 0.28), fbm(p * 30, 85, 4) * 1.4 - 0.2)
    russet = pattern.step(fbm(p * 70, 86, 4) + 3.5 * np.abs(p[..., 2] - 0.055) - 0.18, 0.48, 0.62)
    pear = pattern.blend(pear, (0.50, 0.33, 0.15), 0.65 * russet)
    pear = pattern.blend(pear, (0.33, 0.25, 0.10), 0.75 * pattern.step(noise(p * 420, 87), 0.80, 0.90))
    x, y, z, _ = TOP_BOOK_PLACE
    place = (x + 0.030, y - 0.052, z + TOP_BOOK_SIZE[2], 160)
    scene.add_turned("pear", points, place, pear, gloss=0.2)
    stem("pear_stem", (place[0] - 0.0056, place[1] + 0.002, place[2] + 0.088, 120, 16), 0.022)

    profile = smooth_profile(ORANGE_PROFILE, 260)
    points = lathe_points(profile, 361)
    centre = np.array([0, 0, 0.036])
    outward = (points - centre) / np.linalg.norm(points - centre, axis=-1, keepdims=True)
    points = points - outward * 0.0006 * pattern.step(noise(points * 700, 90), 0.45, 0.95)[..., None]
    p = texel_points(points, (640, 1024))
    peel = pattern.blend((0.90, 0.50, 0.06), (0.95, 0.62, 0.14), fbm(p * 30, 91, 4))
    peel = pattern.blend(peel, (0.74, 0.36, 0.03), 0.6 * pattern.step(noise(p * 700, 90), 0.6, 0.9))
    peel = pattern.blend(
        (0.30, 0.34, 0.14), peel, pattern.step(np.hypot(p[..., 0], p[..., 1]) + 0.1 * (p[..., 2] < 0.03), 0.003, 0.006)
    )
    scene.add_turned("orange", points, (0.108, -0.150, 0.0, 30), peel, gloss=0.2)


def add_small_things(scene: SceneParts) -> None:
    """A turned pepper mill, a tea tin with a label, and a thread ball."""
    profile = smooth_profile(MILL_PROFILE, 260)
    points = lathe_points(profile, 97)
    p = texel_points(points, (900, 560))
    walnut = pattern.wood(np.stack([p[..., 2], p[..., 0], p[..., 1]], -1), (0.52, 0.31, 0.17), (0.20, 0.10, 0.05), 95)
    place = (-0.185, 0.115, CLOTH_THICKNESS, 0)
    scene.add_turned("mill", points, place, walnut, gloss=0.15)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 40)
    knob = lathe_points(np.stack([0.0085 * np.cos(angle), 0.0085 * np.sin(angle)], -1), 49)
    brass = np.full((4, 4, 3), (0.83, 0.68, 0.40))
    scene.add_turned("mill_knob", knob, (place[0], place[1], place[2] + 0.179, 0), brass, gloss=0.2, metal=True)

    label_size = (560, 1240)
    rows = np.linspace(0, 1, label_size[0])[:, None] + np.zeros(label_size)
    cylinder = lathe_points(np.array([[0.036, z] for z in np.linspace(0.001, 0.096, 8)]), 121)
    p = texel_points(cylinder, label_size)
    label = pattern.blend((0.12, 0.27, 0.23), (0.17, 0.36, 0.30), fbm(p * 60, 100, 4))
    lozenge = np.abs(np.linspace(0, 31, label_size[1])[None, :] % 1 - 0.5) + np.abs(rows * 14 % 1 - 0.5)
    label = pattern.blend(label, (0.80, 0.66, 0.35), 0.8 * ((lozenge < 0.3) & (np.abs(rows - 0.5) > 0.40)))
    label = pattern.blend(label, (0.91, 0.86, 0.72), 1.0 * (np.abs(rows - 0.5) < 0.27))
    ink = (0.40, 0.12, 0.10)
    label = pattern.lettered(
        label, [("HIGHLAND", 0.25, 0.36, 105), ("BLACK TEA", 0.25, 0.52, 92), ("No. 7", 0.25, 0.67, 72)], ink
    )
    lines = [
        ("Brew 4 minutes,", 0.70, 0.34, 54),
        ("pour, and look", 0.70, 0.46, 54),
        ("from every side.", 0.70, 0.58, 54),
        ("net weight 125 g", 0.70, 0.69, 38),
    ]
    label = pattern.lettered(label, lines, (0.15, 0.25, 0.22))
    place = (0.115, 0.215, 0.0, -160)
    scene.add_turned("tin", cylinder, place, label, gloss=0.15)
    lid = smooth_profile(LID_PROFILE, 60)
    scatter = np.full((64, 64, 3), (0.80, 0.70, 0.48)) * (0.85 + 0.3 * np.random.default_rng(101).random((64, 64, 1)))
    scene.add_turned("tin_lid", lathe_points(lid, 97), place, scatter, gloss=0.28, metal=True)

    angle = np.linspace(-np.pi / 2, np.pi / 2, 90)
    ball = lathe_points(np.stack([0.034 * np.cos(angle), 0.034 * np.sin(angle)], -1), 161)
    p = texel_points(ball, (640, 1280)) / 0.034
    thread = np.full(p.shape, (0.22, 0.12, 0.30))
    axes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 1.0
    dyes = [
        (0.90, 0.72, 0.25),
        (0.80, 0.25, 0.28),
        (0.90, 0.88, 0.82),
        (0.20, 0.55, 0.52),
        (0.92, 0.50, 0.32),
        (0.60, 0.72, 0.85),
        (0.85, 0.45, 0.60),
    ]
    for axis, dye in zip(axes, dyes, strict=True):
        height = np.abs(p @ (axis / np.linalg.norm(axis)))
        strands = 0.62 + 0.38 * np.abs(np.sin(height * 90))
        thread = np.where((height < 0.125)[..., None], np.asarray(dye) * strands[..., None], thread)
    thread = thread * (0.75 + 0.5 * fbm(p * 30, 105, 2)[..., None])
    scene.add_turned("ball", ball, (-0.062, -0.175, 0.034 + CLOTH_THICKNESS, 25, 30), thread, gloss=None)


# --- The room ---------------------------------------------------------------------------------------------------------


def add_room(scene: SceneParts) -> None:
    half = ROOM_HALF_SIZE
    floor = pattern.planks(
        pattern.plane_points(2 * half, 2 * half, (900, 900)), 0.14, (0.58, 0.42, 0.28), (0.33, 0.21, 0.13), 120
    )
    scene.add("floor", box((2 * half, 2 * half, 0.02), (0, 0, FLOOR_HEIGHT - 0.01)), floor, gloss=0.3)
    for index in range(4):
        picture = pattern.wallpaper(2 * half, FLOOR_HEIGHT, WALL_TOP, (470, 1010), 130 + index)
        sheet = np.array(
            [[[-half, half, z] for z in (FLOOR_HEIGHT, WALL_TOP)], [[half, half, z] for z in (FLOOR_HEIGHT, WALL_TOP)]]
        )
        scene.add(f"wall{index}", grid_mesh(sheet).moved(0, 0, 0, 90 * index), picture)
    add_bookcase(scene)
    palettes = [
        ((0.80, 0.62, 0.45), (0.93, 0.84, 0.66), (0.96, 0.90, 0.70), (0.55, 0.42, 0.42), (0.16, 0.18, 0.20)),
        ((0.36, 0.50, 0.62), (0.80, 0.84, 0.80), (0.97, 0.93, 0.82), (0.42, 0.52, 0.46), (0.13, 0.20, 0.12)),
        ((0.22, 0.24, 0.38), (0.75, 0.50, 0.45), (0.95, 0.75, 0.45), (0.35, 0.28, 0.40), (0.10, 0.09, 0.14)),
        ((0.60, 0.66, 0.62), (0.90, 0.88, 0.78), (0.85, 0.40, 0.25), (0.62, 0.55, 0.38), (0.25, 0.20, 0.12)),
    ]
    gilt = np.full((8, 8, 3), (0.45, 0.32, 0.16)) * (0.8 + 0.4 * np.random.default_rng(140).random((8, 8, 1)))
    for index, (wall, along, width, palette) in enumerate(
        zip((90, 90, 180, 180), (-0.75, 0.55, -0.70, 0.75), (0.95, 0.62, 0.70, 0.90), palettes, strict=True)
    ):
        height = 0.62
        frame = box((width + 0.09, 0.03, height + 0.09), (along, half - 0.016, 0.42)).moved(0, 0, 0, wall)
        scene.add(f"frame{index}", frame, gilt, gloss=0.3)
        canvas = box((width, 0.034, height), (along, half - 0.018, 0.42)).moved(0, 0, 0, wall)
        scene.add(
            f"painting{index}", canvas, pattern.landscape(int(width * 320), int(height * 320), 150 + 7 * index, palette)
        )
    add_curtain(scene)


def add_bookcase(scene: SceneParts) -> None:
    """Two shelves of books along one wall; one mesh and one picture, a strip of the picture per book."""
    rng = np.random.default_rng(160)
    y = ROOM_HALF_SIZE - 0.15
    boards = [box((2.6, 0.26, 0.025), (0, y, z)) for z in (-0.42, -0.02, 0.40)] + [
        box((0.025, 0.26, 1.14), (x, y, -0.16)) for x in (-1.3, 1.3)
    ]
    boards.append(box((2.6, 0.01, 0.84), (0, y + 0.12, -0.01)))
    shelf = pattern.wood(pattern.plane_points(2.6, 0.3, (160, 700)), (0.45, 0.30, 0.18), (0.25, 0.15, 0.08), 161)
    scene.add("bookcase", merged(boards), shelf, gloss=0.3)
    strips, books = [], []
    spans = []
    for level in (-0.4075, -0.0075):
        x = -1.27
        while x < 1.22:
            thickness = rng.uniform(0.022, 0.055)
            spans.append((level, x, thickness, rng.uniform(0.24, 0.35)))
            x += thickness + (rng.uniform(0.02, 0.16) if rng.random() < 0.08 else 0.001)
    for index, (level, x, thickness, height) in enumerate(spans):
        hue = np.array(
            [
                (0.50, 0.16, 0.14),
                (0.15, 0.24, 0.36),
                (0.82, 0.74, 0.58),
                (0.22, 0.35, 0.25),
                (0.62, 0.42, 0.18),
                (0.20, 0.16, 0.15),
            ]
        )
        strip = np.full((120, 10, 3), hue[rng.integers(6)] * rng.uniform(0.7, 1.15))
        ink = np.array((0.85, 0.72, 0.42)) if rng.random() < 0.6 else np.array((0.92, 0.90, 0.85))
        for row in rng.integers(6, 112, 4):
            strip[row : row + rng.integers(2, 9), 1:-1] = ink * rng.uniform(0.6, 1.0)
        strips.append(strip)
        columns = ((index + 0.05) / len(spans), (index + 0.95) / len(spans))
        books.append(box((thickness, 0.19, height), (x + thickness / 2, y + 0.01, level + height / 2), columns))
    scene.add("shelf_books", merged(books), np.concatenate(strips, axis=1), gloss=0.35)


def add_curtain(scene: SceneParts) -> None:
    """A striped, folded curtain along the wall at positive x."""
    along = np.linspace(-1.9, 1.9, 700)[:, None]
    height = np.linspace(FLOOR_HEIGHT + 0.02, WALL_TOP, 12)[None, :]
    flow = np.stack([along + 0 * height, 0 * along + 0.3 * height, 0 * (along + height)], -1)
    depth = (
        0.045
        * np.sin(along * 2 * np.pi / 0.19 + 5 * fbm(flow * [2.5, 1, 1], 170, 3))
        * (0.75 + 0.5 * noise(flow * 5, 171))
    )
    points = np.stack([ROOM_HALF_SIZE - 0.1 + depth, -along + 0 * height, height + 0 * along], -1)
    size = (420, 1600)
    p = pattern.plane_points(3.8, WALL_TOP - FLOOR_HEIGHT, size)
    cloth = pattern.blend((0.72, 0.66, 0.54), (0.80, 0.75, 0.64), fbm(p * [60, 20, 1], 172, 4))
    rng = np.random.default_rng(173)
    for _ in range(90):
        x, width = rng.uniform(-1.9, 1.9), rng.uniform(0.006, 0.03)
        dye = np.array([(0.50, 0.22, 0.18), (0.25, 0.35, 0.42), (0.70, 0.50, 0.25)])[rng.integers(3)]
        cloth = pattern.blend(cloth, dye, 0.85 * (np.abs(p[..., 0] - x) < width / 2))
    sprigs = pattern.step(fbm(p * 16, 174, 2), 0.62, 0.66)
    scene.add("curtain", grid_mesh(points), pattern.blend(cloth, (0.36, 0.40, 0.30), 0.8 * sprigs))


def add_light(scene: SceneParts) -> None:
    """A tall window high on the left wall, above what any camera sees, and soft light from an open ceiling."""
    mi = scene.mi
    panes = np.zeros((96, 128, 3), dtype=np.float32)
    rows, columns = np.meshgrid(np.arange(96), np.arange(128), indexing="ij")
    glass = (np.abs(rows % 48 - 23.5) < 22) & (np.abs(columns % 43 - 21) < 19.5)
    panes[glass] = np.array((1.0, 0.97, 0.92), dtype=np.float32)
    panes *= (0.75 + 0.5 * (1 - rows[..., None] / 95)).astype(np.float32)
    to_world = mi.ScalarTransform4f().look_at(
        origin=[-ROOM_HALF_SIZE + 0.02, 0.25, 1.35], target=[0, 0, 0.1], up=[0, 0, 1]
    )
    scene.parts["window"] = {
        "type": "rectangle",
        "to_world": to_world @ mi.ScalarTransform4f().scale([1.0, 0.75, 1]),
        "emitter": {"type": "area", "radiance": {"type": "bitmap", "bitmap": mi.Bitmap(panes * 27), "raw": True}},
        "blank": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}},
    }
    elevation = np.linspace(90, -90, 64)[:, None]
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)[None, :]
    # Below the walls' top edge it is black, so that no light is sampled where the walls would block it.
    ceiling = (0.58 + 0.18 * np.cos(turn)) * (elevation > 18)
    sky = (ceiling[..., None] * np.array([1.0, 0.98, 0.95])).astype(np.float32)
    upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    scene.parts["ceiling"] = {"type": "envmap", "bitmap": mi.Bitmap(sky), "to_world": upright}


def build_scene(mitsuba: Any) -> Any:
    scene = SceneParts(mitsuba)
    for add in (add_table, add_jar, add_bowl_of_eggs, add_books, add_fruit, add_small_things, add_room, add_light):
        add(scene)
    return mitsuba.load_dict(scene.parts)
