# SPDX-License-Identifier: Apache-2.0
"""Parallel work on many photos: one thread for each core, with a progress bar."""

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
    """Runs torch on one thread: for code that already runs in several threads, and for many small operations."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nested thread pools would contend for the cores
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def in_threads(function: Callable[[In], Out], items: Sequence[In], description: str) -> list[Out]:
    """Applies `function` to every item in parallel; returns the results in order."""
    with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as executor:
        results: Iterable[Out] = executor.map(function, items)
        try:
            return list(with_progress(results, description, len(items)))
        except BaseException:  # on Ctrl-C too: items not yet begun are dropped
            executor.shutdown(wait=False, cancel_futures=True)
            raise
