# SPDX-License-Identifier: Apache-2.0
"""Pictures as other programs write them: formats, sizes and colours, brought to sRGB of 8 bits."""
