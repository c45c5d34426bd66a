# SPDX-License-Identifier: Apache-2.0
"""A pipeline that loads a guidance before training, and only then."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.training.pipeline import Img3dPipeline, Img3dPipelineConfig


class BegunPipeline(Img3dPipeline):
    """Begins if it is made for training; finished runs are loaded without the guidance."""

    num_steps: int = 1
    """Length of the run; the trainer sets it."""

    def __init__(
        self,
        config: Img3dPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, device, test_mode, **kwargs)
        if test_mode == "val":
            with failing_in_one_line():
                self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Makes what training starts from, and loads the guidance."""
