# SPDX-License-Identifier: Apache-2.0
"""Becomes another program, which ends when the studio does, even if that is killed: `python child.py PROGRAM …`.

A process of its own sets this, since what runs between fork and exec must not, where there are threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends. It outlives exec."""

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])
