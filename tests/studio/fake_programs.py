# SPDX-License-Identifier: Apache-2.0
"""Short stand-ins for `ns-train` and `img3d-export`, which write what the studio looks for.

    python fake_programs.py ns-train img3d-splat --output-dir … …

A file "hold" in the run's folder keeps training from ending; "fail" lets it fail.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path


def _value(name: str) -> Path:
    return Path(sys.argv[sys.argv.index(name) + 1])


def _train() -> None:
    run = _value("--output-dir") / "scene" / sys.argv[2] / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yml").write_text("a run")
    print("Matching photos: 3 of 12 (25%), about 9 s left")
    print("Poses: 12 of 12 photos registered, 99 points")
    if Path("fail").exists():
        print("Error: These photos share nothing.")
        raise SystemExit(1)

    def save(number: int, frame: object) -> None:
        (run / "nerfstudio_models").mkdir(exist_ok=True)
        (run / "nerfstudio_models" / "step-000000010.ckpt").write_text("")
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, save)
    print("Step (% Done)       Train Iter (time)    ETA (time)           Gaussians            Train PSNR")
    print("50 (2.50%)          49.114 ms            2 m, 31 s            35,525               22.5858", flush=True)
    while Path("hold").exists():
        time.sleep(0.02)
    if "--load-dir" in sys.argv:
        print("Continuing")


def _export() -> None:
    if "--output-dir" in sys.argv:
        folder = _value("--output-dir")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text("<title>the scene</title>")
    else:
        _value("--output").write_bytes(b"exported")


if __name__ == "__main__":
    _train() if sys.argv[1] == "ns-train" else _export()
