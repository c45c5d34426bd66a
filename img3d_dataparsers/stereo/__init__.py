# SPDX-License-Identifier: Apache-2.0
"""Multi-view stereo of photos: COLMAP's dense workspace, and the point cloud that COLMAP fuses from it."""
