# SPDX-License-Identifier: Apache-2.0
"""Zero123++: one image → six views around the object."""
