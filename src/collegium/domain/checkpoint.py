"""Checkpoints: where a tenant's runs stand, signed every few seconds and chained, so that nothing goes unseen.

``signature = HMAC-SHA256(chain key, JSON array of ["checkpoint", v, tenant, number, at, cursor, previous, whole,
surplus, digest])``, written without spaces, ``at`` in microseconds since 1970, with ``digest = SHA-256(JSON array of
[run, seq, mac])``. What a checkpoint lists enters by its digest: once a later one lists all of it, it can be dropped,
and the chain of signatures still verifies from number 1 on.

A run's last event proves all before it, so a listed ``(run, seq, mac)`` shows an edit, a cut tail and a removed run.
What it cannot show is that the newest checkpoints are gone together with everything under them: that takes one that was
kept elsewhere.

Source: ``docs/explanation/journal.md``, "Checkpoints"; RFC 2104; RFC 8785 section 3.2.2.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

VERSION: Final = 1
SPARE_ENTRIES: Final = 1_000
"""So many entries more than there are runs are kept before a checkpoint takes in those before it."""
_encode = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """Where a run stands: the number and the mac (hex) of its last event."""

    run: str
    seq: int
    mac: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where those runs of a tenant stand that have changed since the checkpoint before.

    Attributes:
        number: From 1, gap-free.
        cursor: How far in the store's own order of events it has looked.
        previous: Signature of the one before; empty for the first.
        whole: Number of the newest one that lists every run, not only changed ones; it may be this one.
        surplus: How many entries were listed since ``whole``, minus those that it lists itself.
        entries: None once a later one lists all of it.
    """

    tenant: str
    number: int
    at: datetime
    cursor: int
    previous: str
    whole: int
    surplus: int
    digest: str
    v: int = VERSION
    signature: str = ""
    entries: tuple[Entry, ...] | None = None


class Listed(NamedTuple):
    """An entry and the number of the checkpoint it stands in."""

    seq: int
    mac: str
    number: int


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that is not as it was signed, or not where it belongs."""

    number: int
    why: str


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkpoints of a tenant say together.

    Attributes:
        newest: The last genuine one.
        listed: By run, in the order they were signed.
        flaw: The first checkpoint at which the chain does not hold.
        against: Why the chain does not go on from the checkpoint that was kept elsewhere; None where it does.
    """

    newest: Checkpoint | None
    listed: dict[str, tuple[Listed, ...]]
    flaw: Flaw | None = None
    against: str | None = None


def is_genuine(key: bytes, checkpoint: Checkpoint) -> bool:
    """Whether ``checkpoint`` is as it was signed, with all it lists or without any of it."""
    if checkpoint.entries is not None and _digest(checkpoint.entries) != checkpoint.digest:
        return False
    return hmac.compare_digest(_signature(key, checkpoint), checkpoint.signature)


def following(
    key: bytes,
    newest: Checkpoint | None,
    changed: Sequence[Entry],
    *,
    tenant: str,
    at: datetime,
    cursor: int,
    all_before: Sequence[Entry] | None = None,
) -> Checkpoint:
    """The signed checkpoint behind ``newest``; with ``all_before`` it takes in what the ones before list.

    The first one of a tenant has to be given all runs as ``changed``.
    """
    number = 1 if newest is None else newest.number + 1
    is_whole = newest is None or all_before is not None
    entries = tuple(sorted({entry.run: entry for entry in (*(all_before or ()), *changed)}.values()))
    made = Checkpoint(
        tenant=tenant,
        number=number,
        at=at,
        cursor=cursor,
        previous="" if newest is None else newest.signature,
        whole=number if newest is None or is_whole else newest.whole,
        surplus=-len(entries) if newest is None or is_whole else newest.surplus + len(entries),
        digest=_digest(entries),
        entries=entries,
    )
    return msgspec.structs.replace(made, signature=_signature(key, made))


def is_too_long(newest: Checkpoint | None, changed: Sequence[Entry]) -> bool:
    """Whether the next checkpoint should take in those before it: they list runs more than twice on average."""
    return newest is not None and newest.surplus + len(changed) > SPARE_ENTRIES


def taken_in(key: bytes, stored: Sequence[Checkpoint], holds: Callable[[Entry], bool]) -> tuple[Entry, ...] | None:
    """The newest entry of every run in ``stored``, those from ``whole`` to the newest one.

    None where a checkpoint or something it lists is not as it was: what shows that is not thrown away.
    """
    newest: dict[str, Entry] = {}
    previous = stored[0].previous if stored else ""
    for checkpoint in stored:
        if checkpoint.previous != previous or checkpoint.entries is None or not is_genuine(key, checkpoint):
            return None
        if not all(map(holds, checkpoint.entries)):
            return None
        newest.update((entry.run, entry) for entry in checkpoint.entries)
        previous = checkpoint.signature
    return tuple(newest.values())


