# SPDX-License-Identifier: Apache-2.0
"""Memory that a training step frees stays with the process, so that the next step need not ask for it again."""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys

# mallopt's parameters (malloc.h).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Make glibc's malloc reuse big blocks, and Python's garbage collector leave alone what is there by now.

    By default every tensor of some megabytes is a mapping of its own, which the kernel fills with zeros, page by page,
    each time: with 200,000 Gaussians that was a third of a step. Other C libraries are left as they are.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extensions report what is never collected as leaks
