# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

from img3d_base.atomic_files import write_atomically


def test_two_threads_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"

    def write_other() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("other")

    with write_atomically(path) as temporary:
        temporary.write_text("first")
        thread = threading.Thread(target=write_other)
        thread.start()
        thread.join()
        assert path.read_text() == "other"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
