# SPDX-License-Identifier: Apache-2.0
"""`img3d-export report`: what the page of a run says is so, and it says what there is and nothing else.

A run that ns-train made is in tests/methods/commands/test_cli_report.py.
"""

from __future__ import annotations

import base64
import html
import io
import os
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from browser_pages import OpenedPage
from export_commands import failing_export
from full_disk import files_limited_to
from nerfstudio.data.scene_box import SceneBox
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_exporters.load_run import Run
from img3d_exporters.report import pictures as report_pictures
from img3d_exporters.report.curve import training_curve
from img3d_exporters.report.figures import MAX_ERROR, error_map
from img3d_exporters.report.page import page
from img3d_exporters.report.pictures import evenly
from img3d_exporters.report.report import report_of, write_report
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, write_curve
from img3d_methods.viewing.curve_figures import running_mean

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CURVE = [CurvePoint(50 * i, 2.0 * i, 1 / (i + 1), 10.0 + i, 1000 + i) for i in range(20)]


class GreyField:
    """Stands for a radiance field: grey everywhere, and no Gaussians."""

    config: Any = None

    def get_outputs_for_camera(self, camera: Any) -> dict[str, torch.Tensor]:
        return {"rgb": torch.full((int(camera.height), int(camera.width), 3), 0.5)}

    def get_image_metrics_and_images(self, outputs: Any, batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        error = ((outputs["rgb"] - batch["image"]) ** 2).mean()
        return {"psnr": -10 * torch.log10(error)}, {"img": torch.cat([batch["image"], outputs["rgb"]], dim=1)}


@pytest.fixture(scope="module")
def splat_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Coloured Gaussians about the origin as if they were trained, and how that went."""
    generator = torch.Generator().manual_seed(0)
    points, colors = torch.randn(300, 3, generator=generator) / 4, 255 * torch.rand(300, 3, generator=generator)
    box = SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = Img3dSplatModelConfig().setup(scene_box=box, num_train_data=4, seed_points=(points, colors)).eval()
    run = run_of(model, tiny_scene, tmp_path_factory.mktemp("run"))
    write_curve(CURVE, run.config.get_base_dir() / CURVE_FILE)
    return run


@pytest.fixture(scope="module")
def splat_page(splat_run: Run) -> str:
    """Its page."""
    return page(report_of(splat_run))


def run_of(model: Any, data: Path, folder: Path, name: str = "scene", step: int = 999, held_out: bool = True) -> Run:
    """What `load_run` gives for a run of this model on this data."""
    from img3d_methods.specs import img3d_splat

    parser = Img3dPhotosDataParserConfig(data=data).setup()
    train = Img3dImageDataset(parser.get_dataparser_outputs("train"))
    others = Img3dImageDataset(parser.get_dataparser_outputs("test")) if held_out else train
    config = deepcopy(img3d_splat.config)
    config.experiment_name, config.timestamp, config.output_dir = "scene", "now", folder
    config.pipeline.datamanager.data = data
    config.get_checkpoint_dir().mkdir(parents=True, exist_ok=True)
    (config.get_checkpoint_dir() / f"step-{step:09d}.ckpt").write_bytes(bytes(5_000_000))
    datamanager: Any = SimpleNamespace(train_dataset=train, eval_dataset=others, device="cpu")
    return Run(name, model, train.cameras, np.eye(4)[:3], 1.0, config, datamanager, step)


def headings(contents: str) -> list[str]:
    return [html.unescape(title) for title in re.findall("<h2>(.*?)</h2>", contents)]


def rows(contents: str) -> dict[str, tuple[str, ...]]:
    """The cells of all tables by the first of their row."""
    found = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", contents)]
    return {html.unescape(cells[0]): tuple(cells[1:]) for cells in found if cells}


def tiles(contents: str) -> dict[str, str]:
    return {html.unescape(name): value for name, value in re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", contents)}


def pictures(contents: str) -> list[np.ndarray]:
    """All JPEGs of a page."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float32)
        for data in re.findall('src="data:image/jpeg;base64,([^"]*)"', contents)
    ]


# ------------------------------------------------------------------------------------------------------ what is on it


