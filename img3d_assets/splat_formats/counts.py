# SPDX-License-Identifier: Apache-2.0
"""How many Gaussians a file may have."""

from __future__ import annotations

from pathlib import Path

from img3d_assets.gaussians import SH_COEFFICIENTS
from img3d_base.errors import InputError
from img3d_base.foreign_files import check_expansion

MOST = 100_000_000
"""Of Gaussians in a file; viewers show tens of millions, and each takes 56 to 236 bytes."""


def check_count(claimed: object, path: Path) -> int:
    """The number of Gaussians that a file claims to have, if so many can be meant.

    Args:
        claimed: Foreign, hence perhaps no number.
        path: The file.

    Raises:
        InputError: It is no such number.
    """
    if not isinstance(claimed, int) or isinstance(claimed, bool) or claimed < 1:
        raise InputError(f"{path} has no Gaussians, or does not say how many: it is empty or damaged.")
    if claimed > MOST:
        raise InputError(f"{path} claims to have {claimed:,} Gaussians: at most {MOST:,} are read.")
    return claimed


def check_packed(claimed: object, sh_degree: int, packed: int, path: Path) -> int:
    """As `check_count`, of a file that is compressed: what the Gaussians take has to be in proportion to its size.

    Args:
        claimed: Foreign, hence perhaps no number.
        sh_degree: Of the spherical harmonics that are kept.
        packed: Bytes of what holds them.
        path: The file.

    Raises:
        InputError: It is no such number.
    """
    num = check_count(claimed, path)
    check_expansion(4 * (14 + 3 * SH_COEFFICIENTS[sh_degree]) * num, packed, f"{path}: its {num:,} Gaussians")
    return num
