# SPDX-License-Identifier: Apache-2.0
"""What the viewer's page is built from is pinned by hashes, whichever registry it comes from."""

from __future__ import annotations

import json
from pathlib import Path

WEB = Path(__file__).resolve().parents[2] / "img3d_exporters" / "web"


def test_the_lock_file_has_names_versions_and_hashes() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    root, packages = lock["packages"].pop(""), lock["packages"]
    manifest = json.loads((WEB / "package.json").read_text())
    for kind in ("dependencies", "devDependencies"):
        assert root[kind] == manifest[kind]
        for name, version in manifest[kind].items():
            assert packages[f"node_modules/{name}"]["version"] == version
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
