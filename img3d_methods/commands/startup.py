# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM while a command still imports its libraries, which takes seconds: one line, as later on.

`img3d_startup.pth` in the environment has Python call this when it starts, in our commands and Nerfstudio's only:
before `import torch` is through, nothing else of ours is asked.
"""

from __future__ import annotations

from img3d_base.signals import report_interrupts
from img3d_methods.commands.nerfstudio_commands import COMMANDS, command_name

OWN_COMMANDS = ("img3d-export", "img3d-photos", "img3d-weights")


def watch_interrupts() -> None:
    """Has `report_interrupts` look after the program, if it is one of these commands.

    Not after SIGTERM in ns-train: its script catches what is a KeyboardInterrupt, prints the traceback and succeeds.
    Our trainers have handlers of their own; before them, SIGTERM ends it at once.
    """
    name = command_name()
    if name in (*COMMANDS, *OWN_COMMANDS):
        report_interrupts(sigterm=name != "ns-train")
