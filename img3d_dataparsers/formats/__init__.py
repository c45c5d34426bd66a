# SPDX-License-Identifier: Apache-2.0
"""Readers of data sets with camera poses, one module per format."""
