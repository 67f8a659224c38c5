"""What one group has still to do on one topic of the bus in memory, and whose turn it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush, heapreplace

_MANY = 1_024


@dataclass(slots=True)
class Turns:
    """Whose turn it is in one group: each claim moves its tenant on, and the tenant that is least far goes next.

    A tenant that had nothing to do starts where the group is: it has saved up nothing.
    """

    now: float = 0.0
    _at: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _many: int = _MANY

    def at(self, tenant: str) -> float:
        """How far the tenant is."""
        return max(self.now, self._at.get(tenant, 0.0))

    def place(self, tenant: str) -> tuple[float, int, str]:
        """A place in the order of turns, behind all that are as far."""
        self._count += 1
        return self.at(tenant), self._count, tenant

    def take(self, tenant: str, step: float) -> None:
        """The tenant has had its turn."""
        self.now = self.at(tenant)
        self._at[tenant] = self.now + step
        if len(self._at) > self._many:
            self._at = {name: at for name, at in self._at.items() if at > self.now}
            self._many = max(_MANY, 2 * len(self._at))


@dataclass(slots=True)
class Entry:
    """An unsettled message as one group sees it."""

    tenant: str
    rank: float
    expires_at: datetime | None
    deliveries: int = 0
    lapses: int = 0
    token: str | None = None
    hidden_until_s: float | None = None


@dataclass(slots=True)
class Queue:
    """What one group has not settled. The heaps hold stale places too, which are dropped when they come first."""

    turns: Turns
    entries: dict[int, Entry] = field(default_factory=dict)
    claimed: int = 0
    """How many entries are claimed now."""
    _lanes: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _order: list[tuple[float, int, str]] = field(default_factory=list)
    _hidden: list[tuple[float, int]] = field(default_factory=list)

    def add(self, seq: int, entry: Entry) -> None:
        """Takes an entry in, hidden if it says so."""
        self.entries[seq] = entry
        if entry.hidden_until_s is None:
            self._line_up(seq, entry)
        else:
            heappush(self._hidden, (entry.hidden_until_s, seq))

    def claim(self, seq: int, token: str, until_s: float) -> Entry:
        """Hides the entry until then for whoever has the token."""
        entry = self.entries[seq]
        entry.deliveries += 1
        entry.token = token
        entry.hidden_until_s = until_s
        heappush(self._hidden, (until_s, seq))
        self.claimed += 1
        return entry

    def give_back(self, seq: int, until_s: float) -> None:
        """Nobody has the entry any more; it is hidden until then."""
        entry = self.entries[seq]
        self.claimed -= entry.hidden_until_s is not None
        entry.token = None
        entry.hidden_until_s = until_s
        heappush(self._hidden, (until_s, seq))

    def remove(self, seq: int) -> bool:
        """Whether there was such an entry."""
        entry = self.entries.pop(seq, None)
        if entry is not None:
            self.claimed -= entry.token is not None and entry.hidden_until_s is not None
        return entry is not None

    def turn(self) -> tuple[float, int, str] | None:
        """Whose turn it is among the tenants with something to claim: how far it is, its place, its name."""
        while self._order:
            at, place, tenant = self._order[0]
            if self.first(tenant) is None:
                heappop(self._order)
                del self._lanes[tenant]
            elif self.turns.at(tenant) > max(at, self.turns.now):
                heapreplace(self._order, self.turns.place(tenant))
            else:
                return max(at, self.turns.now), place, tenant
        return None

    def first(self, tenant: str) -> tuple[float, int] | None:
        """Rank and seq of the tenant's message that goes first."""
        lane = self._lanes.get(tenant)
        while lane:
            entry = self.entries.get(lane[0][1])
            if entry is not None and entry.hidden_until_s is None:
                return lane[0]
            heappop(lane)
        return None

    def show(self, now_s: float, lapse: Callable[[int, Entry], bool]) -> tuple[bool, float]:
        """Whether hidden entries came back, and when the next one does.

        ``lapse(seq, entry)`` is asked of those that were claimed: False when such an entry is not to come back.
        """
        has_shown = False
        while self._hidden:
            until_s, seq = self._hidden[0]
            entry = self.entries.get(seq)
            is_stale = entry is None or entry.hidden_until_s != until_s
            if until_s > now_s and not is_stale:
                return has_shown, until_s
            heappop(self._hidden)
            if entry is None or is_stale:
                continue
            entry.hidden_until_s = None
            if entry.token is not None:
                self.claimed -= 1
                if not lapse(seq, entry):
                    continue
            self._line_up(seq, entry)
            has_shown = True
        return has_shown, math.inf

    def _line_up(self, seq: int, entry: Entry) -> None:
        if entry.tenant not in self._lanes:
            self._lanes[entry.tenant] = []
            heappush(self._order, self.turns.place(entry.tenant))
        heappush(self._lanes[entry.tenant], (entry.rank, seq))
