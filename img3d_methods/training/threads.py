# SPDX-License-Identifier: Apache-2.0
"""Who uses the cores while training on a CPU: our kernels, not the small torch operations between them."""

from __future__ import annotations

import torch

from img3d_kernels.rendering import has_compiled_kernels


def leave_threads_to_kernels() -> None:
    """Let torch use one thread, and our kernels as many as torch was to use until now (the user's setting).

    What torch does in a step is short. Its OpenMP threads cost more to wake than they save there, and between
    operations they spin, which takes the cores from our kernels' threads: on a busy machine with two cores that made
    steps six times slower. The tensors of a million Gaussians would gain from threads, but those train on a GPU.
    """
    if not has_compiled_kernels():
        return
    # The backend copies torch's number of threads when it is first imported.
    from img3d_kernels import cpu_backend  # noqa: F401

    torch.set_num_threads(1)
