# SPDX-License-Identifier: Apache-2.0
"""Short stand-ins for `ns-train` and `img3d-export`, for items of a batch.

One whose data are called "broken" fails, one called "hungry" takes memory.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def value(name: str) -> Path:
    return Path(sys.argv[sys.argv.index(name) + 1])


if sys.argv[1] == "ns-train":
    data = value("--data").stem
    print(f"Continuing {data}" if "--load-dir" in sys.argv else f"Training {data}")
    print(f"{os.environ['OMP_NUM_THREADS']} threads")
    if data == "broken":
        print("Error: These photos share nothing.")
        raise SystemExit(1)
    if data == "hungry":
        held = bytearray(600_000_000)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(60)
    run = value("--output-dir") / "scene" / sys.argv[2] / "run"
    (run / "nerfstudio_models").mkdir(parents=True, exist_ok=True)
    (run / "nerfstudio_models" / "step-000000010.ckpt").touch()
    (run / "config.yml").write_text("a run")
else:
    value("--output").write_bytes(b"exported")
