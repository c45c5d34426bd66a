# SPDX-License-Identifier: Apache-2.0
"""Mesh files, one module a format; `img3d_assets.mesh_files` chooses among them."""
