# SPDX-License-Identifier: Apache-2.0
"""Radiance fields: hash grid, networks, occupancy grid, marching and rendering; compiled, each with its torch twin."""
