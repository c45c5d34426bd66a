# SPDX-License-Identifier: Apache-2.0
"""CSM: the sessions of its own Python client (https://github.com/CommonSenseMachines/csm-ai) for one picture and for
texts, and the sessions of version 3 (https://docs.csm.ai, as https://github.com/tryAGI/CsmAi describes them) for
several pictures.

A text becomes a picture first (`tti-sessions`), which becomes a mesh; both are paid.
"""

from __future__ import annotations

from typing import Any, ClassVar

from img3d_generators.services.adapter import Handle, JobAdapter, Order, Report, State, fraction_of_percent, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.settings import Setting

IMAGE, TEXT, SESSIONS, CREDITS = "/image-to-3d-sessions", "/tti-sessions", "/v3/sessions/", "/user/credits"
STATES: dict[str, State] = {
    "queued": "waiting",
    "incomplete": "running",
    "processing": "running",
    "in_progress": "running",
    "complete": "done",
    "completed": "done",
    "failed": "failed",
    "cancelled": "failed",
}


class Csm(JobAdapter):
    """CSM's protocols."""

    MODELS = ("base", "turbo")
    HEADER = "x-api-key"
    SCHEME = ""
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "texture_model": Setting(str, "the texture", ("none", "baked", "pbr")),
        "topology": Setting(str, "faces", ("tris", "quads")),
        "resolution": Setting(str, "size of the mesh", ("low_poly", "high_poly")),
        "symmetry": Setting(str, "symmetry", ("off", "auto", "on")),
        "scaled_bbox": Setting(list, "size in metres along x, y and z; -1: any"),
        "preserve_aspect_ratio": Setting(bool, "whether scaled_bbox keeps the proportions"),
        "pivot_point": Setting(list, "the origin"),
        "style_id": Setting(str, "style of the picture made of a text", high=200, only=("text",)),
        "guidance": Setting(float, "how closely that picture follows the text", low=0, high=20, only=("text",)),
    }
    NEXT_STAGE = "meshing"
    OF_TEXTS = ("style_id", "guidance")
    """Settings of a text's picture."""

    def submit(self, order: Order) -> Handle:
        """Makes the session; for a text, the session of its picture."""
        settings = {"geometry_model": self.model_of(order), **self.sent(order)}
        meshing = {name: value for name, value in settings.items() if name not in self.OF_TEXTS}
        if order.kind == "image":
            return self._made(IMAGE, {"image_url": order.pictures[0].data_uri, **meshing})
        if order.kind == "images":
            urls = [picture.data_uri for picture in order.pictures]
            body = {"type": "multiview_to_3d", "input": {"image_urls": urls, "settings": meshing}}
            answer = self.client.order(SESSIONS, body)
            return {"id": self.text(answer, "_id", needed="_id"), "path": SESSIONS.rstrip("/")}
        body = {
            "prompt": order.prompt,
            "style_id": settings.get("style_id", ""),
            "guidance": f"{settings.get('guidance', 6):g}",
        }
        return {**self._made(TEXT, body), self.NEXT_STAGE: meshing}

    def report(self, handle: Handle) -> Report:
        """The session."""
        whole = object_of(self.client.get(f"{handle['path']}/{handle['id']}"), self.client.title)
        answer = whole if handle["path"] == SESSIONS.rstrip("/") else object_of(whole.get("data"), self.client.title)
        status = self.text(answer, "session_status") or self.text(answer, "status", needed="status")
        state = self.state_of(status, STATES)
        reason = self.text(answer, "error") or self.text(whole, "error") or self.text(answer, "message")
        if state == "failed" and not reason:
            reason = "it was cancelled" if status == "cancelled" else ""
        return Report(state, answer, fraction_of_percent(answer.get("percent_done")), reason)

    def next_stage(self, handle: Handle, answer: dict[str, Any]) -> Handle | None:
        """After a text's picture, the mesh."""
        if self.NEXT_STAGE not in handle:
            return None
        url = self.text(answer, "image_url", needed="image_url")
        return self._made(IMAGE, {"image_url": url, **handle[self.NEXT_STAGE]})

    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The GLB. The two protocols, and their descriptions, differ in where it is."""
        found = (
            self.text(answer, "mesh_url_glb")
            or self.text(answer, "output", "mesh_url_glb")
            or self.text(answer, "output", "meshes", 0, "data", "glb_url")
        )
        if not found:
            raise ServiceError(f"the answer of {self.client.title} has no mesh_url_glb: its protocol may have changed")
        return found

    def balance(self) -> str | None:
        """The credits left."""
        answer = object_of(self.client.get(CREDITS), self.client.title)
        plan = self.text(answer, "plan")
        return f"{self.text(answer, 'credits', needed='credits')} credits{f' ({self.client.clean(plan)})' * bool(plan)}"

    def _made(self, path: str, body: dict[str, Any]) -> Handle:
        answer = self.client.order(path, body)
        return {"id": self.text(answer, "data", "session_code", needed="data.session_code"), "path": path}
