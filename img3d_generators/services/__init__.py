# SPDX-License-Identifier: Apache-2.0
"""Services on the network that make a 3D asset from pictures or a text. Each has a row in `rows.py` and a file in
`adapters/`. Independent of Nerfstudio."""
