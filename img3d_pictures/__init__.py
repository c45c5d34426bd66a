# SPDX-License-Identifier: Apache-2.0
"""Picture files: finding them, reading them as upright sRGB, and segmenting the object. Knows no cameras."""
