# SPDX-License-Identifier: Apache-2.0
"""Tells which of Nerfstudio's commands is running. `import torch` calls this in every program, so it imports almost
nothing."""

from __future__ import annotations

import sys
from pathlib import Path

COMMANDS = ("ns-eval", "ns-export", "ns-render", "ns-train", "ns-viewer")
"""The commands that load methods."""


def command_name() -> str:
    """The name of the running program, such as ns-train."""
    arguments = getattr(sys, "argv", None)  # absent in some programs that embed Python
    return Path(arguments[0]).stem if arguments else ""


def at_torch_import() -> None:
    """Entry point of the group torch.backends: prepares Nerfstudio's commands, and only these.

    The group is meant for devices that are not part of torch. It is used here because Nerfstudio's modules emit
    warnings, and Ctrl-C ends in a traceback, long before Nerfstudio looks for plugins.
    """
    if command_name() in COMMANDS:
        from img3d_methods.compat import prepare_command

        prepare_command()
