# SPDX-License-Identifier: Apache-2.0
"""Methods for generators, built from the rows of the registry."""

from __future__ import annotations

from collections.abc import Callable

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from img3d_base.errors import warn
from img3d_generators.registry import Gives, Takes, rows
from img3d_methods.commands.method_help import description
from img3d_methods.generated.gaussians_or_mesh import gaussians_or_mesh_run
from img3d_methods.generated.runs import field_run, gaussians_run, mesh_run, method_name, seen_from_all_sides_run

OBJECT = "object"
"""The generator name of `img3d-object`: stands for the best one whose weights are installed."""
SOURCES: dict[Takes, str] = {"image": "one image", "views": "posed views, or one image", "text": "a text"}
"""What each kind of input is called in the list of methods."""
RUNS: dict[Gives, tuple[str, Callable[[str, str], TrainerConfig]]] = {
    "Gaussians": ("Gaussian splats", gaussians_run),
    "Mesh": ("A mesh", mesh_run),
    "Field": ("A radiance field", field_run),
}
"""For each kind of asset, its name in the list of methods, and the run that holds it (from the method's name and the
generator's)."""


def method_of(generator: str) -> MethodSpecification | None:
    """The method of a registered generator, for an entry point of the group nerfstudio.method_configs.

    Args:
        generator: The name of a row that gives an asset of a kind in `RUNS`; or "object", for the best one that gives
            Gaussians of an image and whose weights are installed.

    Returns:
        The method; None, after a warning, if there is no such row. (An entry point that raises would break all of
        Nerfstudio's commands; one that is None is skipped.)
    """
    name = method_name(generator)
    if generator == OBJECT:
        summary = "Gaussian splats of an object from one image, by the best generator whose weights are installed."
        return MethodSpecification(config=gaussians_run(name, generator), description=description(name, summary))
    row = rows().get(generator) or rows().get(f"img3d-{generator}")
    if row is None or row.gives not in RUNS:
        reason = "there is no such generator" if row is None else f"it makes {row.gives}"
        warn(f"the method {name} is left out: {reason}")
        return None
    kind, run = RUNS[row.gives]
    if row.gives == "Gaussians" and not row.is_aligned:
        run = gaussians_or_mesh_run if row.mesh_row else seen_from_all_sides_run
    summary = f"{kind} of an object from {SOURCES[row.takes]}: {row.title or row.name}."
    return MethodSpecification(config=run(name, row.name), description=description(name, summary, row.takes))
