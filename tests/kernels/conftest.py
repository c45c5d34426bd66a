# SPDX-License-Identifier: Apache-2.0
"""IMG3D_TEST_EXTENSION=FILE tests another build of the compiled extension than the installed one: `make sanitize`."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

if file := os.environ.get("IMG3D_TEST_EXTENSION"):
    spec = spec_from_file_location("img3d_kernels._C", file)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    from img3d_kernels import cpu_backend

    # Some, for the thread sanitizer to look at; torch's own are to be one, as it knows nothing of what torch waits for.
    cpu_backend._C.set_num_threads(4)
