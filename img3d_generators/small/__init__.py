# SPDX-License-Identifier: Apache-2.0
"""img3d-small: our own generator, trained on CC0 game assets."""
