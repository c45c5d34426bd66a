# SPDX-License-Identifier: Apache-2.0
"""The kinds of camera paths, apart from what makes them: command lines name them before anything heavy is imported."""

from __future__ import annotations

from typing import Literal

PathKind = Literal["turntable", "spiral", "cameras"]
