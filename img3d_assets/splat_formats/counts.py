# SPDX-License-Identifier: Apache-2.0
"""Checks of the number of Gaussians that a file claims."""

from __future__ import annotations

from pathlib import Path

from img3d_assets.gaussians import SH_COEFFICIENTS
from img3d_base.errors import InputError
from img3d_base.foreign_files import check_expansion

MAX_GAUSSIANS = 100_000_000
"""Largest number of Gaussians read from a file. Viewers show tens of millions; each takes 56 to 236 bytes."""


def check_count(claimed: object, path: Path) -> int:
    """Returns the number of Gaussians that a file claims to have, if it is plausible.

    Args:
        claimed: The claim, untrusted: perhaps not a number.
        path: The file, for messages.

    Raises:
        InputError: It is not an integer from 1 to `MAX_GAUSSIANS`.
    """
    if not isinstance(claimed, int) or isinstance(claimed, bool) or claimed < 1:
        raise InputError(f"{path} has no Gaussians, or does not say how many: it is empty or damaged.")
    if claimed > MAX_GAUSSIANS:
        raise InputError(f"{path} claims to have {claimed:,} Gaussians: at most {MAX_GAUSSIANS:,} are read.")
    return claimed


def check_packed(claimed: object, sh_degree: int, packed: int, path: Path) -> int:
    """As `check_count`, for compressed files: the memory for the Gaussians must be in proportion to the file's size.

    Args:
        claimed: The claim, untrusted: perhaps not a number.
        sh_degree: Degree of the spherical harmonics that are kept.
        packed: Size in bytes of the compressed data.
        path: The file, for messages.

    Raises:
        InputError: It is not a plausible number.
    """
    num = check_count(claimed, path)
    check_expansion(4 * (14 + 3 * SH_COEFFICIENTS[sh_degree]) * num, packed, f"{path}: its {num:,} Gaussians")
    return num
