"""What every ``Journal`` does about attempts: who may create, start, close them and write for them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.errors import Conflict, Fenced
from collegium.domain.event import Draft
from collegium.domain.head import Fence, HeadQuery
from collegium.ports import Journal
from collegium.testing.conformance.drafts import (
    begin,
    decide,
    finished,
    lapsed,
    noted,
    parked,
    quarantined,
    ready,
    running,
    said,
    settled,
    started,
)

ONE = Fence(task="t", attempt=1)
TWO = Fence(task="t", attempt=2)


@pytest.mark.asyncio
class FenceConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Journal]:
        """A journal on an empty store, closed at exit."""

    def open_pair(self) -> AbstractAsyncContextManager[tuple[Journal, Journal]]:
        """Two journals on one empty store, as two processes would have them."""
        pytest.skip("one process only")

    @pytest.mark.parametrize(
        ("history", "last", "refusal"),
        [
            ([], [ready("t", 1)], None),
            ([], [ready("t", 2)], Conflict),
            ([], [ready("t", 0)], Conflict),
            ([ready("t", 1)], [ready("t", 1)], Conflict),
            ([ready("t", 1)], [ready("t", 2)], Conflict),
            ([ready("t", 1)], [ready("u", 1)], None),
            ([ready("t", 1), started("t", 1)], [ready("t", 2)], Conflict),
            ([ready("t", 1), parked("t", 1)], [ready("t", 2)], None),
            ([ready("t", 1), started("t", 1), lapsed("t", 1)], [ready("t", 2)], None),
            ([ready("t", 1), quarantined("t", 1)], [ready("t", 2)], None),
            ([ready("t", 1), parked("t", 1)], [ready("t", 1)], Conflict),
            ([ready("t", 1), parked("t", 1)], [ready("t", 3)], Conflict),
            ([ready("t", 1)], [parked("t", 1), ready("t", 2)], None),
            ([ready("t", 1)], [ready("t", 2), parked("t", 1)], Conflict),
            ([], [started("t", 1)], Fenced),
            ([ready("t", 1)], [started("t", 1)], None),
            ([ready("t", 1)], [started("t", 2)], Fenced),
            ([ready("t", 1), started("t", 1)], [started("t", 1)], Fenced),
            ([ready("t", 1), started("t", 1)], [started("t", 1, "wrk_2")], Fenced),
            ([ready("t", 1), parked("t", 1)], [started("t", 1)], Fenced),
            ([ready("t", 1), parked("t", 1), ready("t", 2)], [started("t", 1)], Fenced),
            ([ready("t", 1), parked("t", 1), ready("t", 2)], [started("t", 2)], None),
            ([ready("t", 1)], [settled("t", 1)], None),
            ([ready("t", 1)], [settled("t", 2)], Fenced),
            ([ready("t", 1), settled("t", 1)], [settled("t", 1)], Fenced),
            ([ready("t", 1), parked("t", 1)], [lapsed("t", 1)], Fenced),
            ([ready("t", 1), parked("t", 1), ready("t", 2)], [lapsed("t", 1)], Fenced),
            ([ready("t", 1), started("t", 1)], [settled("t", 1), finished()], None),
            ([], [settled("t", None)], None),
            ([settled("t", None)], [settled("t", None)], None),
        ],
    )
    async def test_attempts_come_in_turn(
        self, history: list[Draft], last: list[Draft], refusal: type[Exception] | None
    ) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            for event in history:
                await decide(journal, "run_a", [event])
            if refusal is None:
                await decide(journal, "run_a", last)
            else:
                with pytest.raises(refusal):
                    await decide(journal, "run_a", last)
            stored = await journal.read("run_a", after=1 + len(history))
            assert [e.id for e in stored] == ([] if refusal else [d.id for d in last])

    async def test_only_the_newest_open_attempt_writes(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            assert not await self._can_write(journal, ONE)
            await decide(journal, "run_a", [ready("t", 1)])
            assert await self._can_write(journal, ONE)
            assert not await self._can_write(journal, TWO)
            assert not await self._can_write(journal, Fence(task="u", attempt=1))
            await decide(journal, "run_a", [started("t", 1)])
            assert await self._can_write(journal, ONE)
            await decide(journal, "run_a", [lapsed("t", 1)])
            assert not await self._can_write(journal, ONE)
            await decide(journal, "run_a", [ready("t", 2)])
            assert not await self._can_write(journal, ONE)
            assert await self._can_write(journal, TWO)

    async def test_an_attempt_closes_itself_with_its_last_words(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1), started("t", 1)])
            last = [noted("last", task="t", attempt=1), settled("t", 1), finished()]
            await decide(journal, "run_a", last, fence=ONE, expected=3, status="succeeded")
            assert not await self._can_write(journal, ONE)

    async def test_a_fenced_decision_says_so_even_when_it_conflicts_too(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1), lapsed("t", 1)])
            with pytest.raises(Fenced):
                await decide(journal, "run_a", [settled("t", 1)], expected=1, fence=ONE)

    async def test_what_was_queued_behind_a_failure_fails_too(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1), ready("u", 1), lapsed("t", 1)])
            behind = [journal.append("run_a", [noted(n)], fence=ONE) for n in range(3)]
            other = journal.append("run_a", [noted("other")], fence=Fence(task="u", attempt=1))
            for receipt in behind:
                with pytest.raises(Fenced):
                    await receipt.durable()
            assert len(await other.durable()) == 1

    async def test_a_conflict_takes_what_was_queued_behind_it(self) -> None:
        """An effect can never be durable without its cause; having heard of the conflict, the attempt goes on."""
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1), ready("u", 1)])
            cause = journal.append("run_a", [said("x")], expected=1, fence=ONE, head=running())
            effect = journal.append("run_a", [noted("effect")], fence=ONE)
            other = journal.append("run_a", [noted("other")], fence=Fence(task="u", attempt=1))
            await other.durable()
            late = journal.append("run_a", [noted("late")], fence=ONE)
            with pytest.raises(Conflict):
                await cause.durable()
            for receipt in (effect, late):
                with pytest.raises(Fenced):
                    await receipt.durable()
            assert [getattr(e.body, "note", None) for e in await journal.read("run_a", after=3)] == ["other"]
            await decide(journal, "run_a", [said("again")], expected=3, fence=ONE)
            assert await self._can_write(journal, ONE)

    async def test_a_refused_second_start_harms_nobody(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1)])
            await decide(journal, "run_a", [started("t", 1)], fence=ONE)
            again = journal.append("run_a", [started("t", 1, "wrk_2")], fence=ONE, head=running())
            with pytest.raises(Fenced):
                await again.durable()
            assert await self._can_write(journal, ONE)

    async def test_of_many_starters_one_wins(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await decide(journal, "run_a", [ready("t", 1)])
            starts = [decide(journal, "run_a", [started("t", 1, f"wrk_{n}")]) for n in range(10)]
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
            assert sorted(type(o).__name__ for o in outcomes) == ["Fenced"] * 9 + ["tuple"]

    async def test_runs_are_found_by_the_worker_of_an_open_attempt(self) -> None:
        async with self.open() as journal:
            for run in ("run_a", "run_b", "run_c"):
                await begin(journal, run)
                await decide(journal, run, [ready("t", 1), ready("u", 1)])
            assert await self._runs_of(journal, "wrk_1") == []
            await decide(journal, "run_a", [started("t", 1), started("u", 1)])
            await decide(journal, "run_b", [started("t", 1, "wrk_2"), started("u", 1)])
            assert await self._runs_of(journal, "wrk_1") == ["run_b", "run_a"]
            assert await self._runs_of(journal, "wrk_2") == ["run_b"]
            assert await self._runs_of(journal, "wrk_1", limit=1) == ["run_b"]
            assert await self._runs_of(journal, "wrk_1", after="run_b") == ["run_a"]
            assert await self._runs_of(journal, "wrk_1", tenant="other") == []
            await decide(journal, "run_b", [parked("u", 1)])
            assert await self._runs_of(journal, "wrk_1") == ["run_a"]
            await decide(journal, "run_b", [ready("u", 2)])
            assert await self._runs_of(journal, "wrk_1") == ["run_a"]

    async def test_a_takeover_by_another_process_fences(self) -> None:
        async with self.open_pair() as (one, two):
            await begin(one, "run_a")
            await decide(one, "run_a", [ready("t", 1), started("t", 1)])
            assert await self._can_write(one, ONE)
            await decide(two, "run_a", [lapsed("t", 1), ready("t", 2)])
            assert not await self._can_write(one, ONE)
            await decide(two, "run_a", [started("t", 2, "wrk_2")])
            assert await self._can_write(two, TWO)
            with pytest.raises(Fenced):
                await decide(one, "run_a", [started("t", 2)])
            with pytest.raises(Conflict):
                await decide(one, "run_a", [ready("t", 2)])

    async def _can_write(self, journal: Journal, fence: Fence) -> bool:
        try:
            await journal.append("run_a", [noted("x")], fence=fence).durable()
        except Fenced:
            return False
        return True

    async def _runs_of(self, journal: Journal, worker: str, **query: object) -> list[str]:
        heads = await journal.heads(HeadQuery(worker=worker, **query))  # type: ignore[arg-type] # by name
        return [head.run for head in heads]
