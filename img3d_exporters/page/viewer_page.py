# SPDX-License-Identifier: Apache-2.0
"""A page that shows Gaussians in any current browser, from a disk or any web server, self-contained and offline.

The renderer is PlayCanvas's SuperSplat viewer (`@playcanvas/supersplat-viewer` and `playcanvas`, MIT, from npm at
the versions in `web/package.json`). Compared in November 2026, all MIT:

- SuperSplat is the only complete viewer: orbit and fly with mouse, keyboard, touch and gamepad, on-screen help, a
  progress bar, nine languages; the others are libraries. It supports spherical harmonics up to degree 3, reads
  compressed PLY, sorts several splat objects together (so that parts can join a scene already shown), and its sorter is
  plain JavaScript in a worker made from a blob: nothing is fetched, so file:// works. 2.0 MB with the engine (0.5 MB
  gzipped); releases every few weeks.
- Spark (`@sparkjsdev/spark`): equally well maintained, with the same quality; 2.7 MB without three.js, and minimal
  controls.
- `@mkkellogg/gaussian-splats-3d`: its author recommends Spark for new projects; its better sorter needs
  SharedArrayBuffer, which pages from file:// do not have.

The page uses WebGL 2, which every current browser supports, also on file://. A Content-Security-Policy forbids it to
load anything from elsewhere.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_formats.compressed_ply import compressed_ply
from img3d_base.errors import InputError
from img3d_methods.viewing.initial_view import InitialView

ASSETS = Path(__file__).parents[1] / "viewer_assets"
"""Output of `make viewer-page` (or of building the wheel) from `web/`: viewer.js, viewer.css, LICENSES.txt."""
TEMPLATE = Path(__file__).parents[1] / "web" / "index.html"
OURS = '<meta name="generator" content="img3d-export viewer" />'
"""Marks our own pages, which may be replaced, unlike other folders."""
FIRST_PART, PART = 32_768, 131_072
"""Number of Gaussians in the part that is shown first (1.2 MB at most), and in each of the others."""
EULER: dict[UpAxis, tuple[int, int, int]] = {"z": (-90, 0, 0), "y": (0, 0, 0), "-y": (0, 0, 180)}
"""TO_Y_UP as the renderer takes it: degrees about x, y, z."""


@dataclass
class PageScene:
    """The content of a page."""

    title: str
    splats: Gaussians
    up: UpAxis
    view: InitialView
    background: tuple[float, float, float]
    """RGB in [0, 1]."""
    antialiased: bool = False
    """Whether the Gaussians were trained with gsplat's rasterize_mode "antialiased" (Mip-Splatting's 2D filter)."""
    mesh: bytes | None = None
    """A GLB of the same scene, with y up, which a button of the page shows instead."""


def view_of_everything(splats: Gaussians, up: UpAxis) -> InitialView:
    """A view from the front and slightly above, from which most Gaussians are visible."""
    fov = 50.0
    center = np.median(splats.means, axis=0).astype(np.float64)
    radius = max(float(np.quantile(np.linalg.norm(splats.means - center, axis=1), 0.9)), 1e-3)
    offset = np.array([0.0, 0.3, 1.0]) * (radius / math.sin(math.radians(fov / 2)))
    return InitialView(center + TO_Y_UP[up].T @ offset, center, fov)


def split_by_importance(splats: Gaussians) -> list[Int64[np.ndarray, "_"]]:
    """Indices of the Gaussians of each part, each once, the most important first.

    The first part also contains the outermost ones, since the renderer takes the scene's extent, and thus the
    camera's clipping planes, from what it loads first.
    """
    reach = 3 * np.exp(np.minimum(splats.log_scales.max(axis=1), 20))[:, None]
    outermost = np.unique([(splats.means - reach).argmin(axis=0), (splats.means + reach).argmax(axis=0)])
    rank = splats.importance()
    rank[outermost] = np.inf
    order = np.argsort(-rank, kind="stable")
    return np.split(order, range(FIRST_PART, len(order), PART))


def write_page(scene: PageScene, output_dir: Path, single_file: bool) -> list[Path]:
    """Writes the page, whole or not at all.

    Args:
        scene: The content; at least one Gaussian, all finite.
        output_dir: The folder; made, or replaced if it is one of our pages.
        single_file: Put everything into index.html.

    Returns:
        The written files.

    Raises:
        InputError: The renderer is not built, or the folder holds something else or cannot be written.
    """
    check_assets()
    check_replaceable(output_dir)
    files = page_files(scene, single_file)
    try:
        output_dir.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output_dir.absolute().parent, prefix=f".{output_dir.name}.") as temporary:
            partial, old = Path(temporary) / "new", Path(temporary) / "old"
            partial.mkdir()
            for name, contents in files.items():
                (partial / name).write_bytes(contents)
            if output_dir.exists():
                os.replace(output_dir, old)
            os.replace(partial, output_dir)
    except OSError as error:
        raise InputError(f"The page cannot be written to {output_dir}: {error.strerror or error}.") from error
    return [output_dir / name for name in files]


def check_assets() -> None:
    """Raises InputError if the renderer is not built, with the command that builds it."""
    if not all((ASSETS / name).is_file() for name in ("viewer.js", "viewer.css", "LICENSES.txt")):
        raise InputError(
            "The viewer page's renderer is not built (img3d was installed without Node or without network): run "
            "`make viewer-page` in img3d's source folder, which needs Node 18 or later and npm, once."
        )


def check_replaceable(output_dir: Path) -> None:
    """Raises InputError if the folder holds anything but one of our pages."""
    if not output_dir.exists():
        return
    if not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file: give --output-dir a folder.")
    if output_dir.resolve() == Path.cwd():
        raise InputError("--output-dir is the current folder: give a new one, which the page replaces completely.")
    names = sorted(path.name for path in output_dir.iterdir())
    index = output_dir / "index.html"
    ours = index.is_file() and OURS in index.read_text(errors="replace")[:2000]
    known = {"index.html", "scene.js", "viewer.js", "viewer.css", "mesh.js", "LICENSES.txt"}
    foreign = [name for name in names if not (ours and (name in known or name.startswith("splats-")))]
    if foreign:
        raise InputError(
            f"{output_dir} holds files that are not a viewer page's ({foreign[0]}): give --output-dir a new folder."
        )


def read_glb(path: Path) -> bytes:
    """Reads a binary glTF file.

    Raises:
        InputError: The file cannot be read or is not a complete GLB.
    """
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    # https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html#binary-header
    if contents[:4] != b"glTF" or int.from_bytes(contents[8:12], "little") != len(contents):
        raise InputError(
            f"{path} is not a complete .glb file, the only format that the page can show: write one with "
            "`img3d-export mesh --output NAME.glb`."
        )
    return contents


def page_files(scene: PageScene, single_file: bool) -> dict[str, bytes]:
    """The contents of the page's files, by name."""
    parts = [
        gzip.compress(compressed_ply(scene.splats[part]), 4, mtime=0) for part in split_by_importance(scene.splats)
    ]
    scripts = {
        "scene.js": f"window.img3dScene = {_json(_description(scene, parts))};".encode(),
        "viewer.js": (ASSETS / "viewer.js").read_bytes(),
    }
    for i, part in enumerate(parts):
        scripts[f"splats-{i}.js"] = b'img3d.part(%d, "%s");' % (i, base64.b64encode(part))
    if scene.mesh is not None:
        scripts["mesh.js"] = b'img3d.mesh("%s");' % base64.b64encode(scene.mesh)
    style = (ASSETS / "viewer.css").read_bytes()
    licenses = (ASSETS / "LICENSES.txt").read_bytes()

    slots = {
        "title": html.escape(scene.title).encode(),
        "background": "rgb({:.0f}, {:.0f}, {:.0f})".format(*(255 * channel for channel in scene.background)).encode(),
    }
    if not single_file:
        slots["style"] = b'<link rel="stylesheet" href="viewer.css" />'
        slots["scripts"] = "\n        ".join(f'<script src="{name}"></script>' for name in scripts).encode()
        return {"index.html": _fill(slots), "viewer.css": style, "LICENSES.txt": licenses, **scripts}
    slots["style"] = b"<style>" + style + b"</style>"
    slots["scripts"] = b"\n".join(
        [
            *(b"<script>" + script + b"</script>" for script in scripts.values()),
            b"<!--\nThis page contains:\n\n" + licenses.replace(b"--", b"- -") + b"\n-->",
        ]
    )
    return {"index.html": _fill(slots)}


