# SPDX-License-Identifier: Apache-2.0
"""Picture files: finding them, opening any of them as upright sRGB, and the object in one. Knows no cameras."""
