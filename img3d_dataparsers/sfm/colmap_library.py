# SPDX-License-Identifier: Apache-2.0
"""pycolmap, without the handler that its logging library (glog) installs: it answers SIGTERM with a C++ stack."""

from __future__ import annotations

from img3d_base.signals import sigterm_kept

with sigterm_kept():
    import pycolmap

__all__ = ["pycolmap"]
