# SPDX-License-Identifier: Apache-2.0
"""`img3d-mvs`: photos to a textured mesh by multi-view stereo."""
