# SPDX-License-Identifier: Apache-2.0
"""Mesh file formats, one module each; `img3d_assets.mesh_files` selects among them."""
