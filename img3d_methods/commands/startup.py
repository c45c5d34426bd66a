# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM print one line, not a traceback, also during the seconds in which a command imports its
libraries.

`img3d_startup.pth` in the environment makes Python call this at startup, in our and Nerfstudio's commands only.
Before `import torch` has finished, no other code of ours runs.
"""

from __future__ import annotations

from img3d_base.signals import report_interrupts
from img3d_methods.commands.nerfstudio_commands import COMMANDS, command_name

OWN_COMMANDS = ("img3d-batch", "img3d-export", "img3d-photos", "img3d-remote", "img3d-studio", "img3d-weights")


def watch_interrupts() -> None:
    """Calls `report_interrupts` if the program is one of these commands.

    ns-train gets no SIGTERM handler: its script catches KeyboardInterrupt, prints the traceback and exits with 0.
    Our trainers install handlers of their own; before that, SIGTERM ends the process at once.
    """
    name = command_name()
    if name in (*COMMANDS, *OWN_COMMANDS):
        report_interrupts(sigterm=name != "ns-train")
