"""Uploads: files that were handed over before the goal that names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

import msgspec

from collegium.domain.document import GivenFile
from collegium.domain.errors import NotFound, TooLarge, UnreadableInput, UsageError
from collegium.domain.ids import Ids
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import us_of
from collegium.ports import Blobs, Records

KIND: Final = "upload"
LIVES: Final = timedelta(hours=24)
MAX_NAME_CHARS: Final = 500
MOST_FILES: Final = 2_000
"""So many files go with one goal."""
MOST_BYTES: Final = 512 * 1024 * 1024
"""So much they may hold together."""
_PAGE: Final = 100


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was handed over. From ``expires_at`` on no goal can name it; runs that did keep it."""

    id: str
    name: str
    sha256: str
    size_bytes: int
    principal: str
    created_at: datetime
    expires_at: datetime


class Uploads:
    """The uploads of one tenant.

    Args:
        records: Where it is kept what there is.
        blobs: Where their bytes are.
        tenant: Whose they are.
        now: Tells the time of day.
        ids: Names them.
    """

    def __init__(self, records: Records, blobs: Blobs, *, tenant: str, now: Callable[[], datetime], ids: Ids) -> None:
        self._records = records
        self._blobs = blobs
        self._tenant = tenant
        self._now = now
        self._ids = ids

    async def add(self, name: str, data: bytes, *, principal: str) -> Upload:
        """Keeps the file, durably. Raises ``UsageError`` for a name that no file can have."""
        name = check_name(name)
        await self.sweep()
        now = self._now()
        upload = Upload(
            id=self._ids.new("upl"),
            name=name,
            sha256=self._blobs.put(self._tenant, data),
            size_bytes=len(data),
            principal=principal,
            created_at=now,
            expires_at=now + LIVES,
        )
        # The record names the blob: once it is there, no collection takes the bytes.
        await self._blobs.flush()
        value = msgspec.to_builtins(upload) | {"expires_us": us_of(upload.expires_at)}
        await self._records.put(Record(kind=KIND, tenant=self._tenant, key=upload.id, value=value), expected=0)
        return upload

    async def show(self, upload: str) -> Upload:
        """The upload. Raises ``NotFound``, also when its time is over."""
        record = await self._records.get(KIND, self._tenant, upload)
        found = None if record is None else _read(record)
        if found is None or found.expires_at <= self._now():
            raise NotFound(
                f"there is no upload {upload}: it was never made, was removed, or its day is over", upload=upload
            )
        return found

    async def page(self, *, after: str, limit: int) -> tuple[Upload, ...]:
        """Uploads by id, the oldest first."""
        open_ = Condition(field="expires_us", op=">", value=us_of(self._now()))
        found = await self._records.find(KIND, self._tenant, (open_,), after=after, limit=limit)
        return tuple(map(_read, found))

    async def remove(self, upload: str) -> None:
        """Forgets an upload; its bytes are collected unless a run has them. Raises ``NotFound``."""
        await self.show(upload)
        await self._records.delete(KIND, self._tenant, upload)

    async def files(self, uploads: Sequence[str]) -> tuple[GivenFile, ...]:
        """The files as a goal is given them. Raises ``UnreadableInput`` for one that is not there, and for too many."""
        if len(uploads) > MOST_FILES:
            raise TooLarge(f"{len(uploads):,} files are given and at most {MOST_FILES:,} go with one goal")
        found: list[Upload] = []
        for one in uploads:
            try:
                found.append(await self.show(one))
            except NotFound as error:
                raise UnreadableInput(error.message, upload=one) from error
        names = [one.name for one in found]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise UsageError(f"two of the files are called {twice!r}: hand one of them over under another name")
        size = sum(one.size_bytes for one in found)
        if size > MOST_BYTES:
            raise TooLarge(f"the files hold {size:,} bytes and at most {MOST_BYTES:,} go with one goal")
        return tuple([GivenFile(path=one.name, data=await self._blobs.get(self._tenant, one.sha256)) for one in found])

    async def sweep(self) -> int:
        """Forgets what is over, a page at a time; how many."""
        over = Condition(field="expires_us", op="<=", value=us_of(self._now()))
        found = await self._records.find(KIND, self._tenant, (over,), limit=_PAGE)
        for record in found:
            await self._records.delete(KIND, self._tenant, record.key)
        return len(found)


def check_name(name: str) -> str:
    """The relative path that a file is known by. Raises ``UsageError`` for one that leads elsewhere or cannot be."""
    name = name.strip().replace("\\", "/")
    path = PurePosixPath(name)
    is_strange = any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in name)
    if not name or is_strange or path.is_absolute() or ".." in path.parts or len(name) > MAX_NAME_CHARS:
        raise UsageError(
            f"{name[:80]!r} is no name of a file: give a relative path of at most {MAX_NAME_CHARS} characters, "
            "such as reports/june.txt",
            name=name[:80],
        )
    return path.as_posix()


def _read(record: Record) -> Upload:
    return msgspec.convert(record.value, Upload)
