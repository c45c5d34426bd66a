# SPDX-License-Identifier: Apache-2.0
"""Bad input, and the commands that get it: the rows of docs/bad-input.md, which bad_inputs.py writes."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import bad_input_files as files

NOBODY = 65534
"""A user without rights, who stands in where root runs this."""
FULL_DISK_BYTES = 200
"""Beyond which no file grows where a disk is full."""


@dataclass(frozen=True)
class Case:
    """An input and the command that gets it."""

    what: str
    """In the page's table."""
    command: str
    """As typed in the folder where the input is."""
    make: Callable[[Path], object] = lambda folder: None
    """Puts the input into an empty folder."""
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """What the command runs in."""


# ------------------------------------------------------------------------------------------------------ surroundings


@contextlib.contextmanager
def full_disk() -> Generator[None, None, None]:
    """No file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def without_rights() -> Generator[None, None, None]:
    """As a user whom the system refuses what it would not refuse root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def without_keys() -> Generator[None, None, None]:
    """Nobody is logged in to a service, and nobody can be asked."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "COMET_"))}
    hidden |= {"HOME": "/nonexistent", "NETRC": "/nonexistent"}
    with mock.patch.dict(os.environ, hidden, clear=True), mock.patch("sys.stdin", io.StringIO()):
        yield


@contextlib.contextmanager
def taken_port(port: int = 17007) -> Generator[None, None, None]:
    """Another program listens there."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


# ------------------------------------------------------------------------------------------------------------- inputs


def put(name: str, contents: bytes | str = b"") -> Callable[[Path], object]:
    """A file of this name."""
    data = contents.encode() if isinstance(contents, str) else contents
    return lambda folder: (folder / name).write_bytes(data)


def folder_named(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).mkdir()


def pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: files.fifo(folder / name)


def posed(**changes: object) -> Callable[[Path], object]:
    """The folder `photos` with poses, something of which is changed."""
    return lambda folder: files.write_posed(folder / "photos", **changes)


def sound_splats(name: str = "scene.ply") -> Callable[[Path], object]:
    return put(name, files.splat_ply())


def cut_splats(ending: str) -> Callable[[Path], object]:
    return lambda folder: files.cut_off(files.splats(folder, ending))


def changed_gltf(part: str, change: dict[str, object]) -> Callable[[Path], object]:
    """A glTF of splats with something else in one of its parts, such as all its "accessors"."""

    def make(folder: Path) -> None:
        path = files.splats(folder, ".gltf")
        files.edit_json(path, lambda scene: [entry.update(change) for entry in scene[part]])

    return make


