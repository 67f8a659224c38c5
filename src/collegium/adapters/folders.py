"""Folders whose names survive a power cut: a new name is durable once the folder it stands in was synced."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Makes ``folder`` (with ``mode``) and what is missing above it, durably; one that is there stays as it is.

    Raises ``OSError``.
    """
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` durable. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
