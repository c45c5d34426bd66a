# SPDX-License-Identifier: Apache-2.0
"""Kernels given numbers that no scene has: they end, and touch only their own memory (`make sanitize` looks)."""

from __future__ import annotations

import numpy as np
import pytest
from every_kernel import calls

_C = pytest.importorskip("img3d_kernels._C", reason="the compiled kernels are not built")

FLOATS = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, -1.0]
INTEGERS = [np.iinfo(np.int32).max, np.iinfo(np.int32).min, 0, -1]
"""Of radii, which are pixels."""
CHANGING = {"adam_step", "patch_match"}
"""Kernels that change what they are given."""


@pytest.mark.parametrize("kernel", calls(_C))
def test_every_array_of_every_kernel(kernel: str) -> None:
    random = np.random.default_rng(0)
    inputs, outputs = calls(_C)[kernel]
    expected = {name: array.copy() for name, array in outputs.items() if name != "loss"}

    def call_with(changed: dict[str, object]) -> None:
        fresh = {key: array.copy() if kernel in CHANGING else np.zeros_like(array) for key, array in expected.items()}
        call(kernel, {**inputs, **changed}, fresh)

    for name, value in inputs.items():
        several = isinstance(value, list) and isinstance(value[0], np.ndarray)
        first = value[0] if several else value
        if not isinstance(first, np.ndarray):
            continue
        limits = np.iinfo(first.dtype) if first.dtype.kind in "iu" else None
        for number in FLOATS if limits is None else [each for each in INTEGERS if limits.min <= each <= limits.max]:
            some = first.copy()
            some.flat[random.choice(some.size, max(1, some.size // 5), replace=False)] = number
            for hostile in (some, np.full_like(first, number)):
                call_with({name: [hostile, *value[1:]] if several else hostile})
    if kernel not in CHANGING:
        again = {key: np.zeros_like(array) for key, array in expected.items()}
        call(kernel, inputs, again)
        for key, array in expected.items():
            np.testing.assert_array_equal(again[key], array, err_msg=f"{key}: something is left of the calls before")


@pytest.mark.parametrize("n", [0, 1, 15, 17])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (17, 1), (1, 40)])
def test_images_and_lists_that_end_within_a_vector(n: int, width: int, height: int) -> None:
    inputs, outputs = calls(_C)["rasterize_forward"]
    few = {name: value[:n] for name, value in inputs.items() if isinstance(value, np.ndarray) and name != "background"}
    image = {"render": np.zeros((height, width, 3), np.float32), "alpha": np.zeros((height, width), np.float32)}
    state = _C.rasterize_forward(**{**inputs, **few, "width": width, "height": height}, **image)
    gradients = {name: np.zeros_like(array[:n]) for name, array in calls(_C)["rasterize_backward"][1].items()}
    ones = {"v_render": np.ones_like(image["render"]), "v_alpha": np.ones_like(image["alpha"])}
    _C.rasterize_backward(state=state, **image, **ones, **gradients)
    assert outputs.keys() == image.keys()
    for name, array in {**image, **gradients}.items():
        assert np.isfinite(array).all(), name
    if n == 0:
        np.testing.assert_array_equal(image["render"], np.broadcast_to(inputs["background"], (height, width, 3)))


def call(kernel: str, inputs: dict[str, object], outputs: dict[str, np.ndarray]) -> None:
    """Whatever it computes; an error that names what is wrong is right as well."""
    try:
        getattr(_C, kernel)(**inputs, **outputs)
    except ValueError:
        pass