def forbidden(make: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """What the user may not read."""

    def made(folder: Path) -> None:
        make(folder)
        folder.chmod(0o755)
        (folder / name).chmod(0)

    return made


def run_of(**changes: str) -> Callable[[Path], object]:
    """A run on `photos` as ns-train leaves it: RUN/config.yml, and a checkpoint.

    Args:
        changes: "method_name", or "checkpoint": contents of one.
    """

    def make(folder: Path) -> None:
        from copy import deepcopy

        from img3d_methods.specs import img3d_splat

        files.write_posed(folder / "photos")
        config = deepcopy(img3d_splat.config)
        config.method_name = changes.get("method_name", config.method_name)
        config.output_dir, config.experiment_name, config.timestamp = folder / "outputs", "photos", "now"
        config.pipeline.datamanager.data = folder / "photos"
        config.save_config()
        if "checkpoint" in changes:
            config.get_checkpoint_dir().mkdir()
            (config.get_checkpoint_dir() / "step-000000009.ckpt").write_text(changes["checkpoint"])

    return make


def run_without_photos(folder: Path) -> None:
    run_of(checkpoint="")(folder)
    shutil.rmtree(folder / "photos")


RUN = "outputs/photos/img3d-splat/now"
CONVERT = "img3d-export splat --output out.spz --input"
SPLATS = [
    Case("no such file", f"{CONVERT} gone.ply"),
    Case("an empty file", f"{CONVERT} scene.ply", put("scene.ply")),
    Case("a folder", f"{CONVERT} scene.ply", folder_named("scene.ply")),
    Case("a pipe that nobody writes to", f"{CONVERT} scene.ply", pipe("scene.ply")),
    Case("another kind of file", f"{CONVERT} scene.ply", put("scene.ply", "hello, I am a text\n")),
    Case(
        "a file that the user may not read",
        f"{CONVERT} scene.ply",
        forbidden(sound_splats(), "scene.ply"),
        without_rights,
    ),
    Case("a PLY that is cut off", f"{CONVERT} scene.ply", put("scene.ply", files.splat_ply()[:3000])),
    Case("a PLY that claims 2³¹−1 Gaussians", f"{CONVERT} scene.ply", put("scene.ply", files.splat_ply(9, files.MANY))),
    Case("a PLY of points", f"{CONVERT} points.ply", put("points.ply", files.point_ply())),
    Case(
        "a .ksplat of 5 kB that claims 2³¹−1 buckets",
        f"{CONVERT} scene.ksplat",
        put("scene.ksplat", files.ksplat_with_lying_buckets()),
    ),
    Case("a .splat of a length that none has", f"{CONVERT} scene.splat", put("scene.splat", bytes(33))),
    Case("an .spz that is cut off", f"{CONVERT} scene.spz --force", cut_splats(".spz")),
    Case(
        "an .spz of 80 bytes that claims 50 million Gaussians",
        f"{CONVERT} scene.spz",
        put("scene.spz", files.spz(50_000_000, bytes(64))),
    ),
    Case(
        "a .sog that is encrypted", f"{CONVERT} scene.sog", lambda folder: files.encrypt(files.splats(folder, ".sog"))
    ),
    Case("a .sog that is cut off", f"{CONVERT} scene.sog", cut_splats(".sog")),
    Case("a SOG whose meta.json is 100,000 brackets", f"{CONVERT} meta.json", put("meta.json", files.NESTED)),
    Case(
        "a SOG that names a file outside its folder",
        f"{CONVERT} sog/meta.json",
        lambda folder: files.sog_folder(folder, lambda meta: meta["means"].update(files=["../a.webp", "../a.webp"])),
    ),
    Case(
        "a glTF that names a file outside its folder",
        f"{CONVERT} scene.gltf",
        changed_gltf("buffers", {"uri": "%2e%2e/secret.bin"}),
    ),
    Case(
        "a glTF that claims 50 million Gaussians in one place (byteStride 0)",
        f"{CONVERT} scene.gltf",
        lambda folder: (
            changed_gltf("accessors", {"count": 50_000_000})(folder),
            files.edit_json(
                folder / "scene.gltf", lambda scene: [view.update(byteStride=0) for view in scene["bufferViews"]]
            ),
        ),
    ),
    Case("a .glb that is cut off", f"{CONVERT} scene.glb", cut_splats(".glb")),
    Case("an output of an unknown ending", "img3d-export splat --input scene.ply --output out.doc", sound_splats()),
    Case(
        "an output that already exists",
        "img3d-export splat --input scene.ply --output scene.spz",
        lambda folder: (sound_splats()(folder), put("scene.spz")(folder)),
    ),
    Case(
        "an output in a folder that is a file",
        "img3d-export splat --input scene.ply --output notes/out.spz",
        lambda folder: (sound_splats()(folder), put("notes")(folder)),
    ),
    Case(
        "a disk that is full (here a limit on the size of files)",
        "img3d-export splat --input scene.ply --output out.ply",
        sound_splats(),
        full_disk,
    ),
    Case("a crop that leaves nothing", f"{CONVERT} scene.ply --crop-min 1e9 1e9 1e9", sound_splats()),
]
OPTIONS = [
    Case("neither a run nor a file", "img3d-export splat --output out.spz"),
    Case("a required option left out", "img3d-export splat --input scene.ply"),
    Case("a mistyped option", f"{CONVERT} scene.ply --sh-degre 1"),
    Case("a word for a number", f"{CONVERT} scene.ply --sh-degree two"),
    Case("a choice that there is not", "img3d-export mesh --output a.glb --input scene.ply --surface marching"),
    Case("a subcommand that there is not", "img3d-export splats"),
    Case("no subcommand", "img3d-photos"),
    Case("weights that nobody knows", "img3d-weights fetch lgm-huge"),
]
PHOTOS = [
    Case("no such folder", "img3d-photos inspect gone"),
    Case("an empty folder", "img3d-photos inspect photos", folder_named("photos")),
    Case("a file of another kind", "img3d-photos inspect notes.txt", put("notes.txt", "hello")),
    Case("a pipe that nobody writes to", "img3d-photos inspect pipe", pipe("pipe")),
    Case(
        "a folder that the user may not read",
        "img3d-photos inspect photos",
        forbidden(posed(), "photos"),
        without_rights,
    ),
    Case(
        "photos of which all are cut off",
        "img3d-photos inspect photos",
        lambda folder: files.write_photos(folder / "photos", 4, keep_bytes=100),
    ),
    Case("one photo", "img3d-photos inspect photos", lambda folder: files.write_photos(folder / "photos", 1)),
    Case("a video that is none", "img3d-photos inspect clip.mp4", put("clip.mp4", "hello")),
    Case(
        "a transforms.json that is cut off",
        "img3d-photos inspect photos",
        lambda folder: (posed()(folder), files.cut_off(folder / "photos" / "transforms.json")),
    ),
    Case(
        "a transforms.json of 100,000 brackets",
        "img3d-photos inspect photos",
        lambda folder: (posed()(folder), (folder / "photos" / "transforms.json").write_text(files.NESTED)),
    ),
    Case(
        "a transforms.json of something else",
        "img3d-photos inspect photos",
        lambda folder: (posed()(folder), (folder / "photos" / "transforms.json").write_text("[1, 2]")),
    ),
    Case("a transforms.json without a focal length", "img3d-photos inspect photos", posed(fl_x=None, fl_y=None)),
    Case(
        "poses whose photos are gone",
        "img3d-photos inspect photos",
        lambda folder: (posed()(folder), shutil.rmtree(folder / "photos" / "images")),
    ),
    Case(
        "a COLMAP model that claims 2⁶³ cameras",
        "img3d-photos inspect photos",
        lambda folder: files.write_lying_colmap(folder / "photos"),
    ),
    Case(
        "a poses_bounds.npy that claims 10¹² photos",
        "img3d-photos inspect photos",
        lambda folder: files.write_lying_llff(folder / "photos"),
    ),
]
RUNS = [
    Case("no such config.yml", "ns-eval --load-config gone.yml"),
    Case("the run's folder instead", f"ns-viewer --load-config {RUN}", run_of()),
    Case(
        "a pipe that nobody writes to",
        "ns-render camera-path --load-config pipe --camera-path-filename a.json",
        pipe("pipe"),
    ),
    Case("an empty config.yml", "ns-eval --load-config config.yml", put("config.yml")),
    Case("a YAML file of something else", "ns-viewer --load-config config.yml", put("config.yml", "a: 1\n")),
    Case(
        "no YAML", "ns-export gaussian-splat --output-dir out --load-config config.yml", put("config.yml", "[unclosed")
    ),
    Case(
        "a binary file",
        "img3d-export report --output a.html --load-config config.yml",
        put("config.yml", b"\xff\xfe\x00"),
    ),
    Case(
        "a configuration of a program that is not installed",
        "ns-eval --load-config config.yml",
        put("config.yml", "!!python/object:no.such.Class {}\n"),
    ),
    Case(
        "a run of a method that is not installed",
        "ns-eval --load-config outputs/photos/other-method/now/config.yml",
        run_of(method_name="other-method"),
    ),
    Case("a run that has saved nothing", f"img3d-export splat --output a.ply --load-config {RUN}/config.yml", run_of()),
    Case("a run whose checkpoint is damaged", f"ns-eval --load-config {RUN}/config.yml", run_of(checkpoint="damaged")),
    Case("a run whose photos were moved", f"ns-eval --load-config {RUN}/config.yml", run_without_photos),
    Case("no --load-config", "ns-viewer"),
]
TRAIN = "ns-train img3d-splat --data photos"
TRAINING = [
    Case("no such folder", "ns-train img3d-splat --data gone"),
    Case("an empty folder", TRAIN, folder_named("photos")),
    Case("a mistyped method", "ns-train img3d-splatt --data photos", posed()),
    Case("no method", "ns-train"),
    Case("photos without --data", "ns-train img3d-splat photos", posed()),
    Case("a mistyped option", f"{TRAIN} --max-num-iteration 100", posed()),
    Case("an option of the data parser before its name", f"{TRAIN} --max-image-size 400", posed()),
    Case("a word for a number", f"{TRAIN} --max-num-iterations many", posed()),
    Case("a choice that there is not", f"{TRAIN} --vis tv", posed()),
    Case("nothing left to train on", f"{TRAIN} img3d-photos --eval-interval 1", posed()),
    Case(
        "a folder for runs that is a file",
        f"{TRAIN} --output-dir notes --timestamp now",
        lambda folder: (posed()(folder), put("notes")(folder)),
    ),
    Case("a port that is in use", f"{TRAIN} --viewer.websocket-port 17007", posed(), taken_port),
    Case("no checkpoint to go on from", f"{TRAIN} --vis tensorboard --load-dir photos", posed()),
    Case("Weights & Biases without a key", f"{TRAIN} --vis wandb", posed(), without_keys),
    Case("Comet without a key", f"{TRAIN} --vis comet", posed(), without_keys),
    Case("an image that is none", "ns-train img3d-object --data chair.png", put("chair.png", "hello")),
]
SECTIONS = {
    "Splat files": SPLATS,
    "Photos": PHOTOS,
    "Options of img3d's commands": OPTIONS,
    "Runs": RUNS,
    "Training": TRAINING,
}
"""The page's, all of which run in this process."""
