# SPDX-License-Identifier: Apache-2.0
"""What a guidance can run into while it computes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

from img3d_base.errors import InputError
from img3d_methods.compat import fail


@contextmanager
def failing_in_one_line() -> Generator[None]:
    """Context in which numbers that are not finite, damaged weights and full memory end the program with one line."""
    try:
        yield
    except InputError as error:
        fail(str(error))
    except (MemoryError, torch.OutOfMemoryError):
        fail(
            "not enough memory for the guidance: try --pipeline.precision fast, --pipeline.offload True, a smaller "
            "--view-size, or a smaller model"
        )
