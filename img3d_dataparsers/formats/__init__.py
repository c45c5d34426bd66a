# SPDX-License-Identifier: Apache-2.0
"""Readers of folders that bring camera poses: one file per format."""
