# SPDX-License-Identifier: Apache-2.0
"""Utilities that all packages of img3d use: one-line errors, atomic file writes, checks of untrusted files."""
