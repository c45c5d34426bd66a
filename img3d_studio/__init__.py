# SPDX-License-Identifier: Apache-2.0
"""A local page to drop photos on: runs img3d's commands one after another, and shows what they make."""
