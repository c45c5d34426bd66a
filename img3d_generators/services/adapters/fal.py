# SPDX-License-Identifier: Apache-2.0
"""fal's queue (https://docs.fal.ai/documentation/model-apis/inference/queue, …/model-apis/errors), which reaches
generators of several makers with one key.

POST /{model} gives `request_id`; its state is at /{owner}/{app}/requests/{id}/status and its result at
/{owner}/{app}/requests/{id}, where the app is the model without its sub-path. (The answer also has these addresses;
they are not used, so that the key goes to this host only.) Errors of models are `{"detail": [{"msg", "type", …}]}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from img3d_generators.services.adapter import Handle, JobAdapter, Order, Report, State, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.settings import Setting

STATES: dict[str, State] = {"IN_QUEUE": "waiting", "IN_PROGRESS": "running", "COMPLETED": "done"}
TRELLIS, TRELLIS_MULTI, TRELLIS_2 = "fal-ai/trellis", "fal-ai/trellis/multi", "fal-ai/trellis-2"
HUNYUAN, HUNYUAN_TEXT = "fal-ai/hunyuan-3d/v3.1/pro/image-to-3d", "fal-ai/hunyuan-3d/v3.1/pro/text-to-3d"
RESULTS = ("model_mesh", "model_glb", "model_glb_pbr", "mesh", "model")
"""Names that models give the file with the mesh."""


@dataclass(frozen=True)
class Inputs:
    """The names of a model's fields for each kind of order; empty: the model does not take that kind."""

    image: str = "image_url"
    images: str = ""
    text: str = ""


INPUTS = {
    TRELLIS: Inputs(),
    TRELLIS_MULTI: Inputs(image="", images="image_urls"),
    TRELLIS_2: Inputs(),
    HUNYUAN: Inputs(image="input_image_url"),
    HUNYUAN_TEXT: Inputs(image="", text="prompt"),
}
DEFAULTS = {"image": TRELLIS, "images": TRELLIS_MULTI, "text": HUNYUAN_TEXT}


class Fal(JobAdapter):
    """The protocol of fal's queue, and the fields of the models that make a mesh of a picture."""

    MODELS = tuple(INPUTS)
    SCHEME = "Key "
    HELP: ClassVar[dict[int, str]] = {
        403: "the account has no credits left, or the key has no access; see https://fal.ai/dashboard/billing"
    }
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "ss_guidance_strength": Setting(float, "guidance of the structure (trellis)", low=0, high=10),
        "ss_sampling_steps": Setting(int, "steps of the structure (trellis)", low=1, high=50),
        "slat_guidance_strength": Setting(float, "guidance of the details (trellis)", low=0, high=10),
        "slat_sampling_steps": Setting(int, "steps of the details (trellis)", low=1, high=50),
        "mesh_simplify": Setting(float, "how much the mesh is simplified (trellis)", low=0.9, high=0.98),
        "texture_size": Setting(str, "width and height of the texture", ("512", "1024", "2048", "4096")),
        "resolution": Setting(str, "resolution (trellis-2)", ("512", "1024", "1536")),
        "enable_pbr": Setting(bool, "whether there are metallic, roughness and normal maps (hunyuan)"),
        "face_count": Setting(int, "number of faces (hunyuan)", low=40_000, high=1_500_000),
    }
    NUMBERS = ("texture_size", "resolution")
    """Settings with choices that are sent as numbers."""

    def submit(self, order: Order) -> Handle:
        """Puts the request into the queue."""
        model = order.model or DEFAULTS[order.kind]
        inputs = INPUTS.get(model, Inputs())  # most other models name their fields so
        urls = [picture.data_uri for picture in order.pictures]
        field = {"image": inputs.image or inputs.images, "images": inputs.images, "text": inputs.text}[order.kind]
        if not field:
            raise ServiceError(f"{self.client.title}: {model} does not take {what(order)}: choose another model")
        value = {
            "image": urls[:1] if field == inputs.images else "".join(urls[:1]),
            "images": urls,
            "text": order.prompt,
        }
        settings = {name: int(value) if name in self.NUMBERS else value for name, value in self.sent(order).items()}
        body = {field: value[order.kind], "seed": order.seed, **settings}
        answer = self.client.order(f"/{model}", body)
        return {"id": self.text(answer, "request_id", needed="request_id"), "app": "/".join(model.split("/")[:2])}

    def report(self, handle: Handle) -> Report:
        """The request's state, or its result when it is done."""
        path = f"/{handle['app']}/requests/{handle['id']}"
        status = object_of(self.client.get(f"{path}/status"), self.client.title)
        state = self.state_of(self.text(status, "status", needed="status"), STATES)
        if state != "done":
            position = status.get("queue_position")
            reason = f"{position} requests before it" if state == "waiting" and position else ""
            return Report(state, status, reason=reason)
        if status.get("error"):
            return Report("failed", status, reason=self.client.clean(status["error"]))
        try:
            return Report("done", object_of(self.client.get(path), self.client.title), 1.0)
        except ServiceError as error:
            if error.status in (400, 422):  # the model refused its input
                return Report("failed", status, reason=str(error))
            raise

    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The GLB."""
        found = self.text(answer, "model_urls", "glb", "url") or next(
            (url for name in RESULTS if (url := self.text(answer, name, "url"))), ""
        )
        if not found:
            raise ServiceError(
                f"the answer of {self.client.title} has none of {', '.join(RESULTS)}: choose another model"
            )
        return found


def what(order: Order) -> str:
    """What an order starts from, in words."""
    return {"image": "one picture", "images": "several pictures", "text": "a text"}[order.kind]
