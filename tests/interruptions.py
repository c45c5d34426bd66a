# SPDX-License-Identifier: Apache-2.0
"""What may happen while something is written, and what the user is told."""

from __future__ import annotations

import pytest

from img3d_base.errors import InputError

INTERRUPTIONS = pytest.mark.parametrize(
    ("interruption", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (OSError(28, "No space left on device"), InputError, "No space left on device; free some space"),
    ],
)
"""What writing raises, and what reaches the caller."""
