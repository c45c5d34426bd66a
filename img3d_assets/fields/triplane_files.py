# SPDX-License-Identifier: Apache-2.0
"""Files of triplanes: the state dict as safetensors."""

from __future__ import annotations

from pathlib import Path

from img3d_assets.fields.triplane import TriplaneField
from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, reason, require_regular
from img3d_base.output_files import written_whole

ENDING = ".safetensors"


def write_triplane(field: TriplaneField, path: Path) -> None:
    """Writes a field.

    Raises:
        InputError: The file cannot be written.
    """
    from safetensors.torch import save_file

    with written_whole(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in field.state_dict().items()}, temporary)


def read_triplane(path: Path) -> TriplaneField:
    """Reads what `write_triplane` wrote.

    Raises:
        InputError: The file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return TriplaneField.of_state_dict(load_file(require_regular(path)))
    except (*MALFORMED, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} is damaged, or holds no triplane ({reason(error)})") from error