def test_a_splat_run_has_every_part(splat_page: str) -> None:
    assert headings(splat_page) == [
        *("Renders beside photos", "Where everything is", "How training went"),
        *("What the Gaussians are like", "Files", "Input"),
    ]
    assert splat_page.count("data:image/svg+xml;base64,") == 3 + 3
    assert len(pictures(splat_page)) == 2 * 3 + 2 + 16
    shown = tiles(splat_page)
    assert shown["Gaussians"] == "300"
    assert shown["training steps"] == "1,000"
    assert shown["training time"] == "38 s"
    assert shown["photos + held out"] == "14 + 2"
    assert {CURVE_FILE, "nerfstudio_models/", ".ply", ".spz", ".sog", ".glb"} <= rows(splat_page).keys()
    assert rows(splat_page)["nerfstudio_models/"][0] == "5.0 MB"
    assert rows(splat_page)[".ply"][0] == "76.0 kB"  # 300 x 62 floats of 4 bytes, and the header


def test_another_method_has_no_gaussians_to_show(tiny_scene: Path, tmp_path: Path) -> None:
    contents = page(report_of(run_of(GreyField(), tiny_scene, tmp_path)))
    assert headings(contents) == [
        *("Renders beside photos", "Where everything is", "How training went", "Files", "Input")
    ]
    assert "has no record of it" in contents
    assert "Gaussians" not in tiles(contents)
    assert ".spz" not in rows(contents)
    assert "SSIM" not in contents  # this one does not measure it


def test_numbers_are_those_of_the_renders(splat_run: Run, splat_page: str) -> None:
    held_out = splat_run.datamanager.eval_dataset
    assert held_out is not None
    expected = {}
    for index, path in enumerate(held_out.image_filenames):
        with torch.no_grad():
            render = splat_run.model.get_outputs_for_camera(held_out.cameras[index : index + 1])["rgb"].numpy()
        with Image.open(path) as photo:
            error = np.asarray(photo, np.float64) / 255 - render
        expected[path.name] = -10 * np.log10(np.mean(error**2))
    assert len(expected) == 2
    measured = {name: float(rows(splat_page)[name][0]) for name in expected}
    assert measured == pytest.approx(expected, abs=0.006)
    assert tiles(splat_page)["PSNR, held out"] == f"{np.mean(list(expected.values())):.2f} dB"


def test_photo_render_and_error_belong_together(tiny_scene: Path, tmp_path: Path) -> None:
    run = run_of(GreyField(), tiny_scene, tmp_path)
    photo, render, error = pictures(page(report_of(run)))[:3]
    held_out = run.datamanager.eval_dataset
    assert held_out is not None
    with Image.open(held_out.image_filenames[0]) as image:
        original = np.asarray(image, np.float32)
    assert np.abs(photo - original).mean() < 6.5  # JPEG of noise
    assert np.abs(render - 127.5).max() <= 0.5  # grey of 127.5, as a byte
    difference = np.abs(original / 255 - 0.5).mean(axis=-1)
    assert np.abs(error - error_map(difference)).mean() < 8  # JPEG
    assert np.corrcoef(error.sum(axis=-1).ravel(), difference.clip(0, MAX_ERROR).ravel())[0, 1] > 0.97


@pytest.mark.parametrize(("trained_on", "explained"), [(40.0, True), (12.0, False)])
def test_held_out_photos_far_below_the_others_are_explained(
    tiny_scene: Path, tmp_path: Path, trained_on: float, explained: bool
) -> None:
    run = run_of(GreyField(), tiny_scene, tmp_path)
    write_curve(
        [CurvePoint(50 * i, 1.0 * i, 0.1, trained_on, 100) for i in range(100)], run.config.get_base_dir() / CURVE_FILE
    )
    contents = html.unescape(page(report_of(run)))
    assert ("dB below those trained on (40.0 dB)" in contents) == explained
    assert ("too few photos (14 were trained on" in contents) == explained


def test_without_held_out_photos_it_says_so(tiny_scene: Path, tmp_path: Path) -> None:
    contents = page(report_of(run_of(GreyField(), tiny_scene, tmp_path, held_out=False)))
    assert "none was held out" in contents
    assert "PSNR, trained on" in tiles(contents)
    assert tiles(contents)["photos"] == "14"
    assert "8 of 14 photos" in contents
    assert len(rows(contents).keys() & {f"{i:03d}.png" for i in range(16)}) == 14  # measured, all of them


def test_where_rendering_is_slow_it_renders_fewer_and_says_so(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_pictures, "SECONDS_TO_RENDER", 0)
    contents = page(report_of(run_of(GreyField(), tiny_scene, tmp_path, held_out=False)))
    assert "2 of 14 photos" in contents
    assert "only 2 were measured" in contents


