"""Failpoints: the named moments around every durable act, where a host can be made to die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from collegium.domain.event import BODIES

NOT_WRITTEN_YET: Final = frozenset(
    {
        "limit.settled",
        "memory.written",
        "memory.superseded",
        "feedback.given",
    }
)
"""Types of events that nothing writes; a test requires that this is still so."""
OUT_OF_REACH: Final = frozenset({"context.compacted", "log.opened", "log.noted"})
"""Types that no simulated world writes: its conversations are short, and nobody administers it."""
ACTS: Final = (
    "bus.publish",
    "bus.claim",
    "bus.settle",
    "journal.read",
    "journal.head",
    "journal.heads",
    "records.get",
    "records.put",
    "blobs.put",
    "archive.checkpoint",
    "presence.announce",
    "presence.withdraw",
    "presence.dead",
    "model.complete",
    "tool.run",
    "tool.reconcile",
)
"""What hosts do beside appending."""


def all_failpoints() -> tuple[str, ...]:
    """Every name: before and after each act, and before and after each type of event is stored."""
    appends = tuple(f"append:{type_}" for type_ in sorted(BODIES) if type_ not in NOT_WRITTEN_YET | OUT_OF_REACH)
    return tuple(f"{act}:{when}" for act in (*appends, *ACTS) for when in ("before", "after"))


class Failpoints:
    """Counts how often each was reached, and says when a host has to die there.

    Args:
        armed: Name of a failpoint -> the numbers of the hits at which the host that reaches it dies; hit 1 is the
            first.
    """

    def __init__(self, armed: dict[str, frozenset[int]] | None = None) -> None:
        self.hits: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self._armed = armed or {}

    def reach(self, name: str, die: Callable[[], None]) -> None:
        """Takes note of a hit; calls ``die`` where one was asked for."""
        self.hits[name] += 1
        if self.hits[name] in self._armed.get(name, ()):
            self.fired[name] += 1
            die()
