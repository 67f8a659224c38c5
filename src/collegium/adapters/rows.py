"""The rows of a journal, alike in every store: events as they are stored, heads, fences, and their chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

from collegium.domain.chain import SALT_BYTES, Link, digest_of, mac_of
from collegium.domain.errors import StoreCorrupt
from collegium.domain.event import Draft, Event, decode_body
from collegium.domain.head import Head, RunStatus

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
Entropy = Callable[[int], bytes]
"""``entropy(n)`` gives n random bytes: ``os.urandom``, or a seeded source in simulations."""


class HeadRow(NamedTuple):
    """The head of a run; ``wake_us`` counts microseconds since 1970, UTC."""

    tenant: str
    status: str
    seq: int
    mac: bytes
    deciding_seq: int
    wake_us: int | None
    project: str = ""


class FenceRow(NamedTuple):
    """The newest attempt of a task; ``worker`` is None until it is started."""

    attempt: int
    worker: str | None
    is_open: bool


class EventRow(NamedTuple):
    """One event as stored; ``body`` holds the bytes as first written, in plain."""

    run: str
    seq: int
    id: str
    tenant: str
    type: str
    v: int
    at_us: int
    task: str | None
    attempt: int | None
    body: bytes
    salt: bytes
    digest: bytes
    mac: bytes


class Entry(NamedTuple):
    """A draft that is ready to be stored: its body is encoded, its time is a number."""

    draft: Draft
    type: str
    v: int
    at_us: int
    body: bytes


def require_text(*texts: str) -> None:
    """Raises ValueError for what no store can keep as a name.

    It is refused to whoever asks, not in the middle of everybody's transaction.
    """
    for text in texts:
        text.encode()
        if "\0" in text:
            raise ValueError(f"{text[:80]!r} has a zero byte, which is no part of a name")


def to_us(at: datetime) -> int:
    """Microseconds since 1970. Raises ValueError for a time without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone; times are UTC-aware")
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The UTC-aware time of ``us`` microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)


def seal(
    run: str, entries: Sequence[Entry], *, after: tuple[int, bytes], key: bytes, entropy: Entropy
) -> list[EventRow]:
    """The rows of ``entries`` as the next events of ``run`` behind ``after``, its present ``(seq, mac)``."""
    seq, mac = after
    salts = entropy(SALT_BYTES * len(entries))
    rows = []
    for n, (draft, type_, v, at_us, body) in enumerate(entries):
        seq += 1
        salt = salts[n * SALT_BYTES : (n + 1) * SALT_BYTES]
        digest = digest_of(salt, body)
        mac = mac_of(
            key,
            mac,
            run=run,
            seq=seq,
            id_=draft.id,
            tenant=draft.tenant,
            type_=type_,
            v=v,
            at_us=at_us,
            task=draft.task,
            attempt=draft.attempt,
            digest=digest,
        )
        rows.append(
            EventRow(
                run, seq, draft.id, draft.tenant, type_, v, at_us, draft.task, draft.attempt, body, salt, digest, mac
            )
        )
    return rows


def sealed_event(entry: Entry, row: EventRow) -> Event:
    """The event that ``entry`` became."""
    draft = entry.draft
    return Event(
        id=draft.id,
        tenant=draft.tenant,
        run=row.run,
        seq=row.seq,
        type=row.type,
        v=row.v,
        at=draft.at,
        body=draft.body,
        mac=row.mac.hex(),
        task=draft.task,
        attempt=draft.attempt,
    )


def to_event(row: EventRow) -> Event:
    """The event of a stored row. Raises ``StoreCorrupt`` with run and seq when its body cannot be read."""
    try:
        body = decode_body(row.type, row.v, row.body)
    except StoreCorrupt as error:
        raise StoreCorrupt(
            f"event {row.seq} of {row.run}: {error.message}", **error.fields, run=row.run, seq=row.seq
        ) from error
    return Event(
        id=row.id,
        tenant=row.tenant,
        run=row.run,
        seq=row.seq,
        type=row.type,
        v=row.v,
        at=from_us(row.at_us),
        body=body,
        mac=row.mac.hex(),
        task=row.task,
        attempt=row.attempt,
    )


def to_link(row: EventRow) -> Link:
    """The row as the chain sees it."""
    return Link(
        run=row.run,
        seq=row.seq,
        id=row.id,
        tenant=row.tenant,
        type=row.type,
        v=row.v,
        at_us=row.at_us,
        task=row.task,
        attempt=row.attempt,
        salt=row.salt,
        digest=row.digest,
        mac=row.mac,
        body=row.body,
    )


def to_head(run: str, row: HeadRow) -> Head:
    """The head of ``run`` in the words of the domain."""
    return Head(
        run=run,
        tenant=row.tenant,
        status=cast("RunStatus", row.status),
        seq=row.seq,
        mac=row.mac.hex(),
        deciding_seq=row.deciding_seq,
        wake_at=None if row.wake_us is None else from_us(row.wake_us),
        project=row.project,
    )
