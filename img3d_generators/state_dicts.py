# SPDX-License-Identifier: Apache-2.0
"""Weights from files, safely: no code in them is run, and what does not fit a network is refused in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from img3d_base.errors import InputError, some_names


def sha256_of(path: Path) -> str:
    """A file's checksum in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def git_blob_sha1_of(path: Path) -> str:
    """The name that git gives a file's contents: hexadecimal digits of the SHA-1 of a short header and the contents."""
    contents = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file or in one of torch's own (.bin, .pt, .ckpt), by their names.

    They stay in the file until they are used, where its format allows.

    Raises:
        InputError: there is no such file, it is damaged, or it holds something else than tensors.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip and safetensors have no common one
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is damaged or holds no plain weights ({reason}); fetch it again.") from None
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds something else than weights.")
    return dict(content)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path, dtype: torch.dtype) -> None:
    """Gives a network, which may be on torch's "meta" device, its weights; it is for inference from then on.

    Args:
        module: the network.
        weights: its whole state dict, by the network's own names.
        source: where they come from, for messages.
        dtype: what they are converted to.

    Raises:
        InputError: they belong to another network.
    """
    expected = module.state_dict()
    wrong = [
        *(f"{key} is missing" for key in expected if key not in weights),
        *(f"{key} is too many" for key in weights if key not in expected),
        *(
            f"{key} is {list(weights[key].shape)}, not {list(value.shape)}"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ),
    ]
    if wrong:
        raise InputError(
            f"{source} has other weights than {type(module).__name__} takes, in {len(wrong)} places: "
            f"{some_names(wrong)}"
        )
    converted = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    module.load_state_dict(converted, assign=True)
    module.eval().requires_grad_(False)
