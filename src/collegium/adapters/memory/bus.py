"""A bus in this process's memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import msgspec

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules, rank_of
from collegium.adapters.topic_signals import TopicSignals
from collegium.domain.message import Claim, Message
from collegium.ports import Clock


class MemoryBus:
    """Implements ``Bus``; all is lost with the process.

    A group that claims from a topic for the first time begins with the messages that no group has settled yet; from
    then on every message waits for each group of its topic.
    """

    def __init__(self, clock: Clock, rules: BusRules = DEFAULT_RULES) -> None:
        self._clock = clock
        self._rules = rules
        self._signals = TopicSignals(clock)
        self._topics: dict[str, _Topic] = {}
        self._seq = 0
        self._token = 0

    async def publish(self, message: Message) -> bool:
        """Whether the message was new."""
        topic = self._topics.setdefault(message.topic, _Topic())
        if message.id in topic.unsettled:
            return False
        self._seq += 1
        now = self._clock.monotonic()
        stored = msgspec.structs.replace(message, seq=self._seq, deliveries=0)
        topic.messages[self._seq] = _Stored(stored, rank_of(message, now, self._rules), now)
        topic.unsettled[message.id] = self._seq
        for queue in topic.queues.values():
            queue.add(self._seq, topic.messages[self._seq].rank)
        topic.trim(self._rules, now)
        self._signals.happened(message.topic)
        return True

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages, urgent ones first, then oldest, hidden from ``group`` for the hide time."""
        self._due_in_s(topics)
        self._signals.looked(topics)
        claims: list[Claim] = []
        queues = {name: self._queue(name, group) for name in topics}
        while len(claims) < limit:
            waiting = [(place, name) for name, queue in queues.items() if (place := queue.first()) is not None]
            if not waiting:
                break
            (_, seq), name = min(waiting)
            claims.append(self._claimed(self._topics[name], group, seq))
        return tuple(claims)

    def _claimed(self, topic: _Topic, group: str, seq: int) -> Claim:
        self._token += 1
        entry = topic.queues[group].entries[seq]
        entry.deliveries += 1
        entry.token = str(self._token)
        topic.queues[group].hide(seq, self._clock.monotonic() + self._rules.hide_s)
        message = msgspec.structs.replace(topic.messages[seq].message, deliveries=entry.deliveries)
        return Claim(message=message, group=group, token=entry.token)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None) -> None:
        """Removes the claimed message, or gives it back after a delay. A stale claim changes nothing."""
        topic = self._topics.get(claim.message.topic, _Topic())
        queue = topic.queues.get(claim.group)
        seq = claim.message.seq
        if queue is None or seq not in queue.entries or queue.entries[seq].token != claim.token:
            return
        if requeue_after_s is None:
            del queue.entries[seq]
            if topic.unsettled.get(claim.message.id) == seq:
                del topic.unsettled[claim.message.id]
            return
        queue.entries[seq].token = None
        queue.hide(seq, self._clock.monotonic() + requeue_after_s)
        self._due_in_s([claim.message.topic])
        self._signals.stir(claim.message.topic)

    async def read(self, topic: str, after: int = 0, limit: int = 1_000) -> tuple[Message, ...]:
        """Messages of a topic in the order they were published, settled or not, with ``seq > after``."""
        self._signals.looked([topic])
        found = [s.message for seq, s in self._topics.get(topic, _Topic()).messages.items() if seq > after]
        return tuple(found[: max(0, limit)])

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed, those with a delay included."""
        self._due_in_s(topics)
        return sum(self._topics[name].depth() for name in dict.fromkeys(topics) if name in self._topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """True as soon as something may be claimable or readable on ``topics``, False after ``timeout_s``."""
        return await self._signals.news(topics, timeout_s, due_in_s=lambda: self._due_in_s(topics))

    def _due_in_s(self, topics: Sequence[str]) -> float:
        """Shows again what was hidden long enough; returns the seconds until the next message comes back."""
        now = self._clock.monotonic()
        next_s = math.inf
        for name in topics:
            topic = self._topics.get(name)
            for queue in () if topic is None else topic.queues.values():
                if not queue.hidden:
                    continue
                has_shown, due_s = queue.show(now)
                next_s = min(next_s, due_s)
                if has_shown:
                    self._signals.happened(name)
        return next_s - now

    def _queue(self, name: str, group: str) -> _Queue:
        topic = self._topics.setdefault(name, _Topic())
        if group not in topic.queues:
            queue = topic.queues[group] = _Queue()
            for seq in topic.unsettled.values():
                queue.add(seq, topic.messages[seq].rank)
        return topic.queues[group]


@dataclass(slots=True)
class _Stored:
    message: Message
    rank: float
    published_s: float


@dataclass(slots=True)
class _Entry:
    """An unsettled message as one group sees it."""

    rank: float
    deliveries: int = 0
    token: str | None = None
    hidden_until_s: float | None = None


@dataclass(slots=True)
class _Queue:
    """What one group has not settled. Both heaps hold stale places too, which are dropped when they come first."""

    entries: dict[int, _Entry] = field(default_factory=dict)
    ready: list[tuple[float, int]] = field(default_factory=list)
    hidden: list[tuple[float, int]] = field(default_factory=list)

    def add(self, seq: int, rank: float) -> None:
        self.entries[seq] = _Entry(rank)
        heappush(self.ready, (rank, seq))

    def hide(self, seq: int, until_s: float) -> None:
        self.entries[seq].hidden_until_s = until_s
        heappush(self.hidden, (until_s, seq))

    def first(self) -> tuple[float, int] | None:
        """The best message to be claimed."""
        while self.ready:
            entry = self.entries.get(self.ready[0][1])
            if entry is not None and entry.hidden_until_s is None:
                return self.ready[0]
            heappop(self.ready)
        return None

    def show(self, now: float) -> tuple[bool, float]:
        """Whether hidden messages came back, and when the next one does."""
        has_shown = False
        while self.hidden:
            until_s, seq = self.hidden[0]
            entry = self.entries.get(seq)
            is_stale = entry is None or entry.hidden_until_s != until_s
            if until_s > now and not is_stale:
                return has_shown, until_s
            heappop(self.hidden)
            if entry is not None and not is_stale:
                entry.hidden_until_s = None
                heappush(self.ready, (entry.rank, seq))
                has_shown = True
        return has_shown, math.inf


@dataclass(slots=True)
class _Topic:
    messages: dict[int, _Stored] = field(default_factory=dict)
    unsettled: dict[str, int] = field(default_factory=dict)
    queues: dict[str, _Queue] = field(default_factory=dict)

    def depth(self) -> int:
        if not self.queues:
            return len(self.messages)
        waiting = {
            seq
            for queue in self.queues.values()
            for seq, entry in queue.entries.items()
            if entry.hidden_until_s is None or entry.token is None
        }
        return len(waiting)

    def trim(self, rules: BusRules, now: float) -> None:
        """Drops what may go, from the oldest on."""
        while self.messages:
            seq, oldest = next(iter(self.messages.items()))
            is_needed = self.queues and self.unsettled.get(oldest.message.id) == seq
            is_kept = len(self.messages) <= rules.keep and now - oldest.published_s < rules.keep_s
            if is_kept or is_needed or any(seq in queue.entries for queue in self.queues.values()):
                return
            del self.messages[seq]
            if self.unsettled.get(oldest.message.id) == seq:
                del self.unsettled[oldest.message.id]
