# SPDX-License-Identifier: Apache-2.0
"""pycolmap without the SIGTERM handler of its logging library (glog), which prints a C++ stack trace."""

from __future__ import annotations

from img3d_base.signals import sigterm_kept

with sigterm_kept():
    import pycolmap

__all__ = ["pycolmap"]
