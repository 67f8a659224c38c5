"""What passes between processes: messages, signs of life, shared rates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from collegium.domain.message import Claim, Letter, Message
from collegium.domain.rate import Rate
from collegium.domain.worker import WorkerCard


class Bus(Protocol):
    """Messages by topic, at least once: work that is claimed, streams that are read. What decides is the journal."""

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new: one whose id is that of an unsettled message of its topic is not published twice.

        They are claimable after ``delay_s``; readable at once, with the bus's ``seq`` and ``at``. All of them are
        stored when this returns, as far as the bus stores. Raises ``UsageError`` (a name that no topic can have, a body
        beyond the bus's cap: nothing is published), ``TopicFull`` (too much waits already), ``StoreError``.
        """

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, hidden from the group for the hide time.

        Tenants take turns, by their weights; within a tenant urgent messages go first, then the oldest. Who waits long
        gains priority. A message whose claims lapsed too often becomes a dead letter instead.
        """

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Removes the claimed message; gives it back to be claimed after a delay; or makes it a dead letter, with why.

        A stale claim changes nothing.
        """

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``.

        ``since``: only those published then or later. Work topics (``domain.message.is_work``) cannot be read.
        """

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic by ``message.seq``, with ``seq > after``."""

    async def revive(self, letter: Letter) -> bool:
        """Gives a dead letter back to its group, as if it were new; False when it is there no more."""

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics that have messages, groups or dead letters, in order, with ``name > after``."""

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed."""

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """Returns True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``."""


class Quota(Protocol):
    """Rates and concurrency, shared by all processes that use the same bucket. The only rate limiter there is."""

    async def take(self, bucket: str, rate: Rate, amount: float = 1.0) -> float:
        """0.0: ``amount`` was taken. Else nothing was, and it is worth trying again after so many seconds.

        An amount beyond ``rate.burst`` is taken once the bucket is full; the bucket then owes the rest.
        """

    async def left(self, bucket: str, rate: Rate) -> float:
        """How much could be taken at once now; negative where something is owed. Changes nothing."""

    async def refund(self, bucket: str, rate: Rate, amount: float) -> None:
        """Gives back what was taken and not used; a negative amount takes what was used beyond it."""

    async def hold(self, bucket: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Whether ``holder`` is one of at most ``limit`` holders for the next ``ttl_s`` seconds; again renews it."""

    async def release(self, bucket: str, holder: str) -> None:
        """``holder`` is none any more; twice is harmless."""


class Presence(Protocol):
    """Which worker processes live. Only ever decides when to try again, never whether that is correct."""

    async def announce(self, worker: str) -> None:
        """This process is ``worker`` from now on, until it ends, and beats as long as it is told to ``tick``."""

    async def withdraw(self, worker: str) -> None:
        """The worker has ended and left nothing. One that only seems dead stays known, should it go on."""

    async def abandon(self, worker: str) -> None:
        """The worker has ended and left attempts open: from now on it is found dead."""

    async def dead(self) -> tuple[str, ...]:
        """Workers that ended without a word, or whose beats stand still for a lease of this process's own time."""

    def silence(self, worker: str) -> float | None:
        """For how many leases ``worker`` had been silent when ``dead`` was asked last; ``inf``: it has ended.

        Below 1 it lives. None for one that nothing is known of: it has ended and left nothing.
        """

    def tick(self) -> float:
        """Says that the event loop runs; returns after how many seconds to say so again."""

    def fresh_s(self) -> float:
        """For how many seconds more a call may start: half a lease after the last beat, suspended time included."""

    def gaps(self) -> int:
        """How often this process has not been fresh so far: others may have taken it for dead each time."""


class Directory(Protocol):
    """Which workers there are and how they do: for people and for balance. Losing it loses nothing but the view."""

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card of a worker for ``ttl_s`` seconds, in place of its last one."""

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker."""

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless."""
