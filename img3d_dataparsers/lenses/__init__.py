# SPDX-License-Identifier: Apache-2.0
"""Lenses that one perspective picture cannot replace: panoramas, wide fisheyes, and models unknown to OpenCV."""
