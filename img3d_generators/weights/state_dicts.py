# SPDX-License-Identifier: Apache-2.0
"""Reads weights from files safely: no code in them is executed, and mismatches are reported in one line."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from img3d_base.errors import InputError, some_names
from img3d_base.foreign_files import reason


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def git_blob_sha1_of(path: Path) -> str:
    """Git's hash of a file's content, in hexadecimal digits: the SHA-1 of a short header and the content."""
    contents = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors in a .safetensors file or in one of torch's own (.bin, .pt, .ckpt), by name.

    One of torch's own can have the other's name: a user's own file is linked in the place of the published one. They
    are memory-mapped if the format allows.

    Raises:
        InputError: The file is missing or damaged, or holds something other than tensors.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}.")
    try:
        is_torchs = zipfile.is_zipfile(path)
        if path.suffix != ".safetensors":
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_torchs)
        elif is_torchs:
            with path.open("rb") as file:  # torch would go by the name
                content = torch.load(file, map_location="cpu", weights_only=True)
        else:
            from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

            return load_file(path)
    except pickle.UnpicklingError:  # its message recommends running the code in the file
        raise InputError(
            f"{path} is damaged or holds Python objects, which could run code, not plain weights; fetch it again."
        ) from None
    except Exception as error:  # zip, pickle and safetensors have no common error
        raise InputError(f"{path} is damaged or has no plain weights ({reason(error)}); fetch it again.") from None
    if isinstance(content, Mapping):
        content = cast(Mapping[str, Any], content).get("state_dict", cast(Any, content))
    if isinstance(content, Mapping):
        weights = cast(Mapping[str, Any], content)
        if all(isinstance(value, Tensor) for value in weights.values()):
            return dict(weights)
    raise InputError(f"{path} holds something other than weights.")


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path, dtype: torch.dtype) -> None:
    """Loads weights into a network for inference. The network may be on torch's "meta" device.

    Args:
        module: The network.
        weights: The complete state dict, with the network's own names.
        source: The file that they come from, for messages.
        dtype: The data type to which they are converted.

    Raises:
        InputError: The weights belong to another network.
    """
    expected = module.state_dict()
    wrong = [
        *(f"{key} is missing" for key in expected if key not in weights),
        *(f"{key} is unexpected" for key in weights if key not in expected),
        *(
            f"{key} is {list(weights[key].shape)}, not {list(value.shape)}"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ),
    ]
    if wrong:
        raise InputError(f"{source} does not fit {type(module).__name__}, in {len(wrong)} places: {some_names(wrong)}")
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    # A single weight of a mapped file would keep all of it in memory beside the converted ones.
    copy = any(value.dtype != dtype for value in floats.values())
    converted = {key: value.to(dtype, copy=copy) for key, value in floats.items()}
    module.load_state_dict({**weights, **converted}, assign=True)
    module.eval().requires_grad_(False)
