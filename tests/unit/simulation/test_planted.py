"""The simulation finds what it is there to find: each of these faults, planted on purpose, within a few seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest

from collegium.adapters.admission import Append, Doubts
from collegium.adapters.rows import EventRow
from collegium.domain import body as b
from collegium.domain.checkpoint import Checkpoint
from collegium.domain.event import Draft, Event
from collegium.domain.usage import Limits, Usage
from tests.simulation.archive import HostArchive
from tests.simulation.journal import HostJournal, SharedJournal, SimulatedReceipt
from tests.simulation.outside import Outside
from tests.simulation.scenario import Scenario, random_scenario
from tests.simulation.stores import HostPresence
from tests.simulation.world import Planted, World

WITHIN_SEEDS = 400


class Unfenced(SharedJournal):
    """Lets every attempt append, whoever has taken it over."""

    def commit(self, request: Append, doubts: Doubts, ticket: int) -> list[EventRow]:
        return super().commit(request._replace(fences=()), Doubts(), ticket)


class Hasty(HostJournal):
    """Says that recording events are stored before they are."""

    async def settled(self, receipt: SimulatedReceipt) -> tuple[Event, ...]:
        return await super().settled(receipt) if receipt.request.head is not None else ()


class Unordered(HostJournal):
    """At its death it keeps what was ordered last and loses what came before."""

    def die(self) -> None:
        self._queue = self._queue[-1:]
        super().die()


class Careless(SharedJournal):
    """Does not compare what was known with what is there."""

    def commit(self, request: Append, doubts: Doubts, ticket: int) -> list[EventRow]:
        head = self._heads.get(request.run)
        expected = request.expected if head is None or not request.expected else head.deciding_seq
        return super().commit(request._replace(expected=expected), doubts, ticket)


class Forgiving(HostJournal):
    """A lapsed attempt is charged nothing."""

    def append(self, run: str, drafts: Sequence[Draft], **options: Any) -> SimulatedReceipt:
        free = [
            msgspec.structs.replace(d, body=msgspec.structs.replace(d.body, usage=Usage()))
            if isinstance(d.body, b.TaskLapsed)
            else d
            for d in drafts
        ]
        return super().append(run, free, **options)


class Blind(HostPresence):
    """Never finds anybody dead."""

    async def dead(self) -> tuple[str, ...]:
        return ()


class Forgetful(HostJournal):
    """Does not show the results of tools."""

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        events = await super().read(run, after, limit)
        return tuple(e for e in events if not isinstance(e.body, b.ToolFinished))


class Promising(Outside):
    """Says that a key never came and will be refused, whether that is so or not, and takes it all the same."""

    def has_done(self, name: str, key: str) -> bool:
        self.voided.clear()
        return False

    def apply(self, name: str, key: str, item: str) -> bool:
        self.voided.clear()
        return super().apply(name, key, item)


class Losing(HostArchive):
    """Now and then its chain loses its end: the next checkpoint follows the one before."""

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        made = await super().checkpoint(at=at, pause_s=pause_s)
        for one in made:
            if one.number % 3 == 0:
                self.shared.signed.kept[one.tenant].pop()
        return made


def tight(scenario: Scenario) -> Scenario:
    """Every run with a limit that it may well reach."""
    limited = (replace(s, limits=Limits(tokens=3_000 + 1_000 * i)) for i, s in enumerate(scenario.submissions))
    return replace(scenario, submissions=tuple(limited))


@pytest.mark.parametrize(
    ("planted", "invariants"),
    [
        (Planted(shared_journal=Unfenced), {"no stale append", "no effect without its cause", "nothing after the end"}),
        (
            Planted(journal=Hasty),
            {"no write fires twice", "events fold", "the ledger tells the truth", "a known outcome is not unknown"},
        ),
        (Planted(journal=Unordered), {"no effect without its cause", "events fold", "a finished step is not repeated"}),
        (
            Planted(shared_journal=Careless),
            {"attempts in order", "no attempt after a cancel", "events fold", "head agrees", "nothing after the end"},
        ),
        (Planted(journal=Forgiving), {"limits hold"}),
        (Planted(presence=Blind), {"every accepted run ends"}),
        (Planted(archive=Losing), {"checkpoints verify"}),
        (Planted(journal=Forgetful), {"a finished step is not repeated", "no write fires twice"}),
        (Planted(outside=Promising), {"no write fires twice"}),
    ],
    ids=lambda value: next((t.__name__ for t in _types(value)), "") if isinstance(value, Planted) else "",
)
def test_a_planted_fault_is_found(planted: Planted, invariants: set[str]) -> None:
    for seed in range(WITHIN_SEEDS):
        violation = (
            World(tight(random_scenario(seed)) if "limits hold" in invariants else random_scenario(seed), seed, planted)
            .run()
            .violation
        )
        if violation is not None:
            assert violation.invariant in invariants
            return
    pytest.fail(f"not found within {WITHIN_SEEDS} seeds")


def _types(planted: Planted) -> list[type]:
    return [
        t
        for t in (planted.shared_journal, planted.journal, planted.presence, planted.outside)
        if t not in (SharedJournal, HostJournal, HostPresence, Outside)
    ]
