# SPDX-License-Identifier: Apache-2.0
"""The registry of generators: rows of ours and of other packages, which cannot break anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
import trimesh
from hang_limit import HANG_SECONDS
from object_image import write_object_image

from img3d_base.errors import InputError
from img3d_generators import registry
from img3d_generators.guidance.rows import ROWS as GUIDANCES
from img3d_generators.pairing import about, better_than, choose, networks_for
from img3d_generators.registry import Generator, generators, row, rows
from img3d_generators.rows import SMALL_GENERATOR
from img3d_generators.weights.checkpoints import checkpoint, checkpoints

COMMANDS = Path(sys.executable).parent
TOOLS = Path(__file__).resolve().parents[2] / "tools"

TOY = """
from pathlib import Path

from img3d_generators.registry import Generator, InputView

TOY = Generator(
    name="toy",
    title="one grey ball, whatever the image",
    takes="image",
    gives="Gaussians",
    load="toy_generator.network:load",
    checkpoints=("toy-weights",),
    input=InputView(border_ratio=0.3, fov=49.1, radius=1.5),
    configs=Path(__file__).with_name("configs"),
    rank=-1,
)
CARVES = Generator(name="carves", title="a cube", takes="text", gives="Mesh", load="toy_generator.network:load_mesh")
SAYS = Generator(name="says", title="a text", takes="text", gives="Gaussians", load="toy_generator.network:load_text")
"""
NETWORK = """
import numpy as np

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_generators.weights.weight_files import to_use


def load(name):
    radius = float((to_use("toy-weights") / "ball.txt").read_text())
    return lambda image, seed: ball(radius)


def load_text(name):
    return lambda text, seed: ball(len(text) / 10)


def load_mesh(name):
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]])
    return lambda text, seed: Mesh(corners, faces, np.full((8, 3), len(text) / 16, np.float32), up="y")


def ball(radius):
    return Gaussians(
        means=np.zeros((1, 3), np.float32),
        quats=np.array([[1, 0, 0, 0]], np.float32),
        log_scales=np.full((1, 3), np.log(radius), np.float32),
        opacities=np.full(1, 3, np.float32),
        sh_dc=np.zeros((1, 3), np.float32),
        sh_rest=np.zeros((1, 0, 3), np.float32),
        up="y",
    )
"""
WEIGHTS = """
name: toy-weights
kind: toy
title: a ball's radius
licence: CC0-1.0
files:
  - path: ball.txt
"""
ENTRY_POINTS = """
[img3d.generators]
broken = toy_generator.nothing:ROW
carves = toy_generator.row:CARVES
no-row = toy_generator:__name__
says = toy_generator.row:SAYS
toy = toy_generator.row:TOY

[nerfstudio.method_configs]
img3d-carves = img3d_methods.specs:img3d_carves
img3d-toy = img3d_methods.specs:img3d_toy
img3d-unheard-of = img3d_methods.specs:img3d_unheard_of
"""


@pytest.fixture(scope="module")
def with_toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which a package with a toy generator, and two broken rows, is installed."""
    site = tmp_path_factory.mktemp("site")
    package = site / "toy_generator"
    for path, text in {
        package / "__init__.py": "",
        package / "row.py": TOY,
        package / "network.py": NETWORK,
        package / "configs" / "toy-weights.yaml": WEIGHTS,
        package / "configs" / "damaged.yaml": "kind: toy\n",
        package / "ball.txt": "0.3",
        site / "toy_generator-1.0.dist-info" / "METADATA": "Metadata-Version: 2.1\nName: toy-generator\nVersion: 1.0\n",
        site / "toy_generator-1.0.dist-info" / "entry_points.txt": ENTRY_POINTS,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "IMG3D_WEIGHTS": str(site / "no weights"), "COLUMNS": "200"}


def run(*command: str, env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=HANG_SECONDS, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-2000:]
    return printed


class TestOtherPackages:
    def test_a_toy_is_in_the_list_of_weights_and_broken_rows_cost_one_line_each(self, with_toy: dict[str, str]) -> None:
        printed = run(str(COMMANDS / "img3d-weights"), "list", env=with_toy)
        assert "toy-weights" in printed and "comes with toy_generator" in printed and "a ball's radius" in printed
        assert "lgm-big" in printed
        assert "says" in printed and "needs no weights" in printed
        warnings = [line for line in printed.splitlines() if line.startswith("Warning: ")]
        assert len(warnings) == 3, warnings
        assert sum("the generators of toy-generator" in line for line in warnings) == 2
        assert sum("damaged.yaml is left out" in line for line in warnings) == 1

    def test_generate_makes_it(self, with_toy: dict[str, str], tmp_path: Path) -> None:
        image = write_object_image(tmp_path / "a.png")
        script = (
            "from img3d_generators import generate\n"
            f"made = generate('toy', {str(image)!r}); made.save({str(tmp_path / 'a.ply')!r})\n"
            "print('RADII', made.log_scales[0, 0], generate('says', 'ten chars.').log_scales[0, 0])\n"
            f"print('BEST', len(generate('object', {str(image)!r})))\n"
        )
        printed = run(sys.executable, "-c", script, env=with_toy)
        assert "RADII -1.203" in printed and " 0.0\n" in printed
        assert int(printed.partition("BEST ")[2]) > 100  # of our own, whose rank is higher
        assert (tmp_path / "a.ply").is_file()

    @pytest.mark.long
    def test_it_is_a_method_of_ns_train(self, with_toy: dict[str, str], tmp_path: Path) -> None:
        """One for a mesh of a text; test_contributing.py has one for Gaussians of an image."""
        printed = run(str(COMMANDS / "ns-train"), "--help", env=with_toy)
        assert "img3d-toy" in printed and "one grey ball" in printed
        assert "img3d-object" in printed and "img3d-unheard-of is left out" in printed
        options = ("--pipeline.prompt", "red / cube", "--vis", "tensorboard", "--output-dir", "runs")
        views = ("img3d-generated-mesh", "--num-views", "2", "--view-size", "40")
        printed = run(str(COMMANDS / "ns-train"), "img3d-carves", *options, *views, env=with_toy, cwd=tmp_path)
        assert "Generator: carves: a cube" in printed and "\n8 triangles generated" in printed
        (config,) = tmp_path.glob("runs/red-cube/img3d-carves/*/config.yml")
        assert "generator: carves" in config.read_text()
        mesh = tmp_path / "cube.glb"
        export = ("mesh", "--load-config", str(config), "--output", str(mesh))
        run(str(COMMANDS / "img3d-export"), *export, env=with_toy, cwd=tmp_path)
        made = trimesh.load(mesh, force="mesh")
        assert len(made.faces) == 8  # pyright: ignore[reportAttributeAccessIssue]


