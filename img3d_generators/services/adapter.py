# SPDX-License-Identifier: Apache-2.0
"""What an adapter answers: how a service takes an order, and what it says about the job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from img3d_generators.services.client import READ_SECONDS, ServiceClient, ServiceError
from img3d_generators.services.pictures import Picture
from img3d_generators.services.settings import Setting

Gives = Literal["Mesh", "Gaussians"]
Handle = dict[str, Any]
"""What identifies a job to its service: "id", and what else a later process needs; JSON without secrets."""


@dataclass(frozen=True)
class Order:
    """What a job is to make an asset of: pictures, or a text."""

    pictures: tuple[Picture, ...] = ()
    prompt: str = ""
    model: str = ""
    """The service's model; empty: the adapter's default."""
    seed: int = 0
    gives: Gives = "Mesh"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What it starts from: "text", "image" or "images"."""
        return "text" if not self.pictures else "image" if len(self.pictures) == 1 else "images"


@dataclass(frozen=True)
class Report:
    """What a service says about a job."""

    state: Literal["waiting", "running", "done", "failed"]
    answer: dict[str, Any]
    """The service's words."""
    fraction: float | None = None
    """How much is done, from 0 to 1, if the service says so."""
    reason: str = ""
    """Why it failed."""
    seconds_left: float | None = None
    """The service's own estimate."""


class Adapter(ABC):
    """The protocol of a service: a `JobAdapter` or an `ImmediateAdapter`."""

    MODELS: ClassVar[tuple[str, ...]]
    """Models that users can choose, the default first; others are passed on as they are."""
    SETTINGS: ClassVar[dict[str, Setting]] = {}
    HEADER: ClassVar[str] = "Authorization"
    SCHEME: ClassVar[str] = "Bearer "
    READ_SECONDS: ClassVar[float] = READ_SECONDS
    HELP: ClassVar[dict[int, str]] = {}
    """What an HTTP status of this service means, where that is special."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    @classmethod
    def identity(cls, order: Order) -> object:
        """What else distinguishes orders of the same pictures, beside their contents: their names, if these count.

        Raises:
            ServiceError: The names do not fit.
        """
        return None

    def cost(self, answer: dict[str, Any]) -> float | None:
        """The credits that a job cost, if the service says so."""
        return None

    def balance(self) -> str | None:
        """What is left on the account; None if the service does not say."""
        return None

    def sent(self, order: Order, names: tuple[str, ...] = ()) -> dict[str, Any]:
        """The user's settings that this kind of request has.

        Raises:
            ServiceError: One of them is not for this kind of request.
        """
        for name in order.settings:
            only = self.SETTINGS[name].only
            if only and order.kind not in only:
                raise ServiceError(f"{self.client.title}: the setting {name} is for {' and '.join(only)}")
        return {name: value for name, value in order.settings.items() if not names or name in names}

    def model_of(self, order: Order) -> str:
        """The order's model, or the default one."""
        return order.model or self.MODELS[0]

    def text(self, answer: Any, *path: str | int, needed: str = "") -> str:
        """A text within an answer; "" if it is not there.

        Args:
            answer: The answer.
            path: Names and indices that lead to it.
            needed: What it is; then an answer without it is an error.

        Raises:
            ServiceError: It is not there, but needed.
        """
        for step in path:
            if isinstance(answer, dict):
                answer = answer.get(step)
            elif isinstance(answer, list) and isinstance(step, int) and -len(answer) <= step < len(answer):
                answer = answer[step]
            else:
                answer = None
        found = str(answer) if isinstance(answer, (str, int)) and not isinstance(answer, bool) else ""
        if needed and not found:
            raise ServiceError(f"the answer of {self.client.title} has no {needed}: its protocol may have changed")
        return found


class JobAdapter(Adapter):
    """The protocol of a service whose jobs are asked about until they are done."""

    NEXT_STAGE: ClassVar[str] = ""
    """The entry of a handle that says what the job's next stage, paid too, needs; handles of last stages lack it."""

    @abstractmethod
    def submit(self, order: Order) -> Handle:
        """Makes a job, which costs money.

        Raises:
            ServiceError: The service refuses.
        """

    @abstractmethod
    def report(self, handle: Handle) -> Report:
        """Asks how a job is.

        Raises:
            ServiceError: The service cannot be reached, or does not know it.
        """

    def next_stage(self, handle: Handle, answer: dict[str, Any]) -> Handle | None:
        """Makes the job that follows this finished one; None if this was the last."""
        return None

    @abstractmethod
    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The address of the asset of a finished job.

        Raises:
            ServiceError: There is none.
        """


class ImmediateAdapter(Adapter):
    """The protocol of a service that answers an order with the asset itself."""

    @abstractmethod
    def make(self, order: Order, path: Path) -> dict[str, Any]:
        """Makes the asset, which costs money, and writes it to `path`.

        Returns:
            What else the service says.

        Raises:
            ServiceError: The service refuses.
        """


def object_of(answer: Any, title: str) -> dict[str, Any]:
    """An answer that is an object.

    Raises:
        ServiceError: It is something else.
    """
    if not isinstance(answer, dict):
        raise ServiceError(f"the answer of {title} is not an object: its protocol may have changed")
    return answer


def fraction_of_percent(value: Any) -> float | None:
    """A progress in percent as a fraction; None if it is not a number from 0 to 100."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        return None
    return value / 100
