# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio methods: they turn photos and cameras, or one image, into a trained `Model` to view and export."""