def test_what_users_named_cannot_break_the_page(tiny_scene: Path, tmp_path: Path) -> None:
    evil = "</title><script>alert('&')</script>"
    run = run_of(GreyField(), tiny_scene, tmp_path, name=evil)
    (run.config.get_base_dir() / "<b> & 'c'.ply").write_bytes(b"")
    contents = page(report_of(run))
    assert "<script" not in contents
    assert f"<title>{html.escape(evil)}" in contents
    assert html.escape("<b> & 'c'.ply") in contents


# ---------------------------------------------------------------------------------------------------------- its parts


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
def test_choices_are_even_and_have_both_ends(count: int) -> None:
    chosen = evenly(count, 8)
    assert len(chosen) == min(count, 8)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert np.ptp(np.diff(chosen)) <= 1 if len(chosen) > 1 else True


def test_larger_errors_are_brighter() -> None:
    brightness = error_map(np.linspace(0, MAX_ERROR, 50)[None])[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > -1).all()
    assert brightness[0] < 5 and brightness[-1] > 220
    assert np.array_equal(error_map(np.array([[1.0]])), error_map(np.array([[MAX_ERROR]])))


def test_a_running_mean_smooths_and_keeps_straight_lines() -> None:
    line = np.arange(60.0)
    assert running_mean(line.tolist()) == pytest.approx(line)
    noise = np.random.default_rng(0).normal(size=600)
    assert running_mean(noise.tolist())[60:-60].std() < 0.2


def test_a_curve_is_read_from_the_runs_table_or_from_tensorboard(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert training_curve(tmp_path) == []
    with SummaryWriter(str(tmp_path)) as events:
        for point in CURVE:
            tags = {"Train Loss": point.loss, "Train Metrics Dict/psnr": point.psnr}
            for tag, value in tags.items():
                events.add_scalar(tag, value, point.step, walltime=1e9 + point.seconds)
    read = training_curve(tmp_path)
    assert [point.step for point in read] == [point.step for point in CURVE]
    for name in ("seconds", "loss", "psnr"):
        assert [getattr(p, name) for p in read] == pytest.approx([getattr(p, name) for p in CURVE], rel=1e-5, abs=1e-5)
    assert {point.gaussians for point in read} == {0}
    write_curve(CURVE[:3], tmp_path / CURVE_FILE)
    assert len(training_curve(tmp_path)) == 3
    (tmp_path / CURVE_FILE).write_text("damaged")
    assert len(training_curve(tmp_path)) == len(CURVE)


# --------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_gets_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.html").write_text("keep me")
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name, config, said in (
        ("new.html", "nowhere.yml", "no run at"),
        ("new.pdf", "nowhere.yml", ".html"),
        ("there.html", "nowhere.yml", "--force"),
        ("folder.html", "nowhere.yml", "already exists"),
    ):
        arguments = ("report", "--output", tmp_path / name, "--load-config", tmp_path / config)
        assert said in failing_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_the_old_page(tiny_scene: Path, tmp_path: Path) -> None:
    run = run_of(GreyField(), tiny_scene, tmp_path / "run")
    path = tmp_path / "page" / "report.html"
    path.parent.mkdir()
    path.write_text("older")
    with files_limited_to(20_000), pytest.raises(InputError, match="cannot be written"):
        write_report(run, path)
    assert path.read_text() == "older"
    assert os.listdir(path.parent) == ["report.html"]


def test_a_photo_that_is_gone_is_named(tiny_scene: Path, tmp_path: Path) -> None:
    run = run_of(GreyField(), tiny_scene, tmp_path)
    held_out = run.datamanager.eval_dataset
    assert held_out is not None
    held_out._dataparser_outputs.image_filenames[1] = tmp_path / "gone.png"
    with pytest.raises(InputError, match=r"gone\.png"):
        report_of(run)


# ------------------------------------------------------------------------------------------------------- in a browser


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_it_opens_without_a_network_and_fits_the_window(
    chromium: Browser, splat_run: Run, tmp_path: Path, width: int
) -> None:
    write_report(replace(splat_run, name="a_very_long_name_without_any_space" * 3), tmp_path / "report.html")
    with OpenedPage(chromium, (tmp_path / "report.html").as_uri(), width, 800) as opened:
        opened.wait_until("document.readyState === 'complete'")
        images = "[...document.images]"
        assert opened.page.evaluate(f"{images}.length") == 8 + 6 + 16
        assert opened.page.evaluate(f"{images}.every(image => image.complete && image.naturalWidth > 0)")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in opened.requests if not url.startswith("data:")] == [opened.page.url]
        opened.check_it_kept_to_itself(opened.page.url)
