# SPDX-License-Identifier: Apache-2.0
"""The data manager of `img3d-mvs`, which reads photos when they are needed: no step trains on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from img3d_methods.training.datamanager import Img3dDatamanager, Img3dDatamanagerConfig


@dataclass
class Img3dMvsDatamanagerConfig(Img3dDatamanagerConfig):
    """Photos that are reconstructed."""

    _target: type = field(default_factory=lambda: Img3dMvsDatamanager)
    """Target class to instantiate."""


class Img3dMvsDatamanager(Img3dDatamanager):
    """Keeps no training photos in memory."""

    def setup_train(self) -> None:
        """Loads nothing in advance."""