def _fill(slots: dict[str, bytes]) -> bytes:
    """The template with each `<!--name-->` replaced; all at once, since the inserted text may look like a
    placeholder."""
    return re.sub(rb"<!--(\w+)-->", lambda match: slots[match[1].decode()], TEMPLATE.read_bytes())


def view_settings(view: InitialView, up: UpAxis, background: tuple[float, float, float]) -> dict[str, object]:
    """The settings.json of PlayCanvas's viewer, version 2."""
    to_page = TO_Y_UP[up]
    initial = {
        "position": (to_page @ view.position).tolist(),
        "target": (to_page @ view.target).tolist(),
        "fov": view.fov,
    }
    return {
        "version": 2,
        "tonemapping": "none",  # the Gaussians have the photos' colours
        "highPrecisionRendering": False,
        "background": {"color": list(background)},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 1, "blurLevel": 2},
            "grading": {"enabled": False, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0.5},
        },
        "animTracks": [],
        "cameras": [{"initial": initial}],
        "annotations": [],
        "startMode": "default",
    }


def _description(scene: PageScene, parts: list[bytes]) -> dict[str, object]:
    return {
        "settings": view_settings(scene.view, scene.up, scene.background),
        "rotation": EULER[scene.up],
        "antialiased": scene.antialiased,
        "parts": [{"bytes": len(part)} for part in parts],
        "meshBytes": len(scene.mesh or b""),
    }


def _json(value: object) -> str:
    """JSON for a script inside a page, without any `</script>`."""
    return json.dumps(value).replace("<", "\\u003c")
