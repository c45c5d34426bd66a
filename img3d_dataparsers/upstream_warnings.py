# SPDX-License-Identifier: Apache-2.0
"""Hides what Nerfstudio's own code has torch and others warn about: nothing that the user could act on."""

from __future__ import annotations

import warnings

DEPRECATED_CALLS = r"`torch\.(jit\.script|cuda\.amp\.\w+)"
"""Of Nerfstudio, which torch warns about: its decorators when they are imported, GradScaler in each training."""


def silence_upstream_warnings() -> None:
    """Hide torch's FutureWarnings about calls in Nerfstudio (torch.cuda.amp, torch.jit.script).

    Of cameras, also its warning about indices in lists (T3).

    Can go with a Nerfstudio written for torch 2.6 or later.
    """
    # The module is the caller's, or torch's own, by the depth that torch says; typing_extensions' for its @deprecated.
    callers = r"(nerfstudio|torch)\.|typing_extensions"
    warnings.filterwarnings("ignore", message=DEPRECATED_CALLS, category=FutureWarning, module=callers)
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence", module=r"nerfstudio\.cameras")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(websockets|viser)\.")
