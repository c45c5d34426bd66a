# SPDX-License-Identifier: Apache-2.0
"""Becomes another program, which ends when the studio does, even if that is killed: `python child.py PROGRAM …`.

It is a program because subprocess's preexec_fn, which could do the same, is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when its parent ends. exec keeps the setting."""

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])
