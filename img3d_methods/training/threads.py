# SPDX-License-Identifier: Apache-2.0
"""Leaves the cores to our kernels while training on a CPU, rather than to the small torch operations between them."""

from __future__ import annotations

import torch

from img3d_kernels.rendering import has_compiled_kernels


def leave_threads_to_kernels() -> None:
    """Makes torch use one thread, and our kernels as many as torch was set to use (the user's setting).

    The torch operations of a step are short. Waking torch's OpenMP threads costs more than they save, and between
    operations they spin and take the cores from our kernels' threads: on a busy machine with two cores, steps took
    six times longer. The tensors of a million Gaussians would gain from threads, but those train on a GPU.
    """
    if not has_compiled_kernels():
        return
    # The backend copies torch's number of threads when it is first imported.
    from img3d_kernels import cpu_backend  # noqa: F401

    torch.set_num_threads(1)
