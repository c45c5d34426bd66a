# SPDX-License-Identifier: Apache-2.0
"""Hiding warnings that Nerfstudio's own code causes in torch and other libraries: users cannot act on them."""

from __future__ import annotations

import warnings

DEPRECATED_CALLS = r"`torch\.(jit\.script|cuda\.amp\.\w+)"
"""Deprecated calls in Nerfstudio that torch warns about: decorators at import, GradScaler in each training."""


def silence_upstream_warnings() -> None:
    """Hides torch's FutureWarnings about calls in Nerfstudio (torch.cuda.amp, torch.jit.script), its warning about
    indices in lists in Nerfstudio's cameras, and DeprecationWarnings of the viewer's libraries.

    Not needed any more with a Nerfstudio written for torch 2.6 or later.
    """
    # The warning's module is the caller, or torch itself, depending on its stacklevel; for @deprecated,
    # typing_extensions.
    callers = r"(nerfstudio|torch)\.|typing_extensions"
    warnings.filterwarnings("ignore", message=DEPRECATED_CALLS, category=FutureWarning, module=callers)
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence", module=r"nerfstudio\.cameras")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(websockets|viser)\.")
