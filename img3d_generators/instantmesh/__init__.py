# SPDX-License-Identifier: Apache-2.0
"""InstantMesh: six views of an object → a mesh or a field."""
