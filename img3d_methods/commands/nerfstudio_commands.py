# SPDX-License-Identifier: Apache-2.0
"""Which of Nerfstudio's commands runs; `import torch` calls this in every program, so it imports next to nothing."""

from __future__ import annotations

import sys
from pathlib import Path

COMMANDS = ("ns-eval", "ns-export", "ns-render", "ns-train", "ns-viewer")
"""Those that load methods."""


def command_name() -> str:
    """The name of the program that runs, such as ns-train."""
    arguments = getattr(sys, "argv", None)  # which a program that embeds Python need not set
    return Path(arguments[0]).stem if arguments else ""


def at_torch_import() -> None:
    """Entry point of the group torch.backends: has compat.py look after Nerfstudio's commands, and only these.

    The group is for devices that are not part of torch, which img3d is not; but Nerfstudio's modules warn, and Ctrl-C
    ends in a traceback, long before Nerfstudio looks for plugins.
    """
    if command_name() in COMMANDS:
        from img3d_methods.compat import prepare_command

        prepare_command()
