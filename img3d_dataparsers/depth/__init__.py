# SPDX-License-Identifier: Apache-2.0
"""Depth maps of posed photos: reading them, determining their unit, and converting them to points."""
