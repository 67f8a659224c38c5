"""One topic of the bus in memory: its messages, what each group has to do with them, and its dead letters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

import msgspec

from collegium.adapters.bus_rules import BusRules, lapsed
from collegium.adapters.memory.bus_queue import Entry, Queue, Turns
from collegium.domain.message import Letter, Message, is_work


@dataclass(slots=True, frozen=True)
class Stored:
    """A message as it is kept: its body as it was when it was published."""

    message: Message
    body: bytes
    rank: float
    published_s: float
    due_s: float

    def read(self, deliveries: int = 0) -> Message:
        """The message, with a body of its own."""
        return msgspec.structs.replace(self.message, body=msgspec.json.decode(self.body), deliveries=deliveries)

    def has_expired(self, at: datetime) -> bool:
        """Whether nobody waits for it any more."""
        return self.message.expires_at is not None and self.message.expires_at <= at


@dataclass(slots=True)
class Topic:
    """A topic. Ids of messages are free again as soon as one group has settled them."""

    name: str
    stored: dict[int, Stored] = field(default_factory=dict)
    unsettled: dict[str, int] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    dead: dict[tuple[int, str], tuple[Letter, Stored]] = field(default_factory=dict)
    _expiring: list[tuple[datetime, int]] = field(default_factory=list)

    def waiting(self) -> int:
        """How many messages the slowest group has before it; readers are not waited for."""
        if self.queues:
            return max(len(queue.entries) for queue in self.queues.values())
        return len(self.stored) if is_work(self.name) else 0

    def has(self, id_: str, at: datetime) -> bool:
        """Whether a message of that id is unsettled and somebody may still want it."""
        seq = self.unsettled.get(id_)
        if seq is None:
            return False
        if not self.stored[seq].has_expired(at):
            return True
        self.expire(at)
        self.unsettled.pop(id_, None)
        return False

    def add(self, seq: int, stored: Stored, now_s: float) -> None:
        """Takes a message in; it waits for every group."""
        self.stored[seq] = stored
        self.unsettled[stored.message.id] = seq
        if stored.message.expires_at is not None:
            heappush(self._expiring, (stored.message.expires_at, seq))
        for queue in self.queues.values():
            queue.add(seq, _entry(stored, now_s))

    def join(self, group: str, turns: Turns, now_s: float) -> Queue:
        """What the group has to do; a new one begins with what no group has settled yet."""
        queue = self.queues.get(group)
        if queue is None:
            queue = self.queues[group] = Queue(turns)
            for seq in self.unsettled.values():
                queue.add(seq, _entry(self.stored[seq], now_s))
        return queue

    def settle(self, group: str, seq: int) -> None:
        """The group is done with the message."""
        queue, stored = self.queues.get(group), self.stored.get(seq)
        if queue is None or stored is None or not queue.remove(seq):
            return
        if self.unsettled.get(stored.message.id) == seq:
            del self.unsettled[stored.message.id]
        if is_work(self.name) and not self._is_wanted(seq):
            del self.stored[seq]

    def bury(self, group: str, seq: int, reason: str, at: datetime) -> None:
        """Makes the message a dead letter of the group."""
        stored, entry = self.stored[seq], self.queues[group].entries[seq]
        letter = Letter(message=stored.read(entry.deliveries), group=group, reason=reason, at=at)
        self.dead[seq, group] = letter, stored
        self.settle(group, seq)

    def revive(self, letter: Letter, turns: Turns, *, now_s: float, rank: float) -> bool:
        """Whether the dead letter was there; it waits for its group again."""
        seq = letter.message.seq
        found = self.dead.pop((seq, letter.group), None)
        if found is None:
            return False
        queue = self.join(letter.group, turns, now_s)
        if seq not in self.stored:
            self.stored = dict(sorted({**self.stored, seq: found[1]}.items()))
        self.unsettled.setdefault(letter.message.id, seq)
        queue.add(seq, Entry(letter.message.tenant, rank, letter.message.expires_at))
        return True

    def show(self, now_s: float, at: datetime, rules: BusRules) -> tuple[bool, float]:
        """Whether something hidden came back, and when the next one does."""
        has_shown, next_s = False, math.inf
        for group, queue in self.queues.items():

            def lapse(seq: int, entry: Entry, group: str = group) -> bool:
                entry.lapses += 1
                if entry.lapses < rules.max_deliveries:
                    return True
                self.bury(group, seq, lapsed(entry.lapses), at)
                return False

            shown, due_s = queue.show(now_s, lapse)
            has_shown, next_s = has_shown or shown, min(next_s, due_s)
        return has_shown, next_s

    def expire(self, at: datetime) -> None:
        """Settles for every group what has expired; what is claimed goes when its claim ends."""
        while self._expiring and self._expiring[0][0] <= at:
            _, seq = heappop(self._expiring)
            for group, queue in self.queues.items():
                entry = queue.entries.get(seq)
                if entry is not None and (entry.token is None or entry.hidden_until_s is None):
                    self.settle(group, seq)

    def depth(self, at: datetime) -> int:
        """How many messages wait unclaimed."""
        self.expire(at)
        if not self.queues:
            return sum(not stored.has_expired(at) for stored in self.stored.values())
        if len(self.queues) == 1:
            return sum(len(queue.entries) - queue.claimed for queue in self.queues.values())
        waiting = {
            seq
            for queue in self.queues.values()
            for seq, entry in queue.entries.items()
            if entry.hidden_until_s is None or entry.token is None
        }
        return len(waiting)

    def trim(self, rules: BusRules, now_s: float, at: datetime) -> None:
        """Drops what may go, from the oldest on."""
        while self.stored:
            seq, oldest = next(iter(self.stored.items()))
            may_go = now_s - oldest.published_s >= rules.keep_s or oldest.has_expired(at)
            may_go = may_go or (len(self.stored) > rules.keep and not is_work(self.name))
            if not may_go or self._is_wanted(seq):
                break
            del self.stored[seq]
            if self.unsettled.get(oldest.message.id) == seq:
                del self.unsettled[oldest.message.id]
        oldest_at = at - timedelta(seconds=rules.keep_s)
        while self.dead:
            key, (letter, _) = next(iter(self.dead.items()))
            if len(self.dead) <= rules.keep and letter.at > oldest_at:
                break
            del self.dead[key]

    @property
    def is_empty(self) -> bool:
        """Whether it may be forgotten."""
        return not (self.stored or self.queues or self.dead)

    def _is_wanted(self, seq: int) -> bool:
        return any(seq in queue.entries for queue in self.queues.values())


def _entry(stored: Stored, now_s: float) -> Entry:
    hidden_until_s = stored.due_s if stored.due_s > now_s else None
    return Entry(stored.message.tenant, stored.rank, stored.message.expires_at, hidden_until_s=hidden_until_s)
