# SPDX-License-Identifier: Apache-2.0
"""Assets (Gaussians, meshes, point clouds, fields) as plain data, and their file formats; independent of Nerfstudio."""
