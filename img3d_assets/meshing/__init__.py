# SPDX-License-Identifier: Apache-2.0
"""From pictures with depth to a clean, textured mesh. Needs arrays only: no model, no files."""
