# SPDX-License-Identifier: Apache-2.0
"""One file a format: of splats what reads it, and what writes it if we do; of meshes what writes it."""
