# SPDX-License-Identifier: Apache-2.0
"""Multi-view stereo: depth and normal maps of pictures whose cameras are known."""
