# SPDX-License-Identifier: Apache-2.0
"""Rodin, by Hyper3D (https://developer.hyper3d.ai; Deemos' own skill file, https://skills.sh/deemostech).

A form with pictures or a prompt gives `uuid` and `jobs.subscription_key`; /status gives the states of the job's parts,
/download lists its files. Links are valid for ten minutes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from img3d_base.foreign_files import is_json_list
from img3d_generators.services.adapter import Handle, JobAdapter, Order, Report, object_of
from img3d_generators.services.client import ServiceError
from img3d_generators.services.settings import Setting, form_value

SUBMIT, STATUS, DOWNLOAD, BALANCE = "/api/v2/rodin", "/api/v2/status", "/api/v2/download", "/api/v2/check_balance"
MAX_SEED = 65_535
WAITING, DONE, FAILED = "Waiting", "Done", ("Failed", "Canceled")


class Rodin(JobAdapter):
    """Rodin's protocol."""

    MODELS = (
        *("Gen-2", "Gen-2.5-Extreme-Low", "Gen-2.5-Low", "Gen-2.5-Medium", "Gen-2.5-High", "Gen-2.5-Extreme-High"),
        *("Regular", "Smooth", "Detail", "Sketch"),
    )
    SETTINGS: ClassVar[dict[str, Setting]] = {
        "material": Setting(str, "the material", ("PBR", "Shaded", "All", "None")),
        "quality": Setting(str, "size of the mesh", ("high", "medium", "low", "extra-low")),
        "quality_override": Setting(int, "number of faces", low=500, high=2_000_000),
        "mesh_mode": Setting(str, "faces", ("Quad", "Raw")),
        "texture_mode": Setting(str, "the texture", ("legacy", "extreme-low", "low", "medium", "high", "extreme-high")),
        "addons": Setting(str, "4K textures and more faces, for more credits", ("HighPack",)),
        "TAPose": Setting(bool, "whether a figure stands in T or A pose"),
        "bbox_condition": Setting(list, "proportions: width, height, length"),
    }

    def submit(self, order: Order) -> Handle:
        """Makes the job."""
        if not 0 <= order.seed <= MAX_SEED:
            raise ServiceError(f"{self.client.title} takes seeds from 0 to {MAX_SEED}, not {order.seed}")
        fields = {"tier": self.model_of(order), "geometry_file_format": "glb", "seed": str(order.seed)}
        for name, value in self.sent(order).items():
            fields[name] = form_value([int(part) for part in value] if name == "bbox_condition" else value)
        if order.prompt:
            fields["prompt"] = order.prompt
        files = [("images", picture.named(f"picture{i}")) for i, picture in enumerate(order.pictures)]
        answer = object_of(self.client.json_of_form(SUBMIT, fields, files, costs=True), self.client.title)
        if error := self.text(answer, "error"):
            raise ServiceError(f"{self.client.title} refuses: {self._explained(error, answer)}")
        return {
            "id": self.text(answer, "uuid", needed="uuid"),
            "subscription_key": self.text(answer, "jobs", "subscription_key", needed="jobs.subscription_key"),
        }

    def report(self, handle: Handle) -> Report:
        """The states of the job's parts."""
        answer = object_of(self.client.ask(STATUS, {"subscription_key": handle["subscription_key"]}), self.client.title)
        if error := self.text(answer, "error"):
            raise ServiceError(f"{self.client.title}: {self._explained(error, answer)}")
        jobs = answer.get("jobs")
        states = [self.text(job, "status") for job in jobs] if is_json_list(jobs) else []
        if not is_json_list(jobs) or not all(states):
            raise ServiceError(f"the answer of {self.client.title} has no jobs: its protocol may have changed")
        done = states.count(DONE) / max(1, len(states))
        if any(state in FAILED for state in states):
            return Report("failed", answer, done, "it was cancelled" if "Canceled" in states else "")
        if states and done == 1:
            return Report("done", answer, 1.0)
        return Report("waiting" if set(states) <= {WAITING} else "running", answer, done)

    def link(self, handle: Handle, answer: dict[str, Any]) -> str:
        """The GLB among the job's files."""
        listed = object_of(self.client.ask(DOWNLOAD, {"task_uuid": handle["id"]}), self.client.title)
        files = listed.get("list")
        for file in files if is_json_list(files) else []:
            if self.text(file, "name").lower().endswith(".glb") and (url := self.text(file, "url")):
                return url
        raise ServiceError(f"{self.client.title} lists no .glb among the files of the job")

    def balance(self) -> str | None:
        """The credits left."""
        balance = object_of(self.client.get(BALANCE), self.client.title).get("balance")
        if not isinstance(balance, (int, float)):
            raise ServiceError(f"the answer of {self.client.title} has no balance: its protocol may have changed")
        return f"{balance:g} credits"

    def _explained(self, error: str, answer: dict[str, Any]) -> str:
        said = self.client.clean(self.text(answer, "message") or error)
        no_credits = "INSUFFICIENT" in error.upper()
        return f"{said}: no credits are left, see `img3d-remote balance`" if no_credits else said
