"""Stored values on their way in and out: sealed where a key is configured, plain where none is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from collegium.adapters.record_rules import meets
from collegium.adapters.rows import EventRow, to_event
from collegium.domain.chain import Link
from collegium.domain.envelope import (
    SEALED_FIELD,
    blob_place,
    event_place,
    from_text,
    is_sealed,
    is_sealed_record,
    record_place,
    to_text,
)
from collegium.domain.errors import Erased, StoreCorrupt
from collegium.domain.event import Event
from collegium.domain.record import Condition
from collegium.ports import Sealer

DATA_KEY: Final = "data_key"
"""Kind of the records that hold wrapped keys; they alone are never sealed again."""
SEARCHED: Final[Mapping[str, frozenset[str]]] = {
    "schedule": frozenset({"tenant", "name", "due_us"}),
    "webhook": frozenset({"tenant"}),
    "webhook_delivery": frozenset({"webhook", "status", "next_us", "ended_us"}),
    "api_key": frozenset({"tenant"}),
    "ticket": frozenset({"expires_us"}),
    "session": frozenset({"expires_us"}),
    "login": frozenset({"expires_us"}),
    "extraction": frozenset({"blob"}),
}
"""Fields that stay plain beside a sealed value, by kind: those by which the store finds records. Other fields can be
asked for as well; the records of the kind are then opened one by one."""
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def opened_body(sealer: Sealer, tenant: str, run: str, seq: int, *, blob: str | None, body: bytes) -> bytes:
    """The plain body of an event, stored inline or as a blob. Raises ``Erased``, ``StoreCorrupt``, ``UsageError``."""
    if not is_sealed(body):
        return body
    try:
        return sealer.open(tenant, event_place(tenant, run, seq) if blob is None else blob_place(tenant, blob), body)
    except (Erased, StoreCorrupt) as error:
        raise type(error)(f"event {seq} of {run}: {error.message}", **error.fields, run=run, seq=seq) from error


def opened_row(sealer: Sealer, row: Sequence[Any]) -> EventRow:
    """The row of an event with its plain body; behind its columns stands the name of its blob, or None.

    Raises ``Erased``, ``StoreCorrupt``, ``UsageError``.
    """
    body = row[9]
    if is_sealed(body):
        plain = opened_body(sealer, row[3], row[0], row[1], blob=row[13], body=body)
        return EventRow(*(*row[:9], plain, *row[10:13]))
    return EventRow(*row[:13])


def readable(whole: Callable[[tuple[Any, ...]], EventRow], rows: Iterable[tuple[Any, ...]]) -> tuple[Event, ...]:
    """The events of those rows whose keys were not destroyed; ``whole`` gives the opened row of one."""
    events = []
    for row in rows:
        with suppress(Erased):
            events.append(to_event(whole(row)))
    return tuple(events)


def as_hashed(sealer: Sealer, link: Link, blob: str | None) -> Link:
    """The link with its plain body: None where its key was destroyed, empty where it is not what was sealed."""
    if link.body is None or not is_sealed(link.body):
        return link
    try:
        plain = opened_body(sealer, link.tenant, link.run, link.seq, blob=blob, body=link.body)
    except Erased:
        return link._replace(body=None)
    except StoreCorrupt:
        return link._replace(body=b"")
    return link._replace(body=plain)


def plain_or_nothing(open_it: Callable[..., bytes], *args: Any, **kwargs: Any) -> bytes:
    """What ``open_it`` gives; nothing where the key was destroyed."""
    try:
        return open_it(*args, **kwargs)
    except Erased:
        return b""


def opened_blob(sealer: Sealer, tenant: str, sha256: str, data: bytes) -> bytes:
    """The bytes of a blob, verified. Raises ``Erased``, ``StoreCorrupt``, ``UsageError``."""
    if hashlib.sha256(data).hexdigest() == sha256:
        return data
    if is_sealed(data):
        try:
            data = sealer.open(tenant, blob_place(tenant, sha256), data)
        except (Erased, StoreCorrupt) as error:
            raise type(error)(f"blob {sha256}: {error.message}", **error.fields, sha256=sha256) from error
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise StoreCorrupt(
        f"blob {sha256} of tenant {tenant!r} does not hold the bytes it is named by: restore it from a backup",
        tenant=tenant,
        sha256=sha256,
    )


def sealed_record(sealer: Sealer, kind: str, tenant: str, key: str, value: bytes) -> tuple[bytes, int]:
    """The stored form of a record's value, still JSON, and the version of the key that sealed it."""
    if not sealer.is_on or kind == DATA_KEY:
        return value, 0
    data, version = sealer.seal(tenant, record_place(tenant, kind, key), value)
    shown = {SEALED_FIELD: to_text(data)}
    searched = SEARCHED.get(kind)
    if searched:
        shown |= {name: field for name, field in _decode(value).items() if name in searched}
    return _encode(shown), version


def opened_record(sealer: Sealer, kind: str, tenant: str, key: str, value: bytes) -> bytes:
    """The plain value. Raises ``Erased``, ``UsageError``, ``StoreCorrupt`` also where a searched field was changed."""
    if not is_sealed_record(value):
        return value
    try:
        shown: dict[str, Any] = _decode(value)
        plain = sealer.open(tenant, record_place(tenant, kind, key), from_text(shown.pop(SEALED_FIELD)))
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"{kind} {key!r} cannot be read: restore the store from a backup", kind=kind) from error
    except (Erased, StoreCorrupt) as error:
        raise type(error)(f"{kind} {key!r}: {error.message}", **error.fields, kind=kind, key=key) from error
    if shown and any(_decode(plain).get(name) != field for name, field in shown.items()):
        raise StoreCorrupt(f"{kind} {key!r}: a field beside its envelope was changed", kind=kind, key=key)
    return plain


def split(sealer: Sealer, kind: str, conditions: Sequence[Condition]) -> tuple[list[Condition], list[Condition]]:
    """Conditions that the store itself can test, and those that need the opened value."""
    if not sealer.is_on or kind == DATA_KEY:
        return list(conditions), []
    searched = SEARCHED.get(kind, frozenset())
    here = [condition for condition in conditions if condition.field in searched]
    return here, [condition for condition in conditions if condition.field not in searched]


def meets_all(value: dict[str, Any], conditions: Sequence[Condition]) -> bool:
    """Whether an opened value meets the conditions that the store could not test."""
    return all(meets(value, condition) for condition in conditions)
