"""Where runs and what belongs to them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.domain.record import Condition, Record
from collegium.domain.tombstone import Tombstone


class Receipt(Protocol):
    """What ``Journal.append`` gives at once: the events are ordered in this process's writer, not yet stored."""

    async def durable(self) -> tuple[Event, ...]:
        """The barrier: returns the events as stored (with ``seq`` and ``mac``) once they would survive a power cut.

        Raises ``Conflict`` (``expected`` was not the run's last deciding seq), ``Fenced`` (the attempt is closed or no
        longer the newest, or an earlier append of it failed), ``StoreError`` (nothing of this append is stored).
        """


class Journal(Protocol):
    """The runs' journals: per run one ordered, gap-free, chained sequence of events."""

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        """Orders ``drafts`` as the next events of ``run``: all of them are stored, or none.

        Args:
            drafts: What happened, in order.
            run: The run; it comes into being with ``expected=0``.
            expected: Seq of the last deciding event that the caller has seen; None for recording events.
            fence: The attempt on whose behalf this is written; several when a decision speaks for several.
            head: New status and wake-up; given with every append that has a deciding event.

        Raises ValueError for no drafts, for drafts of another tenant and for a deciding append without ``head``.
        Events without a waiting ``durable()`` may be delayed by a few milliseconds, in order, never reordered.
        """

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run`` with ``seq > after``, in order; empty for an unknown run."""

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None."""

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index, oldest wake-up (with ``due_before``) or newest run first."""

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs in an order that later commits cannot precede, and the cursor; never for finding work."""


class Archive(Protocol):
    """Journals as they are kept: stored bytes, chains, what is left of pruned runs, and what is signed of all of it."""

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order, with the bytes that were hashed; ``body`` is None where it was removed."""

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None when all that is left is."""

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed: both or neither. Raises ``Conflict``."""

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs, by run, with ``run > after``."""

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""

    async def collect(self, *, before: datetime) -> int:
        """Deletes blobs put last ``before`` that no event and no record names; returns how many."""

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs where the runs of each tenant stand that changed since the last time; what was written, in one commit.

        Nothing is, and almost nothing is read, where nothing has changed, where the last time is less than ``pause_s``
        before ``at``, and where another process writes the same meanwhile. Raises ``StoreCorrupt`` for a chain of
        checkpoints whose end is not as it was signed.
        """

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        """The checkpoints of ``tenant`` by number, with ``number > after``. Raises ``StoreCorrupt``."""

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        """What all checkpoints of ``tenant`` say together, and whether they go on from one that was kept elsewhere."""


class Records(Protocol):
    """Small JSON documents that are no part of a run, with compare-and-set."""

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        """The record or None."""

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        """Stores ``record.value`` over version ``expected`` (0: nothing; None: any). Raises ``Conflict``."""

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        """Whether there was something to delete. Raises ``Conflict``."""

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records that meet all conditions, by key, with ``key > after``."""


class Blobs(Protocol):
    """Bytes by their SHA-256, per tenant."""

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored, durable with the next barrier, as young as new; returns their hex SHA-256."""

    async def flush(self) -> None:
        """Returns once everything put so far is durable. Raises ``StoreError``."""

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, verified. Raises ``NotFound``, or ``StoreCorrupt`` when they do not match their name."""

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete."""


class Cache(Protocol):
    """Bytes with a time to live; losing them loses nothing but time."""

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent or expired."""

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes for at most ``ttl_s`` seconds."""
