# SPDX-License-Identifier: Apache-2.0
"""Structure from motion: camera poses, intrinsics and 3D points from photos alone."""
