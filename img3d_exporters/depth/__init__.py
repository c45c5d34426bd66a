# SPDX-License-Identifier: Apache-2.0
"""Depth and normal maps of a run's photos, as files."""
