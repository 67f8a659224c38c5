"""What every ``Archive`` does with checkpoints: signs what has changed, once, in a chain that shows what is gone."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import msgspec
import pytest

from collegium.domain import checkpoint
from collegium.domain.checkpoint import Entry
from collegium.ports import Journal
from collegium.runtime.audit import verify_all
from collegium.testing.conformance.archive import Opened, a_finished_run, tombstone_of
from collegium.testing.conformance.drafts import NOW, begin, noted

_S = timedelta(seconds=1)


async def standing(journal: Journal, *runs: str) -> tuple[Entry, ...]:
    """Where the runs stand."""
    heads = [await journal.head(run) for run in runs]
    return tuple(Entry(head.run, head.seq, head.mac) for head in heads if head is not None)


@pytest.mark.asyncio
class CheckpointConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Opened]:
        """Empty stores, closed at exit."""

    @abstractmethod
    def open_other(self) -> AbstractAsyncContextManager[Opened]:
        """Empty stores that share nothing with those of ``open`` but the chain key."""

    async def test_what_has_changed_is_signed_once_and_chained(self) -> None:
        async with self.open() as s:
            assert await s.archive.checkpoint(at=NOW) == ()
            await begin(s.journal, "run_a", notes=2)
            await begin(s.journal, "run_b")
            (first,) = await s.archive.checkpoint(at=NOW)
            assert (first.number, first.whole, first.previous, first.at) == (1, 1, "", NOW)
            assert first.entries == await standing(s.journal, "run_a", "run_b")
            assert await s.archive.checkpoint(at=NOW + _S) == ()
            await s.journal.append("run_b", [noted("more")]).durable()
            (second,) = await s.archive.checkpoint(at=NOW + _S)
            assert second.entries == await standing(s.journal, "run_b")
            assert (second.number, second.previous, second.whole) == (2, first.signature, 1)
            assert second.cursor > first.cursor
            assert await s.archive.checkpoints("acme") == (first, second)
            assert await s.archive.checkpoints("acme", after=1) == (second,)
            assert await s.archive.checkpoints("acme", limit=1) == (first,)
            assert await s.archive.checkpoints("other") == ()

    async def test_each_tenant_has_a_chain_of_its_own(self) -> None:
        async with self.open() as s:
            await begin(s.journal, "run_a")
            await s.archive.checkpoint(at=NOW)
            await begin(s.journal, "run_b", tenant="eve")
            await s.journal.append("run_a", [noted("x")]).durable()
            made = await s.archive.checkpoint(at=NOW)
            assert [(one.tenant, one.number) for one in made] == [("acme", 2), ("eve", 1)]
            assert made[1].entries == await standing(s.journal, "run_b")

    async def test_none_is_younger_than_the_pause(self) -> None:
        async with self.open() as s:
            await begin(s.journal, "run_a")
            assert await s.archive.checkpoint(at=NOW, pause_s=5.0)
            await s.journal.append("run_a", [noted("x")]).durable()
            assert await s.archive.checkpoint(at=NOW + 4 * _S, pause_s=5.0) == ()
            assert await s.archive.checkpoint(at=NOW - 4 * _S, pause_s=5.0), "a clock that goes back stops nothing"
            await s.journal.append("run_a", [noted("y")]).durable()
            assert await s.archive.checkpoint(at=NOW + 5 * _S, pause_s=5.0)

    async def test_those_who_sign_at_once_sign_once(self) -> None:
        async with self.open() as s:
            for n in range(5):
                await begin(s.journal, f"run_{n}")
                made = await asyncio.gather(*(s.archive.checkpoint(at=NOW) for _ in range(4)))
                assert sum(map(len, made)) == 1
            assert [one.number for one in await s.archive.checkpoints("acme")] == [1, 2, 3, 4, 5]
            assert (await s.archive.covered("acme")).flaw is None

    async def test_what_later_ones_list_is_dropped_and_the_chain_still_holds(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoint, "SPARE_ENTRIES", 10)
        async with self.open() as s:
            for run in ("run_a", "run_b", "run_c"):
                await begin(s.journal, run)
            for n in range(60):
                await s.journal.append(f"run_{'abc'[n % 3]}", [noted(n)]).durable()
                assert await s.archive.checkpoint(at=NOW)
            stored = await s.archive.checkpoints("acme")
            assert [one.number for one in stored] == list(range(1, 61))
            newest = stored[-1]
            whole = stored[newest.whole - 1]
            assert whole.number > 1
            assert all(one.entries is None for one in stored[: whole.number - 1])
            assert {entry.run for entry in whole.entries or ()} == {"run_a", "run_b", "run_c"}
            assert sum(len(one.entries or ()) for one in stored) <= 3 + 3 + 10
            found = await verify_all(s.journal, s.archive, "acme")
            assert (found.damaged, found.open_runs, found.runs) == ((), 0, 3)

    async def test_pruned_runs_are_fine_by_their_tombstones(self) -> None:
        async with self.open() as s:
            for run in ("run_a", "run_b", "run_c"):
                await a_finished_run(s.journal, run)
            await s.archive.checkpoint(at=NOW)
            await s.archive.prune(await tombstone_of(s.journal, "run_a", "run"))
            await s.archive.prune(await tombstone_of(s.journal, "run_b", "bodies"))
            await s.archive.prune(await tombstone_of(s.journal, "run_c", "run", kept=2))
            await s.journal.append("run_a", [noted("late")]).durable()
            assert (await verify_all(s.journal, s.archive, "acme")).damaged == ()
            (made,) = await s.archive.checkpoint(at=NOW)
            assert made.entries == await standing(s.journal, "run_a")
            assert (await verify_all(s.journal, s.archive, "acme")).damaged == ()

    async def test_one_that_was_kept_elsewhere_is_a_part_of_the_chain_or_shows_that_it_was_cut(self) -> None:
        async with self.open() as s, self.open_other() as other:
            for n in range(3):
                await begin(s.journal, f"run_{n}")
                await s.archive.checkpoint(at=NOW)
            kept = (await s.archive.checkpoints("acme"))[1]
            assert (await verify_all(s.journal, s.archive, "acme", kept)).damaged == ()
            await begin(other.journal, "run_0")
            await other.archive.checkpoint(at=NOW)
            shown = (await verify_all(other.journal, other.archive, "acme", kept)).damaged
            assert [(d.checkpoint, d.run) for d in shown] == [(2, None), (2, "run_1")]
            assert "the chain ends at 1" in shown[0].why
            forged = msgspec.structs.replace(kept, number=3)
            assert "another chain key" in str((await s.archive.covered("acme", forged)).against)
            assert "of tenant acme" in str((await s.archive.covered("eve", kept)).against)
