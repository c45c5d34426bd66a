# SPDX-License-Identifier: Apache-2.0
"""Depth maps beside posed photos: reading them, finding out their unit, and the points that they see."""
