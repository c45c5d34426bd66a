# SPDX-License-Identifier: Apache-2.0
"""Gaussians chosen, cleaned and merged."""
