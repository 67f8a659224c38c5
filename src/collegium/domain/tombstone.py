"""Tombstones: what is left of a run that retention has removed, signed, so that nobody removes more and says it was us.

``signature = HMAC-SHA256(chain key, JSON array of [v, run, tenant, seq, mac, status, what, kept, submitted_at,
finished_at, pruned_at])``, written without spaces, times in microseconds since 1970.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.head import RunStatus

VERSION: Final = 1
_encode = msgspec.json.Encoder().encode


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left of a pruned run.

    Attributes:
        seq: Number of its last event when it was pruned; ``mac`` (hex) is that event's.
        what: ``bodies``: the events are there without what they said. ``run``: the events are gone too.
        kept: The first so many events are there whole, because another run was forked from them.
    """

    run: str
    tenant: str
    seq: int
    mac: str
    status: RunStatus
    what: Literal["bodies", "run"]
    kept: int
    submitted_at: datetime
    finished_at: datetime
    pruned_at: datetime
    v: int = VERSION
    signature: str = ""

    def __str__(self) -> str:
        gone = "what it said" if self.what == "bodies" else "its events"
        left = f" but the first {self.kept}, which a fork needs" if self.kept else ""
        return (
            f"{self.run} was pruned at {self.pruned_at:%Y-%m-%d %H:%M} UTC: {gone}{left} can no longer be read; it "
            f"{self.status} at {self.finished_at:%Y-%m-%d %H:%M} UTC after {self.seq} events"
        )


def signed(key: bytes, tombstone: Tombstone) -> Tombstone:
    """``tombstone`` with its signature under the chain key."""
    return msgspec.structs.replace(tombstone, signature=_signature(key, tombstone))


def is_genuine(key: bytes, tombstone: Tombstone) -> bool:
    """Whether ``tombstone`` is as it was signed."""
    return hmac.compare_digest(_signature(key, tombstone), tombstone.signature)


def verify(
    key: bytes,
    links: Sequence[Link],
    tombstone: Tombstone,
    *,
    head: tuple[int, bytes] | None,
    erased: Collection[int] = (),
) -> int | None:
    """The first seq of what is left of a pruned run that is not as it was written, 0 for the tombstone itself.

    ``links`` are all events that are left, in order; ``head`` as in ``chain.verify``. ``erased``: numbers of
    events whose bodies are there, under a key that was destroyed.
    """
    if not is_genuine(key, tombstone):
        return 0
    last = (tombstone.seq, bytes.fromhex(tombstone.mac))
    before = [link for link in links if link.seq <= tombstone.seq]
    behind = [link for link in links if link.seq > tombstone.seq]
    gone = (x.seq for x in links if x.body is None and x.seq not in erased)
    lost = next((seq for seq in gone if not tombstone.kept < seq <= tombstone.seq), None)
    if lost is not None:
        return lost
    if tombstone.what == "run" and len(before) != tombstone.kept:
        return min(len(before), tombstone.kept) + 1
    bad = chain.verify(key, before, head=last if tombstone.what == "bodies" else None)
    return chain.verify(key, behind, head=head, after=last) if bad is None else bad


def _signature(key: bytes, t: Tombstone) -> str:
    times = tuple(_us(at) for at in (t.submitted_at, t.finished_at, t.pruned_at))
    text = _encode((t.v, t.run, t.tenant, t.seq, t.mac, t.status, t.what, t.kept, *times))
    return hmac.digest(key, text, "sha256").hex()


def _us(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
