# SPDX-License-Identifier: Apache-2.0
"""One image → a 3D asset: networks, their cameras and their weights, in plain torch. Knows no Nerfstudio."""
