"""A store mirrored into another one, row by row as they are stored, whatever keeps either of them.

Events keep their bytes, so that every chain holds in the target as it did in the source. Places are the target's own:
whoever signs there begins with all that came. A transfer that was interrupted goes on where it was: what both have is
left alone, what differs is written again, what the source has no more is removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from collegium.domain.errors import StoreCorrupt, StoreUnavailable
from collegium.ports import Clock

Row = tuple[Any, ...]
Key = tuple[Any, ...]
PAGE: Final = 1_000
_BATCH_EVENTS: Final = 2_000
_BATCH_BYTES: Final = 8 * 1024 * 1024


class Table(NamedTuple):
    """Rows of one kind: their columns, of which the first ``keys`` name a row and put them in order."""

    name: str
    columns: tuple[str, ...]
    keys: int

    def key(self, row: Row) -> Key:
        """What names the row."""
        return row[: self.keys]


HEADS: Final = Table("heads", ("run", "tenant", "status", "seq", "mac", "deciding_seq", "wake_at", "project"), 1)
EVENTS: Final = Table(
    "events",
    ("run", "seq", "id", "tenant", "type", "v", "at", "task", "attempt", "body", "blob", "key_version", "salt",
     "digest", "mac"),
    2,
)  # fmt: skip
FENCES: Final = Table("fences", ("run", "task", "attempt", "worker", "open"), 2)
CHECKPOINT_VALUES: Final = Table("checkpoints", ("tenant", "number", "value"), 2)
BLOB_NAMES: Final = Table("blobs", ("tenant", "sha256"), 2)
BLOBS: Final = Table("blobs", ("tenant", "sha256", "data", "key_version", "stored_at"), 2)
RECORDS: Final = Table("records", ("kind", "tenant", "key", "version", "value", "key_version"), 3)
TOMBSTONES: Final = Table("tombstones", ("run", "tenant", "value"), 1)
CHECKPOINTS: Final = Table("checkpoints", ("tenant", "number", "value", "entries"), 2)
COUNTED: Final = (HEADS, EVENTS, BLOBS, RECORDS, TOMBSTONES, CHECKPOINTS)
MARK: Final = "transfer"
"""The row of ``meta`` that a store has from the beginning of a transfer into it to its end: where from."""
MARK_CURSOR: Final = "transfer_cursor"
CAME_FROM: Final = "transferred_from"
_RUN, _SEQ = HEADS.columns.index("run"), HEADS.columns.index("seq")


class Rows(Protocol):
    """The rows of a store, to be read. Text is ``str``, everything that is JSON or not text ``bytes``, flags 0 or 1."""

    async def page(self, table: Table, after: Key | None, limit: int, *, run: str | None = None) -> list[Row]:
        """The next rows by key; those of ``run`` alone where it is given. Raises ``StoreError``."""

    async def blob(self, name: Key) -> Row | None:
        """The row of a blob with its bytes."""

    async def count(self, table: Table) -> int:
        """How many rows there are."""


class End(Rows, Protocol):
    """One end of a transfer."""

    @property
    def place(self) -> str:
        """Where it is, without a password."""

    async def meta(self) -> dict[str, str]:
        """What the store says of itself, ``store_id`` and more. Raises ``StoreError``."""

    async def living(self, folders: Sequence[Path], *, lease_s: float, clock: Clock) -> tuple[str, ...]:
        """Workers that live on the store; it may take a lease to tell. ``folders``: where those of a file show it."""

    async def open_workers(self) -> tuple[str, ...]:
        """The workers of attempts that are open."""

    async def aclose(self) -> None:
        """Closes it; twice is harmless."""


class Filling(End, Protocol):
    """A store that is being filled. Each call is one transaction; nobody else works on the store."""

    async def begin(self, mark: str, cursor: int) -> None:
        """Marks the store as not yet whole, so that nobody opens it, and lets its places go on behind ``cursor``.

        Where it was marked with another ``cursor`` before, all runs count as not yet there.
        """

    async def finish(self, meta: Mapping[str, str]) -> None:
        """The store is whole: takes the mark away, and writes these rows of ``meta``."""

    async def put(self, table: Table, rows: Sequence[Row], gone: Sequence[Key]) -> None:
        """Stores ``rows`` and removes the rows of the keys ``gone``, among them those that ``rows`` replace."""

    async def put_runs(self, heads: Sequence[Row], gone: Sequence[str], source: Rows) -> None:
        """Stores these runs with events and fences as ``source`` has them, and removes the runs ``gone`` first."""


Progress = Callable[[str, int, int], None]
"""``(what, done, of how many)``."""


class Moved(NamedTuple):
    """What a transfer had to write: nothing of what was there already."""

    runs: int = 0
    blobs: int = 0
    records: int = 0
    removed: int = 0


async def mirror(source: Rows, target: Filling, progress: Progress) -> Moved:
    """Makes ``target`` hold what ``source`` holds; says what was written. Raises ``StoreError``.

    Raises:
        StoreCorrupt: a blob of the source does not hold the bytes that it is named by.
    """
    blobs, gone_blobs = await _blobs(source, target, progress)
    runs, gone_runs = await _runs(source, target, progress)
    records, gone = await _table(RECORDS, source, target, progress)
    for table in (TOMBSTONES, CHECKPOINTS):
        await _table(table, source, target, progress)
    return Moved(runs, blobs, records, gone_blobs + gone_runs + gone)


async def differing(table: Table, source: Rows, target: Rows) -> AsyncIterator[tuple[Row | None, Row | None]]:
    """Rows that are not the same in both, by key; None where one of them has no such row."""
    mine, theirs = rows_of(source, table), rows_of(target, table)
    ours, other = await anext(mine, None), await anext(theirs, None)
    while ours is not None or other is not None:
        if other is None or (ours is not None and table.key(ours) < table.key(other)):
            yield ours, None
            ours = await anext(mine, None)
        elif ours is None or table.key(other) < table.key(ours):
            yield None, other
            other = await anext(theirs, None)
        else:
            if ours != other:
                yield ours, other
            ours, other = await anext(mine, None), await anext(theirs, None)


async def rows_of(store: Rows, table: Table, *, run: str | None = None) -> AsyncIterator[Row]:
    """All rows by key; those of ``run`` alone where it is given."""
    after: Key | None = None
    while page := await store.page(table, after, PAGE, run=run):
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        after = table.key(page[-1])


def require_whole(meta: Mapping[str, str], place: str) -> None:
    """Raises ``StoreUnavailable`` for a store into which a transfer has begun and not ended."""
    if MARK in meta:
        raise StoreUnavailable(
            f"{place} is not whole: the transfer into it goes on, or was interrupted. Run `collegium migrate "
            "--from ... --to ...` to its end before anything else is done with it",
            store=place,
        )


def check_blob(row: Row) -> None:
    """Raises ``StoreCorrupt`` for a blob that does not hold the bytes that it is named by."""
    tenant, name, data, key_version = row[:4]
    if key_version == 0 and hashlib.sha256(data).hexdigest() != name:
        raise StoreCorrupt(
            f"blob {name} of tenant {tenant!r} does not hold the bytes it is named by: restore it from a backup",
            tenant=tenant,
            sha256=name,
        )


async def _blobs(source: Rows, target: Filling, progress: Progress) -> tuple[int, int]:
    total, seen, written, removed = await source.count(BLOBS), 0, 0, 0
    rows: list[Row] = []
    size = 0
    async for mine, theirs in differing(BLOB_NAMES, source, target):
        if mine is None:
            removed += 1
            await target.put(BLOBS, (), [theirs] if theirs is not None else ())
            continue
        row = await source.blob(mine)
        if row is None:
            continue  # collected meanwhile
        check_blob(row)
        rows.append(row)
        size += len(row[2])
        if size >= _BATCH_BYTES or len(rows) >= PAGE:
            await target.put(BLOBS, rows, ())
            written += len(rows)
            seen, rows, size = written, [], 0
            progress("blobs", seen, total)
    await target.put(BLOBS, rows, ())
    progress("blobs", total, total)
    return written + len(rows), removed


async def _runs(source: Rows, target: Filling, progress: Progress) -> tuple[int, int]:
    total, written, removed = await source.count(HEADS), 0, 0
    # Bodies that were removed change no head; what says so is the tombstone.
    pruned = {str(row[0]) async for pair in differing(TOMBSTONES, source, target) for row in pair if row is not None}
    heads: list[Row] = []
    gone: list[str] = []
    async for mine, theirs in _heads(source, target, pruned):
        if theirs is not None:
            gone.append(theirs[_RUN])
        if mine is None:
            removed += 1
        else:
            heads.append(mine)
        if sum(head[_SEQ] for head in heads) >= _BATCH_EVENTS or len(gone) >= PAGE:
            await target.put_runs(heads, gone, source)
            written += len(heads)
            heads, gone = [], []
            progress("runs", written, total)
    await target.put_runs(heads, gone, source)
    progress("runs", total, total)
    return written + len(heads), removed


async def _heads(source: Rows, target: Rows, also: set[str]) -> AsyncIterator[tuple[Row | None, Row | None]]:
    """Heads that are not the same in both, and those of the runs ``also``."""
    told: set[str] = set()
    async for mine, theirs in differing(HEADS, source, target):
        told.add((mine or theirs or ("",))[_RUN])
        yield mine, theirs
    for run in sorted(also - told):
        for row in await source.page(HEADS, None, 1, run=run):
            yield row, row


async def _table(table: Table, source: Rows, target: Filling, progress: Progress) -> tuple[int, int]:
    total, written, removed = await source.count(table), 0, 0
    rows: list[Row] = []
    gone: list[Key] = []
    async for mine, theirs in differing(table, source, target):
        if theirs is not None:
            gone.append(table.key(theirs))
        if mine is not None:
            rows.append(mine)
        else:
            removed += 1
        if len(rows) >= PAGE or len(gone) >= PAGE:
            await target.put(table, rows, gone)
            written += len(rows)
            rows, gone = [], []
            progress(table.name, written, total)
    await target.put(table, rows, gone)
    progress(table.name, total, total)
    return written + len(rows), removed
