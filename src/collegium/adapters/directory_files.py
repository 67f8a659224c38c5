"""The cards of workers of one machine: a file each, beside the files that show which of them live."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from collegium.domain.errors import StoreFull, StoreReadOnly, StoreUnavailable, UsageError
from collegium.domain.worker import WorkerCard
from collegium.ports import Clock

_WORKER: Final = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")
_FORGOTTEN_S: Final = 86_400.0
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY: Final = {errno.EPERM, errno.EACCES, errno.EROFS}


class _Posted(msgspec.Struct, frozen=True):
    until: float
    card: WorkerCard


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Posted).decode


class FileDirectory:
    """Implements ``Directory`` for the processes of one machine. Cards are never fsynced: losing them loses a view.

    Args:
        folder: Made with the first card; every process names the same one.
        clock: Tells which cards still count, by its time of day: all processes share it.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card for ``ttl_s`` seconds, in place of the worker's last one. Raises ``StoreError``."""
        path = self._path(card.worker)
        posted = _Posted(until=(self._clock.now() + timedelta(seconds=ttl_s)).timestamp(), card=card)
        # Renamed: a reader finds the last card or this one, never half of one.
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            hidden.write_bytes(_encode(posted))
            hidden.replace(path)
        except OSError as error:
            raise _store_error(error, path) from error

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker; very old ones are deleted. Raises ``StoreError``."""
        now_s = self._clock.now().timestamp()
        cards = []
        for path in sorted(self._folder.glob("*.card")):
            try:
                posted = _decode(path.read_bytes())
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError:
                continue  # written by another version
            except OSError as error:
                raise _store_error(error, path) from error
            if posted.until > now_s:
                cards.append(posted.card)
            elif posted.until < now_s - _FORGOTTEN_S:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return tuple(sorted(cards, key=lambda card: card.worker))

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless. Raises ``StoreError``."""
        path = self._path(worker)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _store_error(error, path) from error

    def _path(self, worker: str) -> Path:
        if _WORKER.match(worker) is None:
            raise UsageError(f"{worker[:80]!r} is no id of a worker: 1 to 100 letters, digits, _ and -")
        return self._folder / f"{worker}.card"


def _store_error(error: OSError, path: Path) -> StoreUnavailable | StoreFull | StoreReadOnly:
    text = f"the card {path} cannot be written or read: {error.strerror or error}"
    if error.errno in _FULL:
        return StoreFull(text, path=str(path))
    if error.errno in _READ_ONLY:
        return StoreReadOnly(text, path=str(path))
    return StoreUnavailable(text, path=str(path))
