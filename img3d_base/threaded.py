# SPDX-License-Identifier: Apache-2.0
"""Work on many photos at once: one thread for each core, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from img3d_base.progress import with_progress

In = TypeVar("In")
Out = TypeVar("Out")


@contextmanager
def one_thread_each() -> Generator[None, None, None]:
    """torch with one thread: for what runs in several threads already, and for many small operations."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads within threads wait for each other
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def in_threads(function: Callable[[In], Out], items: Sequence[In], description: str) -> list[Out]:
    """`function` of every item, in order."""
    with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as executor:
        results: Iterable[Out] = executor.map(function, items)
        try:
            return list(with_progress(results, description, len(items)))
        except BaseException:  # Ctrl-C: what has not begun need not
            executor.shutdown(wait=False, cancel_futures=True)
            raise
