# SPDX-License-Identifier: Apache-2.0
"""Services on the network that make a 3D asset of pictures or a text: a row in `rows.py` and a file in `adapters/` for
each; what they share beside it. Independent of Nerfstudio."""
