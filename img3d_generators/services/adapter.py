# SPDX-License-Identifier: Apache-2.0
"""The interface of adapters, which translate orders and reports of jobs to and from a service's protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from img3d_base.foreign_files import is_json_list, is_json_object
from img3d_generators.services.client import READ_SECONDS, ServiceClient, ServiceError
from img3d_generators.services.pictures import Picture
from img3d_generators.services.settings import Setting

Gives = Literal["Mesh", "Gaussians"]
State = Literal["waiting", "running", "done", "failed"]
Handle = dict[str, Any]
"""What identifies a job to its service: "id", and what else a later process needs; JSON without secrets."""


@dataclass(frozen=True)
class Order:
    """What a job makes an asset from: pictures, a text, or for some services both."""

    pictures: tuple[Picture, ...] = ()
    prompt: str = ""
    model: str = ""
    """The service's model; empty: the adapter's default."""
    seed: int = 0
    gives: Gives = "Mesh"
    """The kind of asset."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the request, checked against the adapter's SETTINGS."""

    @property
    def kind(self) -> str:
        """The input: "image" or "images" if there are pictures, else "text"."""
        return "text" if not self.pictures else "image" if len(self.pictures) == 1 else "images"


@dataclass(frozen=True)
class Report:
    """What a service says about a job."""

    state: State
    answer: dict[str, Any]
    """The service's whole answer."""
    fraction: float | None = None
    """Fraction of the work that is done, from 0 to 1; None if the service does not say."""
    reason: str = ""
    """Why it failed, or what it waits for."""
    seconds_left: float | None = None
    """The service's own estimate; None if it gives none."""


class Adapter(ABC):
    """The protocol of a service: a `JobAdapter` or an `ImmediateAdapter`."""

    MODELS: ClassVar[tuple[str, ...]]
    """Models that users can choose, the default first; others are passed on as they are."""
    SETTINGS: ClassVar[dict[str, Setting]] = {}
    """The fields of requests that users may set."""
    HEADER: ClassVar[str] = "Authorization"
    """The header that holds the key."""
    SCHEME: ClassVar[str] = "Bearer "
    """What precedes the key in the header."""
    READ_SECONDS: ClassVar[float] = READ_SECONDS
    """Time until an answer has to begin."""
    HELP: ClassVar[dict[int, str]] = {}
    """Explanations of HTTP statuses that have a special meaning at this service."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    @classmethod
    def identity(cls, order: Order) -> object:
        """What distinguishes orders whose pictures have the same contents, such as the pictures' names if these matter.

        Raises:
            ServiceError: The names do not fit.
        """
        return None

    def cost(self, answer: dict[str, Any]) -> float | None:
        """The credits that a job cost; None if the service does not say."""
        return None

    def balance(self) -> str | None:
        """What is left on the account; None if the service does not say."""
        return None

    def sent(self, order: Order, names: tuple[str, ...] = ()) -> dict[str, Any]:
        """The settings of an order that go into a request.

        Args:
            order: The order.
            names: The settings that the request has; empty: all.

        Raises:
            ServiceError: One of the order's settings is not for this kind of order.
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
        """A text or an integer within an answer, as text; "" if it is not there.

        Args:
            answer: The answer.
            path: Names and indices that lead to it.
            needed: Its name for an error message; empty: it may be missing.

        Raises:
            ServiceError: It is needed, but not there.
        """
        for step in path:
            if isinstance(step, str):
                answer = answer.get(step) if is_json_object(answer) else None
            elif is_json_list(answer) and -len(answer) <= step < len(answer):
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
    """Name of the handle's entry that holds what the next stage, which is paid too, needs. Handles of last stages lack
    it."""

    @abstractmethod
    def submit(self, order: Order) -> Handle:
        """Makes a job, which costs money.

        Raises:
            ServiceError: The service refuses.
        """

    @abstractmethod
    def report(self, handle: Handle) -> Report:
        """Asks the service for the state of a job.

        Raises:
            ServiceError: The service cannot be reached, or does not know the job.
        """

    def state_of(self, status: str, states: Mapping[str, State]) -> State:
        """The state that the service's word for it means.

        Args:
            status: The word.
            states: The meanings of all words.

        Raises:
            ServiceError: The word is unknown.
        """
        if status not in states:
            raise ServiceError(f"{self.client.title} gives the unknown state {self.client.clean(status)}")
        return states[status]

    def next_stage(self, handle: Handle, answer: dict[str, Any]) -> Handle | None:
        """Makes the job of the next stage after a finished one; None if that was the last."""
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
            What the service says about the asset.

        Raises:
            ServiceError: The service refuses.
        """


def object_of(answer: Any, title: str) -> dict[str, Any]:
    """Returns an answer if it is a JSON object.

    Raises:
        ServiceError: It is something else.
    """
    if not is_json_object(answer):
        raise ServiceError(f"the answer of {title} is not an object: its protocol may have changed")
    return answer


def fraction_of_percent(value: Any) -> float | None:
    """Progress in percent as a fraction; None if it is not a number from 0 to 100."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        return None
    return value / 100