class TestRows:
    @pytest.fixture(autouse=True)
    def no_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "no weights"))

    def test_every_row_of_ours_names_what_there_is(self) -> None:
        for known in rows().values():
            assert set(known.checkpoints) <= set(checkpoints())
            assert all(row(network).takes == "views" for network in known.networks)
            if known.load:
                module, function = known.load.split(":")
                assert callable(getattr(__import__(module, fromlist=[function]), function))
        users = [*rows().values(), *GUIDANCES]
        assert set(checkpoints()) == {name for known in users for name in known.checkpoints}

    def test_every_whole_one_of_ours_has_a_method(self) -> None:
        methods = {entry.name for entry in entry_points(group="nerfstudio.method_configs")}
        assert {f"img3d-{known.name.removeprefix('img3d-')}" for known in generators()} <= methods

    def test_lgm_without_weights_says_in_one_line_how_to_get_them(self) -> None:
        with pytest.raises(InputError, match="fetch zero123plus-v1.2 .*, and img3d-weights fetch lgm-big ") as raised:
            choose("lgm")
        assert "\n" not in str(raised.value)

    def test_the_best_that_is_here_and_what_would_be_better(self) -> None:
        choice = choose("object")
        assert (choice.generator.name, choice.view_generator, choice.network) == (SMALL_GENERATOR,) * 3
        better = better_than(choice)
        assert better is not None and better.generator.name == "lgm"
        assert "Better: lgm" in about(choice) and "fetch lgm-big" in about(choice)

    def test_lgm_is_best_once_its_weights_are_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = {"zero123plus-v1.1", "lgm-big-fp32", "img3d-small"}
        monkeypatch.setattr("img3d_generators.pairing.available", lambda name: Path() if name in here else None)
        choice = choose("object")
        assert (choice.generator.name, choice.view_generator, choice.network) == (
            "lgm",
            "zero123plus-v1.1",
            "lgm-big-fp32",
        )
        assert better_than(choice) is None

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("lmg",), "There is no generator lmg; there are: lgm, "),
            (("lgm", "img3d-small"), "lgm does not have img3d-small for a stage"),
            (("zero123plus-v1.2",), "makes views, not an asset"),
            (("object", "auto", "nothing"), "There is no generator nothing"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            choose(*arguments)

    def test_a_network_makes_no_views(self) -> None:
        with pytest.raises(InputError, match="lgm-big makes no views; those that do: zero123plus-v1.2"):
            networks_for("lgm-big")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"load": ""}, "neither load nor networks"),
            ({"load": "a.b"}, "not module:function"),
            ({"name": "object"}, "stands for the best"),
            ({"title": ""}, "no title"),
            ({"takes": "views"}, "no kinds of views"),
        ],
    )
    def test_a_row_that_makes_no_sense(self, change: dict[str, str], message: str) -> None:
        fields = {"name": "a", "title": "t", "takes": "image", "gives": "Mesh", "load": "m:f", **change}
        with pytest.raises(ValueError, match=message):
            Generator(**fields)  # pyright: ignore[reportArgumentType]

    def test_the_table_of_the_page_is_the_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(TOOLS))
        from generator_table import PAGE, page_with_table, table  # pyright: ignore[reportMissingImports]

        page = PAGE.read_text("utf8")
        assert table() in page, "tools/generator_table.py --write"
        assert page_with_table(page) == page


@pytest.fixture
def _fresh() -> Iterator[None]:
    rows.cache_clear()
    yield
    rows.cache_clear()


def test_the_name_of_ours_cannot_be_taken(
    _fresh: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [EntryPoint("img3d", "img3d_generators.rows:ROWS", registry.GROUP)]
    other = Generator(name="lgm", title="mine", takes="image", gives="Mesh", load="a:b")
    monkeypatch.setattr("img3d_base.console.OTHER_ROW", other, raising=False)
    foreign = EntryPoint("a", "img3d_base.console:OTHER_ROW", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [foreign, *ours])
    assert row("lgm").networks
    assert "lgm of a is left out: there is another of that name" in capsys.readouterr().out


def test_a_checkpoint_of_ours_is_described_here() -> None:
    assert checkpoint("img3d-small").comes_with == "img3d" and checkpoint("lgm-big").comes_with is None
