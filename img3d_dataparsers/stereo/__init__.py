# SPDX-License-Identifier: Apache-2.0
"""Multi-view stereo of photos: COLMAP's folder of depth maps, and the cloud that they fuse to."""
