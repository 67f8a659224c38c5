"""Locks between processes of one machine: ``flock`` on a file, which the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from collegium.domain.errors import ModelUnavailable
from collegium.ports import Clock

_POLL_S = 0.05


def try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock on ``path``, or None where another process holds it.

    Close the descriptor to release the lock. The file stays: removing it would let two processes lock two files.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on ``path``."""
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@asynccontextmanager
async def locked(path: Path, *, clock: Clock, timeout_s: float, why: str) -> AsyncIterator[None]:
    """Holds the lock on ``path`` for the time of the block, waiting for it at most ``timeout_s``.

    Raises:
        ModelUnavailable: another process held it for all that time; ``why`` says what for.
    """
    deadline = clock.monotonic() + timeout_s
    while (descriptor := try_lock(path)) is None:
        if clock.monotonic() >= deadline:
            raise ModelUnavailable(
                f"another process has been {why} for more than {timeout_s:g} s (lock {path})", lock=str(path)
            )
        await clock.sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)