def cover(
    key: bytes, tenant: str, stored: Iterable[tuple[int, Checkpoint | None]], against: Checkpoint | None = None
) -> Coverage:
    """What all checkpoints of ``tenant`` say, and the first flaw.

    Args:
        key: The chain key.
        tenant: Whose they are.
        stored: Number and checkpoint, None for one that cannot be read, in the order of the numbers.
        against: One that was kept elsewhere.
    """
    walk = _Walk(key, tenant)
    kept = None
    for number, checkpoint in stored:
        walk.take(number, checkpoint)
        if against is not None and number == against.number:
            kept = checkpoint
    why = None if against is None else walk.compare(against, kept)
    return Coverage(newest=walk.newest, listed=walk.listed, flaw=walk.flaw, against=why)


class _Walk:
    """Goes along a chain of checkpoints."""

    def __init__(self, key: bytes, tenant: str) -> None:
        self.newest: Checkpoint | None = None
        self.listed: dict[str, tuple[Listed, ...]] = {}
        self._key = key
        self._tenant = tenant
        self._expected = 1
        self._previous = ""
        self._flaw: Flaw | None = None
        self._bare: list[int] = []

    @property
    def flaw(self) -> Flaw | None:
        """The first flaw. Lists that are gone come last: the changed one may be what had listed all of it."""
        whole = 0 if self.newest is None else self.newest.whole
        bare = next((n for n in self._bare if n >= whole), None)
        if self._flaw is not None or bare is None:
            return self._flaw
        return Flaw(number=bare, why="has lost what it lists")

    def take(self, number: int, checkpoint: Checkpoint | None) -> None:
        """Takes the next stored one."""
        if self._flaw is None and (why := self._why(number, checkpoint)) is not None:
            is_missing = number > self._expected
            self._flaw = Flaw(number=self._expected if is_missing else number, why=why)
        self._expected = number + 1
        self._previous = "" if checkpoint is None else checkpoint.signature
        if checkpoint is not None and self._is_ours(checkpoint):  # what was signed was true, wherever it stands now
            if self.newest is None or checkpoint.number > self.newest.number:
                self.newest = checkpoint
            self.list(checkpoint)
            if checkpoint.entries is None:
                self._bare.append(checkpoint.number)

    def _why(self, number: int, checkpoint: Checkpoint | None) -> str | None:
        if number != self._expected:
            return "is missing" if number > self._expected else "is there twice"
        if checkpoint is None:
            return "cannot be read"
        if not self._is_ours(checkpoint):
            return "was changed"
        if checkpoint.number != number:
            return f"is number {checkpoint.number} in another's place"
        if checkpoint.previous != self._previous:
            return "does not follow the one before it"
        return None

    def _is_ours(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.tenant == self._tenant and is_genuine(self._key, checkpoint)

    def list(self, checkpoint: Checkpoint) -> None:
        """Takes note of what a genuine one lists."""
        for run, seq, mac in checkpoint.entries or ():
            known = self.listed.get(run, ())
            if not any((seq, mac) == (one.seq, one.mac) for one in known):
                self.listed[run] = (*known, Listed(seq, mac, checkpoint.number))

    def compare(self, against: Checkpoint, kept: Checkpoint | None) -> str | None:
        """Why the chain does not go on from ``against``; ``kept`` is what stands at its number."""
        if against.tenant != self._tenant:
            return f"is of tenant {against.tenant}, not of {self._tenant}"
        if not is_genuine(self._key, against):
            return "was changed, or signed with another chain key"
        self.list(against)
        last = 0 if self.newest is None else self.newest.number
        if kept is None and against.number > last:
            return f"has number {against.number} and the chain ends at {last}: what was signed in between was removed"
        if kept is None or not hmac.compare_digest(kept.signature, against.signature):
            return f"is not the checkpoint {against.number} of this store: the chain was cut and made anew"
        return None


def _digest(entries: Sequence[Entry]) -> str:
    return hashlib.sha256(_encode(entries)).hexdigest()


def _signature(key: bytes, c: Checkpoint) -> str:
    at_us = int(c.at.timestamp()) * 1_000_000 + c.at.microsecond
    text = _encode(
        ("checkpoint", c.v, c.tenant, c.number, at_us, c.cursor, c.previous, c.whole, c.surplus, c.digest),
    )
    return hmac.digest(key, text, "sha256").hex()
