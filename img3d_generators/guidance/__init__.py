# SPDX-License-Identifier: Apache-2.0
"""Score distillation: gradients with which a diffusion model shapes anything that can be rendered.

A row in `rows.py` names a `Denoiser`; `distillation.py` makes gradients of it. A new guidance is one file and one row.
"""
