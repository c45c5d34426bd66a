# SPDX-License-Identifier: Apache-2.0
"""Meshy (https://docs.meshy.ai/en/api/image-to-3d, …/multi-image-to-3d, …/text-to-3d, …/balance, …/errors, and the
types of its own https://github.com/meshy-dev/meshy-mcp-server).

A POST gives `{"result": id}`; a GET of the same path with the id gives the task. A text takes two tasks: a preview,
which is a bare mesh, and its refinement, which paints it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from img3d_generators.services.adapter import Handle, JobAdapter, Order, Report, State, fraction_of_percent, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.settings import Setting

IMAGE, IMAGES, TEXT = "/openapi/v1/image-to-3d", "/openapi/v1/multi-image-to-3d", "/openapi/v2/text-to-3d"
BALANCE = "/openapi/v1/balance"
STATES: dict[str, State] = {
    "PENDING": "waiting",
    "IN_PROGRESS": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELED": "failed",
}
MAX_PROMPT_LENGTH = 600
OF_PICTURES = ("image", "images")


class Meshy(JobAdapter):
    """Meshy's protocol."""

    MODELS = ("latest", "meshy-6", "meshy-5")
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "model_type": Setting(str, "kind of mesh", ("standard", "lowpoly")),
        "should_texture": Setting(bool, "whether the mesh gets a texture"),
        "enable_pbr": Setting(bool, "whether it also gets metallic, roughness and normal maps"),
        "texture_prompt": Setting(str, "what the texture shows", high=MAX_PROMPT_LENGTH),
        "texture_image_url": Setting(str, "https address of a picture of the texture", high=2000),
        "should_remesh": Setting(bool, "whether topology and target_polycount apply"),
        "topology": Setting(str, "faces", ("triangle", "quad")),
        "target_polycount": Setting(int, "number of faces", low=100, high=300_000),
        "symmetry_mode": Setting(str, "symmetry", ("off", "auto", "on")),
        "pose_mode": Setting(str, "pose of a figure", ("a-pose", "t-pose")),
        "image_enhancement": Setting(bool, "whether the picture is improved first", only=OF_PICTURES),
        "remove_lighting": Setting(bool, "whether shading is removed from the texture"),
        "save_pre_remeshed_model": Setting(bool, "whether the mesh before remeshing is kept too", only=OF_PICTURES),
        "moderation": Setting(bool, "whether the input is checked for harmful content"),
        "auto_size": Setting(bool, "whether the real size is estimated"),
        "origin_at": Setting(str, "the origin", ("bottom", "center")),
    }
    NEXT_STAGE = "refine"
    REFINING = ("enable_pbr", "texture_prompt", "texture_image_url", "remove_lighting", "auto_size", "origin_at")
    """Settings of a text's refinement."""
    NOT_PREVIEWING = ("should_texture", "enable_pbr", "texture_prompt", "texture_image_url", "remove_lighting")
    """Settings that a text's preview does not have."""

    def submit(self, order: Order) -> Handle:
        """Makes the task; for a text, the task of its preview."""
        body: dict[str, Any] = {"ai_model": self.model_of(order), "target_formats": ["glb"], **self.sent(order)}
        if order.kind != "text":
            urls = [picture.data_uri for picture in order.pictures]
            path, pictures = (IMAGE, {"image_url": urls[0]}) if len(urls) == 1 else (IMAGES, {"image_urls": urls})
            return self._made(path, {**body, **pictures})
        if len(order.prompt) > MAX_PROMPT_LENGTH:
            raise ServiceError(f"{self.client.title} takes texts of at most {MAX_PROMPT_LENGTH} characters")
        previewed = {name: value for name, value in body.items() if name not in self.NOT_PREVIEWING}
        handle = self._made(TEXT, {"mode": "preview", "prompt": order.prompt, **previewed})
        if body.get("should_texture", True):
            refining = {name: body[name] for name in self.REFINING if name in body}
            handle[self.NEXT_STAGE] = {"ai_model": body["ai_model"], "target_formats": ["glb"], **refining}
        return handle

    def report(self, handle: Handle) -> Report:
        """The task."""
        answer = object_of(self.client.get(f"{handle['path']}/{handle['id']}"), self.client.title)
        state = self.state_of(self.text(answer, "status", needed="status"), STATES)
        reason = self.text(answer, "task_error", "message")
        if not reason and answer["status"] == "CANCELED":
            reason = "it was cancelled"
        waiting = answer.get("preceding_tasks")
        if state == "waiting" and isinstance(waiting, int) and waiting > 0:
            reason = f"{waiting} tasks before it"
        return Report(state, answer, fraction_of_percent(answer.get("progress")), reason)

    def next_stage(self, handle: Handle, answer: dict[str, Any]) -> Handle | None:
        """After a text's preview, its refinement."""
        refining = handle.get(self.NEXT_STAGE)
        if not refining:
            return None
        return self._made(TEXT, {"mode": "refine", "preview_task_id": handle["id"], **refining})

    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The GLB."""
        return self.text(answer, "model_urls", "glb", needed="model_urls.glb")

    def cost(self, answer: dict[str, Any]) -> float | None:
        """`consumed_credits`."""
        credits = answer.get("consumed_credits")
        return float(credits) if isinstance(credits, (int, float)) else None

    def balance(self) -> str | None:
        """The credits left."""
        answer = object_of(self.client.get(BALANCE), self.client.title)
        return f"{self.text(answer, 'balance', needed='balance')} credits"

    def _made(self, path: str, body: dict[str, Any]) -> Handle:
        answer = self.client.order(path, body)
        return {"id": self.text(answer, "result", needed="result"), "path": path}
