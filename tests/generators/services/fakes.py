# SPDX-License-Identifier: Apache-2.0
"""One fake a service: paths, fields, states and refusals as documented."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from fake_service import FakeService, Reply, Request, unknown_fields


def is_picture(uri: Any) -> bool:
    """Whether a value is a data URI with a picture in it."""
    kind, _, content = str(uri).partition(";base64,")
    magic = {"data:image/png": b"\x89PNG", "data:image/jpeg": b"\xff\xd8\xff"}.get(kind)
    return magic is not None and base64.b64decode(content).startswith(magic)


@dataclass
class FakeMeshy(FakeService):
    """docs.meshy.ai."""

    states: list[Any] = field(default_factory=lambda: ["PENDING", "IN_PROGRESS", "SUCCEEDED"])
    error: str = ""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    COMMON = {"ai_model", "model_type", "should_remesh", "topology", "target_polycount", "symmetry_mode", "pose_mode"}
    COMMON |= {"target_formats", "auto_size", "origin_at", "moderation"}
    PAINTED = {"enable_pbr", "texture_prompt", "texture_image_url", "remove_lighting"}
    OF_PICTURES = {"should_texture", "image_enhancement", "save_pre_remeshed_model"} | COMMON | PAINTED
    DOCUMENTED = {
        "/openapi/v1/image-to-3d": OF_PICTURES | {"image_url"},
        "/openapi/v1/multi-image-to-3d": OF_PICTURES | {"image_urls"},
    }
    REFINE = {"mode", "preview_task_id", "ai_model", "target_formats", "auto_size", "origin_at"} | PAINTED

    def answer(self, request: Request) -> Reply:
        if request.path == "/openapi/v1/balance":
            return Reply(200, {"balance": 1000})
        if request.method == "POST":
            return self._made(request.path, request.json)
        path, _, name = request.path.rpartition("/")
        if name not in self.tasks or self.tasks[name]["path"] != path:
            return Reply(404, {"message": "Task not found"})
        status = self.next_state()
        task: dict[str, Any] = {
            **{"id": name, "type": path.rpartition("/")[2], "status": status, "progress": 0, "created_at": 1},
            **{"started_at": 0, "finished_at": 0, "expires_at": 2, "preceding_tasks": 3, "model_urls": {}},
            **{"texture_urls": [], "thumbnail_url": "", "task_error": {"message": ""}},
        }
        if status == "IN_PROGRESS":
            task |= {"progress": 40, "started_at": 2, "preceding_tasks": 0}
        if status in ("FAILED", "CANCELED"):
            task["task_error"] = {"message": self.error}
        if status == "SUCCEEDED":
            urls = {"glb": self.link(), "fbx": f"{self.url}/files/asset.fbx?Signature=x"}
            task |= {"progress": 100, "model_urls": urls, "consumed_credits": self.tasks[name]["credits"]}
            self.states = ["IN_PROGRESS", "SUCCEEDED"] if self.tasks[name].get("preview") else ["SUCCEEDED"]
        return Reply(200, task)

    def _made(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/openapi/v2/text-to-3d":
            preview = body.get("mode") == "preview"
            documented = {"mode", "prompt"} | self.COMMON if preview else self.REFINE
            known = bool(body.get("prompt")) if preview else body.get("preview_task_id") in self.tasks
            credits = 20 if preview else 10
        elif path in self.DOCUMENTED:
            documented, preview, credits = self.DOCUMENTED[path], False, 30
            urls = body.get("image_urls", [body.get("image_url")])
            known = 1 <= len(urls) <= 4 and all(map(is_picture, urls))
        else:
            return Reply(404, {"message": "No such path"})
        if refused := unknown_fields(body, documented):
            return refused
        if not known:
            return Reply(400, {"message": "image_url: must be a valid image"})
        self.jobs += 1
        name = f"task-{self.jobs}"
        self.tasks[name] = {"path": path, "credits": credits, "preview": preview}
        return Reply(202, {"result": name})


@dataclass
class FakeCsm(FakeService):
    """The sessions of CSM's own client, and those of version 3."""

    states: list[Any] = field(default_factory=lambda: ["queued", "incomplete", "in_progress", "complete"])
    error: str = ""
    sessions: dict[str, str] = field(default_factory=dict)
    header = "x-api-key"
    scheme = ""
    MESHING = {"geometry_model", "texture_model", "topology", "resolution", "symmetry", "scaled_bbox"}
    MESHING |= {"preserve_aspect_ratio", "pivot_point"}
    PICTURE_OF_TEXT = "https://provider.example/of-text.png?Signature=x"

    def answer(self, request: Request) -> Reply:
        if request.path == "/user/credits":
            return Reply(200, {"credits": 77, "plan": "Maker"})
        if request.method == "POST":
            return self._made(request.path, request.json)
        path, _, code = request.path.rpartition("/")
        if self.sessions.get(code) != path:
            return Reply(404, {"statusCode": 404, "message": "Session not found"})
        status = self.next_state()
        session: dict[str, Any] = {"session_code": code, "percent_done": 100 if status.startswith("complete") else 50}
        if path == "/tti-sessions":
            done = {"image_url": self.PICTURE_OF_TEXT} if status == "complete" else {}
            if done:
                self.states = ["in_progress", "complete"]
            return Reply(200, {"statusCode": 200, "data": {**session, "status": status, **done}})
        mesh = {"mesh_url_glb": self.link(), "mesh_url_obj": ""} if status.startswith("complete") else {}
        if path == "/v3/sessions":
            return Reply(200, {"_id": code, "status": status, "percent_done": 50, "output": mesh})
        failed = {"error": self.error} if status == "failed" else {}
        return Reply(200, {"statusCode": 200, "data": {**session, "session_status": status, **mesh, **failed}})

    def _made(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/tti-sessions":
            refused = unknown_fields(body, {"prompt", "style_id", "guidance"})
        elif path == "/v3/sessions/":
            assert body["type"] == "multiview_to_3d" and all(map(is_picture, body["input"]["image_urls"]))
            refused = unknown_fields(body["input"]["settings"], self.MESHING)
        else:
            assert is_picture(body["image_url"]) or body["image_url"] == self.PICTURE_OF_TEXT
            refused = unknown_fields(body, self.MESHING | {"image_url"})
        if refused:
            return refused
        self.jobs += 1
        code = f"SESSION_{self.jobs}"
        self.sessions[code] = path.rstrip("/")
        if path == "/v3/sessions/":
            return Reply(201, {"_id": code, "status": "incomplete"})
        return Reply(201, {"statusCode": 201, "message": "", "data": {"session_code": code}})


@dataclass
class FakeTripo(FakeService):
    """developers.tripo3d.ai, version 3."""

    states: list[Any] = field(default_factory=lambda: ["queued", "running", "success"])
    error: str = ""
    code: int = 0
    """A refusal with status 200."""
    output: str = "model_url"
    tokens: dict[str, bytes] = field(default_factory=dict)
    COMMON = {"model", "model_seed", "face_limit", "texture", "pbr", "texture_seed", "texture_quality"}
    COMMON |= {"geometry_quality", "auto_size", "export_uv"}
    DOCUMENTED = {
        "/v3/generation/text-to-model": COMMON | {"prompt", "negative_prompt"},
        "/v3/generation/image-to-model": COMMON | {"input", "texture_alignment", "orientation", "enable_image_autofix"},
        "/v3/generation/multiview-to-model": COMMON | {"inputs", "orientation"},
        "/v3/generation/image-to-splat": {"input", "model_seed"},
    }

    def answer(self, request: Request) -> Reply:
        if request.path == "/v3/account/balance":
            return Reply(200, {"code": 0, "data": {"balance": 99.5, "frozen": 20}})
        if request.path == "/v3/files":
            (content,) = request.form["file"]
            token = f"file_{len(self.tokens)}"
            self.tokens[token] = content
            return Reply(200, {"code": 0, "data": {"file_token": token}})
        if request.method == "POST":
            return self._made(request.path, request.json)
        assert request.path == f"/v3/tasks/task_{self.jobs}"
        status = self.next_state()
        task: dict[str, Any] = {"task_id": f"task_{self.jobs}", "type": "x", "status": status, "progress": 10}
        if status == "running":
            task |= {"progress": 50, "running_left_time": 7}
        if status == "failed":
            task |= {"error_code": 2008, "error_message": self.error}
        if status == "success":
            (name,) = self.files
            task |= {"progress": 100, "credits_consumed": 30, "output": {self.output: self.link(name)}}
        return Reply(200, {"code": 0, "data": task})

    def _made(self, path: str, body: dict[str, Any]) -> Reply:
        if self.code:
            return Reply(
                200, {"code": self.code, "message": "Your credit is not enough", "suggestion": "Please top up"}
            )
        if path not in self.DOCUMENTED:
            return Reply(404, {"code": 1000, "message": "No such path"})
        if refused := unknown_fields(body, self.DOCUMENTED[path]):
            return refused
        given = [body["input"]] if "input" in body else [next(iter(each.values())) for each in body.get("inputs", [])]
        assert set(given) <= set(self.tokens) and (given or body["prompt"])
        self.jobs += 1
        return Reply(200, {"code": 0, "data": {"task_id": f"task_{self.jobs}"}})


@dataclass
class FakeStability(FakeService):
    """platform.stability.ai/docs/api-reference."""

    refusal: Reply | None = None
    DOCUMENTED = {
        "/v2beta/3d/stable-fast-3d": {"texture_resolution", "foreground_ratio", "remesh", "vertex_count"},
        "/v2beta/3d/stable-point-aware-3d": {
            *("texture_resolution", "foreground_ratio", "remesh", "target_type", "target_count"),
            *("guidance_scale", "seed"),
        },
    }

    def answer(self, request: Request) -> Reply:
        if request.path == "/v1/user/balance":
            return Reply(200, {"credits": 12.5})
        form = dict(request.form)
        (content,) = form.pop("image")
        assert content.startswith((b"\x89PNG", b"\xff\xd8\xff"))
        assert request.headers["accept"] == "model/gltf-binary"
        if refused := unknown_fields(form, self.DOCUMENTED[request.path]):
            return refused
        if self.refusal is not None:
            return self.refusal
        self.jobs += 1
        return Reply(200, self.files["/files/asset.glb"], {"x-request-id": "r-1"})


@dataclass
class FakeFal(FakeService):
    """docs.fal.ai: the queue."""

    states: list[Any] = field(default_factory=lambda: ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"])
    refusal: Any = None
    """The `detail` of a refusal by the model."""
    result: str = "model_mesh"
    model: str = ""
    scheme = "Key "
    TRELLIS = {"seed", "ss_guidance_strength", "ss_sampling_steps", "slat_guidance_strength", "slat_sampling_steps"}
    TRELLIS |= {"mesh_simplify", "texture_size"}
    DOCUMENTED = {
        "/fal-ai/trellis": TRELLIS | {"image_url"},
        "/fal-ai/trellis/multi": TRELLIS | {"image_urls"},
        "/fal-ai/trellis-2": {"image_url", "seed", "resolution", "texture_size"},
        "/fal-ai/hunyuan-3d/v3.1/pro/image-to-3d": {"input_image_url", "seed", "enable_pbr", "face_count"},
        "/fal-ai/hunyuan-3d/v3.1/pro/text-to-3d": {"prompt", "seed", "enable_pbr", "face_count"},
    }

    def answer(self, request: Request) -> Reply:
        if request.method == "POST":
            return self._made(request.path, request.json)
        app = "/".join(self.model.split("/")[:3])
        path = f"{app}/requests/request-{self.jobs}"
        if request.path == f"{path}/status":
            status = self.next_state()
            position = {"queue_position": 2} if status == "IN_QUEUE" else {}
            urls = {"status_url": "https://elsewhere.example/status", "response_url": "https://elsewhere.example/x"}
            return Reply(200, {"status": status, "request_id": f"request-{self.jobs}", **urls, **position})
        assert request.path == path
        if self.refusal is not None:
            return Reply(422, {"detail": self.refusal}, {"X-Fal-Retryable": "false"})
        content = {"url": self.link(), "content_type": "model/gltf-binary", "file_size": 1}
        return Reply(200, {self.result: content, "timings": {}})

    def _made(self, path: str, body: dict[str, Any]) -> Reply:
        if path not in self.DOCUMENTED:
            return Reply(404, {"detail": "Application not found"})
        if refused := unknown_fields(body, self.DOCUMENTED[path]):
            return refused
        assert all(is_picture(url) for name in body if "image" in name for url in _list(body[name]))
        assert all(isinstance(body[name], int) for name in ("texture_size", "resolution") if name in body)
        self.jobs, self.model = self.jobs + 1, path
        request = f"request-{self.jobs}"
        url = f"https://elsewhere.example/requests/{request}"
        urls = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
        return Reply(200, {"status": "IN_QUEUE", "request_id": request, "queue_position": 2, **urls})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass
class FakeRodin(FakeService):
    """developer.hyper3d.ai."""

    states: list[Any] = field(
        default_factory=lambda: [("Waiting", "Waiting"), ("Generating", "Done"), ("Done", "Done")]
    )
    error: str = ""
    """The error of an order, which comes with status 201."""
    listed: tuple[str, ...] = ("preview.webp", "base.glb")
    DOCUMENTED = {"images", "prompt", "tier", "geometry_file_format", "seed", "material", "quality", "mesh_mode"}
    DOCUMENTED |= {"quality_override", "texture_mode", "addons", "TAPose", "bbox_condition"}

    def answer(self, request: Request) -> Reply:
        if request.path == "/api/v2/check_balance":
            return Reply(200, {"error": None, "balance": 4.5})
        if request.path == "/api/v2/rodin":
            form = request.form
            if refused := unknown_fields(form, self.DOCUMENTED):
                return refused
            assert len(form.get("images", [])) <= 5 and (form.get("images") or form.get("prompt"))
            assert form["geometry_file_format"] == [b"glb"]
            if self.error:
                return Reply(201, {"error": self.error, "message": "Not enough credits"})
            self.jobs += 1
            jobs = {"uuids": ["a", "b"], "subscription_key": "key-of-the-job"}
            return Reply(201, {"error": None, "message": "Submitted.", "uuid": f"uuid-{self.jobs}", "jobs": jobs})
        if request.path == "/api/v2/status":
            assert request.json == {"subscription_key": "key-of-the-job"}
            return Reply(201, {"error": None, "jobs": [{"uuid": "a", "status": each} for each in self.next_state()]})
        assert request.path == "/api/v2/download" and request.json == {"task_uuid": f"uuid-{self.jobs}"}
        return Reply(201, {"error": None, "list": [{"url": self.link(), "name": name} for name in self.listed]})
