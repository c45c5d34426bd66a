# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio methods: cameras and photos in, a trained, viewable and exportable `Model` out."""
