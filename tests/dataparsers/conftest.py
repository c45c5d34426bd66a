# SPDX-License-Identifier: Apache-2.0
"""Fixtures that the tests of posed formats share."""

from __future__ import annotations

import numpy as np
import pytest
from known_scene import KnownCamera, cameras_of


@pytest.fixture
def cameras() -> list[KnownCamera]:
    return cameras_of(np.random.default_rng(1), 4)
