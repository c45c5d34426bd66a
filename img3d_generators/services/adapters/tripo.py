# SPDX-License-Identifier: Apache-2.0
"""Tripo's API version 3 (https://developers.tripo3d.ai/en/docs; version 2 ended on 2026-10-31).

Pictures are uploaded first (`/files`, field `file`, gives `file_token`). A POST to `/generation/…` gives `task_id`;
`/tasks/{id}` gives its state. Each answer is `{"code": 0, "data": …}`, or has a `message` and a `suggestion`. Links
are valid for five minutes; each answer of `/tasks` has new ones.
"""

from __future__ import annotations

from typing import Any, ClassVar

from img3d_generators.services.adapter import Handle, JobAdapter, Order, Report, State, fraction_of_percent, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.pictures import Picture
from img3d_generators.services.settings import Setting

STATES: dict[str, State] = {
    "queued": "waiting",
    "running": "running",
    "success": "done",
    "failed": "failed",
    "cancelled": "failed",
    "unknown": "failed",
    "banned": "failed",
    "expired": "failed",
}
REASONS = {
    "banned": "the input was refused as against the rules",
    "cancelled": "it was cancelled",
    "expired": "it is too old",
    "unknown": "the service does not know its state",
}
VIEWS = ("front", "left", "back", "right")
MAX_PROMPT_LENGTH = 1024
MESHES = ("model_url", "pbr_model_url", "base_model_url", "pbr_model", "model", "base_model")
"""Fields of a finished task that hold the mesh, best first: those of version 3, then those of version 2."""
NO_CREDITS = 2010


class Tripo(JobAdapter):
    """Tripo's protocol."""

    MODELS = ("v3.1-20260211", "v2.5-20250123", "P1-20260311", "Turbo-v1.0-20250506")
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "face_limit": Setting(int, "largest number of faces", low=1, high=2_000_000),
        "texture": Setting(bool, "whether the mesh gets a texture"),
        "pbr": Setting(bool, "whether it also gets metallic, roughness and normal maps"),
        "texture_seed": Setting(int, "random seed of the texture", low=0, high=2**31 - 1),
        "texture_quality": Setting(str, "the texture", ("standard", "detailed", "extreme")),
        "geometry_quality": Setting(str, "the mesh", ("standard", "detailed")),
        "texture_alignment": Setting(str, "what the texture follows", ("original_image", "geometry"), only=("image",)),
        "orientation": Setting(str, "the object's orientation", ("default", "align_image"), only=("image", "images")),
        "enable_image_autofix": Setting(bool, "whether the picture is improved first", only=("image",)),
        "auto_size": Setting(bool, "whether the real size is estimated"),
        "export_uv": Setting(bool, "whether the mesh is unwrapped"),
        "negative_prompt": Setting(str, "what it must not show", high=255, only=("text",)),
    }

    @classmethod
    def identity(cls, order: Order) -> object:
        """Which picture shows which side."""
        return list(views_of(order.pictures)) if order.kind == "images" else None

    def submit(self, order: Order) -> Handle:
        """Uploads the pictures and makes the task."""
        body: dict[str, Any] = {"model": self.model_of(order), "model_seed": order.seed, **self.sent(order)}
        if order.gives == "Gaussians":
            if order.kind != "image":
                raise ServiceError(f"{self.client.title} makes Gaussians of one picture only")
            if order.settings or order.model:
                raise ServiceError(f"{self.client.title} has no models and settings for Gaussians")
            body = {"input": self._uploaded(order.pictures[0]), "model_seed": order.seed}
            return self._made("/generation/image-to-splat", body)
        if order.kind == "text":
            if len(order.prompt) > MAX_PROMPT_LENGTH:
                raise ServiceError(f"{self.client.title} takes texts of at most {MAX_PROMPT_LENGTH} characters")
            return self._made("/generation/text-to-model", {"prompt": order.prompt, **body})
        if order.kind == "image":
            return self._made("/generation/image-to-model", {"input": self._uploaded(order.pictures[0]), **body})
        inputs = [{view: self._uploaded(picture)} for view, picture in views_of(order.pictures).items()]
        return self._made("/generation/multiview-to-model", {"inputs": inputs, **body})

    def report(self, handle: Handle) -> Report:
        """The task."""
        answer = self._data(self.client.get(f"/tasks/{handle['id']}"))
        status = self.text(answer, "status", needed="status")
        state = self.state_of(status, STATES)
        reason = self.text(answer, "error_message") or self.text(answer, "error_msg") or REASONS.get(status, "")
        left = answer.get("running_left_time")
        seconds = float(left) if isinstance(left, (int, float)) and left >= 0 else None
        return Report(state, answer, fraction_of_percent(answer.get("progress")), reason, seconds)

    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The GLB, or the splat file."""
        output = object_of(answer.get("output"), self.client.title)
        names = ("splat_url", "model_url") if handle.get("splat") else MESHES
        for name in names:
            if found := self.text(output, name):
                return found
        raise ServiceError(f"the answer of {self.client.title} has no {names[0]}: its protocol may have changed")

    def cost(self, answer: dict[str, Any]) -> float | None:
        """`credits_consumed`."""
        for name in ("credits_consumed", "consumed_credit"):
            credits = answer.get(name)
            if isinstance(credits, (int, float)) and not isinstance(credits, bool):
                return float(credits)
        return None

    def balance(self) -> str | None:
        """The credits left, and those kept back for running tasks."""
        answer = self._data(self.client.get("/account/balance"))
        frozen = self.text(answer, "frozen")
        kept_back = f", {frozen} more kept back for running tasks" if frozen not in ("", "0") else ""
        balance = answer.get("balance")
        if not isinstance(balance, (int, float, str)):
            raise ServiceError(f"the answer of {self.client.title} has no balance: its protocol may have changed")
        return f"{balance} credits{kept_back}"

    def _uploaded(self, picture: Picture) -> str:
        answer = self.client.json_of_form("/files", {}, [("file", picture.named("picture"))], costs=False)
        return self.text(self._data(answer), "file_token", needed="file_token")

    def _made(self, path: str, body: dict[str, Any]) -> Handle:
        data = self._data(self.client.order(path, body))
        handle: Handle = {"id": self.text(data, "task_id", needed="task_id")}
        return {**handle, "splat": True} if path.endswith("splat") else handle

    def _data(self, answer: Any) -> dict[str, Any]:
        """The data of an answer that is not a refusal."""
        whole = object_of(answer, self.client.title)
        code = whole.get("code", 0)
        if code == NO_CREDITS:
            raise ServiceError(
                f"{self.client.title} has not enough credits left for this account: see `img3d-remote balance`"
            )
        if code != 0:
            said = " ".join(filter(None, (self.text(whole, "message"), self.text(whole, "suggestion"))))
            raise ServiceError(
                f"{self.client.title} refuses (code {self.client.clean(code)}): {self.client.clean(said)}"
            )
        return object_of(whole.get("data"), self.client.title)


def views_of(pictures: tuple[Picture, ...]) -> dict[str, Picture]:
    """The picture of each side: by the names of the files, or else in the order of `VIEWS`.

    Raises:
        ServiceError: Some, but not all, files are named after sides, two after the same side, or none after the front.
    """
    named = {picture.path.stem.lower(): picture for picture in pictures}
    if not set(named) & set(VIEWS):
        return dict(zip(VIEWS, pictures, strict=False))
    if not set(named) <= set(VIEWS) or "front" not in named or len(named) < len(pictures):
        raise ServiceError(f"name the pictures after the sides that they show, {', '.join(VIEWS)}; front is needed")
    return {view: named[view] for view in VIEWS if view in named}
