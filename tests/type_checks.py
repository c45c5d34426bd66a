# SPDX-License-Identifier: Apache-2.0
"""How annotations are checked while tests run: the shapes of arrays by jaxtyping, what stands beside them by beartype.

Functions without an array of stated shape are left to pyright: tests hand them wrong types and stand-ins on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

CHECKED = (
    "img3d_base",
    "img3d_pictures",
    "img3d_kernels",
    "img3d_assets",
    "img3d_dataparsers",
    "img3d_generators",
    "img3d_methods",
    "img3d_exporters",
    "img3d_studio",
    "img3d_batch",
)
"""Packages whose functions are checked."""

Function = TypeVar("Function", bound=Callable[..., Any])
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for pyright


def check(function: Function) -> Function:
    """Has a function's arguments and result checked if its annotations state an array's shape."""
    return _beartype(function) if any(map(_states_a_shape, function.__annotations__.values())) else function


def _states_a_shape(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(_states_a_shape, get_args(annotation)))
