# SPDX-License-Identifier: Apache-2.0
"""Work on many photos at once: one thread for each core, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track

In = TypeVar("In")
Out = TypeVar("Out")


def in_threads(function: Callable[[In], Out], items: Sequence[In], description: str) -> list[Out]:
    """`function` of every item, in order."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in each: threads within threads wait for each other
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        results: Iterable[Out] = executor.map(function, items)
        try:
            return list(
                track(
                    results,
                    description,
                    total=len(items),
                    console=CONSOLE,
                    transient=True,
                    disable=not CONSOLE.is_terminal,
                )
            )
        except BaseException:  # Ctrl-C: what has not begun need not
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(num_threads)
