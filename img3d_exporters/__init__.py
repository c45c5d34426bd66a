# SPDX-License-Identifier: Apache-2.0
"""Exports any run to files for other programs."""
