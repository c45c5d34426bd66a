# SPDX-License-Identifier: Apache-2.0
"""The console that all packages print messages and progress bars to."""

from __future__ import annotations

from rich.console import Console

CONSOLE = Console(width=120)
"""Has the width of Nerfstudio's own console, so that both wrap alike."""


def print_line(text: str, style: str | None = None) -> None:
    """Prints text as it is: brackets (in file names, say) are not markup, and long lines are left to the terminal.

    Args:
        text: The line.
        style: rich's style, such as "bold red".
    """
    CONSOLE.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
