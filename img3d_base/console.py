# SPDX-License-Identifier: Apache-2.0
"""Where messages and progress bars of all packages are printed."""

from __future__ import annotations

from rich.console import Console

CONSOLE = Console(width=120)
"""As wide as Nerfstudio's own, so that lines of both break alike."""
