# SPDX-License-Identifier: Apache-2.0
"""Tests of the methods run as training does: torch on one thread, our kernels on all."""

from __future__ import annotations

from img3d_methods.threads import leave_threads_to_kernels

leave_threads_to_kernels()
