# SPDX-License-Identifier: Apache-2.0
"""Stability AI: Stable Fast 3D and Stable Point Aware 3D (https://platform.stability.ai/docs/api-reference, "3D").

A form with the picture is answered with the GLB itself, so a job that is interrupted cannot be picked up. Refusals are
`{"id", "name", "errors": […]}`; `content_moderation` comes with status 403.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from img3d_base.errors import InputError
from img3d_generators.services.adapter import ImmediateAdapter, Order, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.settings import Setting, form_value

FAST, POINT_AWARE = "stable-fast-3d", "stable-point-aware-3d"
BALANCE = "/v1/user/balance"
GLB = "model/gltf-binary"
MAX_BYTES = 256 << 20


class Stability(ImmediateAdapter):
    """Stability AI's protocol."""

    MODELS = (FAST, POINT_AWARE)
    READ_SECONDS = 300.0  # the answer begins when the mesh is finished
    HELP: ClassVar[dict[int, str]] = {
        403: "the picture was refused by the content moderation, or the key has no access",
        413: "the picture is too large",
    }
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "texture_resolution": Setting(str, "width and height of the texture", ("512", "1024", "2048")),
        "foreground_ratio": Setting(float, "how much of the frame the object fills", low=0.1, high=2.0),
        "remesh": Setting(str, "faces", ("none", "triangle", "quad")),
        "vertex_count": Setting(int, f"number of vertices ({FAST}); -1: any", low=-1, high=20_000),
        "target_type": Setting(str, f"what target_count counts ({POINT_AWARE})", ("none", "vertex", "face")),
        "target_count": Setting(int, f"number of vertices or faces ({POINT_AWARE})", low=100, high=20_000),
        "guidance_scale": Setting(float, f"how closely it follows the picture ({POINT_AWARE})", low=1, high=10),
    }
    OF_ONE = {
        "vertex_count": FAST,
        **dict.fromkeys(("target_type", "target_count", "guidance_scale"), POINT_AWARE),
    }
    """Settings that only one of the models has."""

    def make(self, order: Order, path: Path) -> dict[str, Any]:
        """Makes the mesh."""
        model = self.model_of(order)
        if model not in self.MODELS:
            raise ServiceError(f"{self.client.title} has the models {' and '.join(self.MODELS)}, not {model}")
        settings = self.sent(order)
        for name in settings:
            if self.OF_ONE.get(name, model) != model:
                raise ServiceError(f"{self.client.title}: the setting {name} is for {self.OF_ONE[name]}")
        fields = {name: form_value(value) for name, value in settings.items()}
        if model == POINT_AWARE:
            fields["seed"] = str(order.seed)
        files = [("image", order.pictures[0].named("picture"))]
        response = self.client.send_form(f"/v2beta/3d/{model}", fields, files, costs=True, accept=GLB)
        if len(response.content) > MAX_BYTES:
            raise ServiceError(f"{self.client.title} sends {len(response.content):,} bytes; {MAX_BYTES:,} are the most")
        if response.headers.get("finish-reason", "").upper() == "CONTENT_FILTERED":
            raise ServiceError(f"{self.client.title} refuses the picture: its content moderation flagged it", 403)
        if not response.content.startswith(b"glTF"):
            raise ServiceError(f"{self.client.title} answers with something else than a GLB")
        try:
            path.write_bytes(response.content)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
        said = {"model": model, "bytes": len(response.content)}
        return said | {name: response.headers[name] for name in ("x-request-id", "seed") if name in response.headers}

    def balance(self) -> str | None:
        """The credits left."""
        credits = object_of(self.client.get(BALANCE), self.client.title).get("credits")
        if not isinstance(credits, (int, float)):
            raise ServiceError(f"the answer of {self.client.title} has no credits: its protocol may have changed")
        return f"{credits:g} credits"
