"""What every kind of work folder keeps to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from collegium.domain.errors import ToolError

_RUN: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


class FolderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one run may keep in its work folder."""

    file_bytes: int = 16 * 1024 * 1024
    total_bytes: int = 256 * 1024 * 1024
    files: int = 10_000


LIMITS: Final = FolderLimits()


def run_folder(run: str) -> str:
    """The run's id as the name of a folder. Raises ValueError for what is none."""
    if not _RUN.fullmatch(run):
        raise ValueError(f"{run!r} is no run id: letters, digits, _ and - only")
    return run


def check_room(sizes: Mapping[str, int], path: str, size: int, limits: FolderLimits) -> None:
    """Refuses a file of ``size`` bytes at ``path`` in a folder that holds ``sizes`` by path.

    Raises:
        ToolError: A cap would be passed; the text says which and by how much.
    """
    if size > limits.file_bytes:
        raise ToolError(
            f"{path} would have {size:,} bytes, at most {limits.file_bytes:,}: write less, or several files"
        )
    if path not in sizes and len(sizes) >= limits.files:
        raise ToolError(f"the work folder has {len(sizes):,} files, at most {limits.files:,}: reuse one of them")
    total = sum(sizes.values()) - sizes.get(path, 0) + size
    if total > limits.total_bytes:
        raise ToolError(f"the work folder would hold {total:,} bytes, at most {limits.total_bytes:,}: write less")
