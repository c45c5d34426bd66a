# SPDX-License-Identifier: Apache-2.0
"""The subcommands of `img3d-export`, one per file."""
