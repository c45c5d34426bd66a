# SPDX-License-Identifier: Apache-2.0
"""Files that people use elsewhere, from any run."""
