"""What every ``Journal`` does: order, conflicts, receipts, listings, scans. Attempts and fences: ``fences.py``."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone

import pytest

from collegium.domain.errors import Conflict, NotFound
from collegium.domain.event import VERSIONS, Draft, Event
from collegium.domain.head import HeadChange, HeadQuery
from collegium.ports import Journal
from collegium.testing.conformance.drafts import (
    NOW,
    begin,
    decide,
    draft,
    eventually,
    finished,
    noted,
    ready,
    running,
    said,
    started,
    submitted,
)


@pytest.mark.asyncio
class JournalConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Journal]:
        """A journal on an empty store, closed at exit."""

    def open_pair(self) -> AbstractAsyncContextManager[tuple[Journal, Journal]]:
        """Two journals on one empty store, as two processes would have them."""
        pytest.skip("one process only")

    async def test_stored_events_are_the_drafts_with_seq_and_mac(self) -> None:
        async with self.open() as journal:
            drafts = [submitted(), said("first")]
            stored = await journal.append("run_a", drafts, expected=0, head=running()).durable()
            assert [e.seq for e in stored] == [1, 2]
            assert all(len(bytes.fromhex(e.mac)) == 32 for e in stored)
            assert [_draft_of(e) for e in stored] == drafts
            assert {e.run for e in stored} == {"run_a"}
            assert all(e.v == VERSIONS[e.type] for e in stored)
            assert await journal.read("run_a") == stored

    async def test_read_pages(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a", notes=250)
            everything = await journal.read("run_a")
            assert [e.seq for e in everything] == list(range(1, 252))
            assert await journal.read("run_a", after=100, limit=120) == everything[100:220]
            assert await journal.read("run_a", after=250) == everything[250:]
            assert await journal.read("run_a", after=251) == ()
            assert await journal.read("run_a", limit=0) == ()
            assert await journal.read("run_unknown") == ()

    async def test_appends_keep_their_order_without_waiting(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            receipts = [journal.append("run_a", [noted(n), noted(n)]) for n in range(1, 101)]
            last = await receipts[-1].durable()
            events = await journal.read("run_a")
            assert [e.seq for e in events] == list(range(1, 202))
            assert [getattr(e.body, "note", None) for e in events[1:]] == [str(n) for n in range(1, 101) for _ in "12"]
            assert events[-2:] == last
            for receipt in receipts:
                stored = await receipt.durable()
                assert stored == events[stored[0].seq - 1 : stored[-1].seq]

    async def test_what_nobody_waits_for_is_stored_soon(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            journal.append("run_a", [noted(1)])
            await eventually(lambda: _has_length(journal, "run_a", 2))

    async def test_a_receipt_tells_everybody_who_asks(self) -> None:
        async with self.open() as journal:
            good = journal.append("run_a", [submitted()], expected=0, head=running())
            bad = journal.append("run_a", [submitted()], expected=0, head=running())
            first, second = await asyncio.gather(good.durable(), good.durable())
            assert first == second == await good.durable()
            for _ in range(2):
                with pytest.raises(Conflict):
                    await bad.durable()

    async def test_a_cancelled_waiter_undoes_nothing(self) -> None:
        async with self.open() as journal:
            receipt = journal.append("run_a", [submitted()], expected=0, head=running())
            waiter = asyncio.ensure_future(receipt.durable())
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            assert await receipt.durable() == await journal.read("run_a")

    async def test_a_run_begins_once(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            before = await journal.read("run_a")
            with pytest.raises(Conflict):
                await journal.append("run_a", [submitted()], expected=0, head=running()).durable()
            assert await journal.read("run_a") == before

    async def test_an_unknown_run_takes_only_its_beginning(self) -> None:
        async with self.open() as journal:
            with pytest.raises(NotFound):
                await journal.append("run_a", [noted(1)]).durable()
            with pytest.raises(NotFound):
                await journal.append("run_a", [said("x")], head=running()).durable()
            with pytest.raises(Conflict):
                await journal.append("run_a", [said("x")], expected=3, head=running()).durable()
            with pytest.raises(Conflict):
                await journal.append("run_a", [noted(1)], expected=0).durable()
            assert await journal.head("run_a") is None

    async def test_expected_is_the_last_deciding_event(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await journal.append("run_a", [noted(1), noted(2)]).durable()
            await decide(journal, "run_a", [said("decided"), noted(3)], expected=1)
            with pytest.raises(Conflict) as refusal:
                await decide(journal, "run_a", [said("too late")], expected=1)
            assert refusal.value.fields["deciding_seq"] == 4
            await decide(journal, "run_a", [said("reloaded")], expected=4)
            assert [e.seq for e in await journal.read("run_a")] == [1, 2, 3, 4, 5, 6]

    async def test_of_many_deciders_one_wins(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            tries = [decide(journal, "run_a", [said(str(n))], expected=1) for n in range(20)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(type(o).__name__ for o in outcomes) == ["Conflict"] * 19 + ["tuple"]
            assert len(await journal.read("run_a")) == 2

    async def test_deciders_that_reload_all_get_through(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            await asyncio.gather(*(_decide_until_done(journal, "run_a", f"{n}") for n in range(8)))
            texts = sorted(getattr(e.body, "text", "") for e in await journal.read("run_a", after=1))
            assert texts == [str(n) for n in range(8)]

    async def test_a_bad_append_fails_alone(self) -> None:
        async with self.open() as journal:
            good = [journal.append(f"run_{n}", [submitted()], expected=0, head=running()) for n in range(5)]
            bad = [journal.append(f"run_{n}", [said("x")], expected=9, head=running()) for n in range(5)]
            after = [journal.append(f"run_{n}", [noted(n)]) for n in range(5)]
            for receipt in bad:
                with pytest.raises(Conflict):
                    await receipt.durable()
            assert [[e.seq for e in await r.durable()] for r in good + after] == [[1]] * 5 + [[2]] * 5

    async def test_an_append_is_all_or_nothing(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            with pytest.raises(Conflict):
                await decide(journal, "run_a", [said("x"), ready("t", 1), ready("t", 1)], expected=1)
            assert len(await journal.read("run_a")) == 1
            await decide(journal, "run_a", [ready("t", 1)], expected=1)

    @pytest.mark.parametrize(
        "drafts",
        [
            [],
            [noted(1), draft(noted(2).body, tenant="other")],
            [draft(noted(1).body, at=datetime(2026, 1, 1))],  # noqa: DTZ001 the point of this case
            [draft(ready("t", 1).body, task=None, attempt=None)],
            [draft(started("t", 1).body, task="t", attempt=None)],
        ],
        ids=["empty", "two tenants", "time without zone", "ready without task", "started without attempt"],
    )
    async def test_wrong_use_is_refused_at_once(self, drafts: list[Draft]) -> None:
        async with self.open() as journal:
            head = running() if any(d.is_deciding for d in drafts) else None
            with pytest.raises(ValueError, match=r"."):
                journal.append("run_a", drafts, expected=0, head=head)

    async def test_a_decision_comes_with_a_head(self) -> None:
        async with self.open() as journal:
            with pytest.raises(ValueError, match="head"):
                journal.append("run_a", [submitted()], expected=0)
            with pytest.raises(ValueError, match="head"):
                journal.append("run_a", [noted(1)], head=running())

    async def test_a_run_of_another_tenant_does_not_exist(self) -> None:
        async with self.open() as journal:
            await begin(journal, "run_a")
            foreign = draft(said("x").body, tenant="other")
            with pytest.raises(NotFound):
                await journal.append("run_a", [foreign], expected=1, head=running()).durable()
            assert len(await journal.read("run_a")) == 1

    async def test_times_keep_their_moment(self) -> None:
        async with self.open() as journal:
            moment = datetime(2026, 3, 29, 1, 59, 59, 123457, tzinfo=timezone(timedelta(hours=2)))
            await journal.append("run_a", [draft(submitted().body, at=moment)], expected=0, head=running()).durable()
            (event,) = await journal.read("run_a")
            assert event.at == moment
            assert event.at.tzinfo == UTC

    async def test_large_and_odd_bodies_come_back(self) -> None:
        async with self.open() as journal:
            texts = ["", "x" * 4_096, "y" * 1_000_000, "z" * 1_000_000, "\x00\u2028'\"\\ \U0001f600", "y" * 1_000_000]
            await begin(journal, "run_a")
            await journal.append("run_a", [noted(text) for text in texts]).durable()
            events = await journal.read("run_a", after=1)
            assert [getattr(e.body, "note", None) for e in events] == texts
            scanned, _ = await journal.scan()
            assert scanned[1:] == events

    async def test_the_head_follows_every_append(self) -> None:
        async with self.open() as journal:
            wake_at = NOW + timedelta(microseconds=7)
            change = HeadChange(status="queued", wake_at=wake_at)
            await journal.append("run_a", [submitted(), noted(1)], expected=0, head=change).durable()
            events = await journal.append("run_a", [noted(2)]).durable()
            head = await journal.head("run_a")
            assert head is not None
            assert (head.run, head.tenant, head.status) == ("run_a", "acme", "queued")
            assert (head.seq, head.deciding_seq, head.wake_at) == (3, 1, wake_at)
            assert head.mac == events[-1].mac
            finish = HeadChange(status="succeeded", wake_at=None)
            await journal.append("run_a", [finished()], expected=1, head=finish).durable()
            head = await journal.head("run_a")
            assert head is not None
            assert (head.status, head.seq, head.deciding_seq, head.wake_at) == ("succeeded", 4, 4, None)

    async def test_heads_newest_first_in_pages(self) -> None:
        async with self.open() as journal:
            for n in range(7):
                await begin(journal, f"run_{n}", tenant="acme" if n % 2 else "other")
            await decide(journal, "run_3", [finished()], expected=1, status="succeeded")
            assert await self._runs(journal) == [f"run_{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
            assert await self._runs(journal, limit=2) == ["run_6", "run_5"]
            assert await self._runs(journal, limit=2, after="run_5") == ["run_4", "run_3"]
            assert await self._runs(journal, tenant="acme") == ["run_5", "run_3", "run_1"]
            assert await self._runs(journal, tenant="acme", after="run_5", limit=1) == ["run_3"]
            assert await self._runs(journal, statuses={"succeeded"}) == ["run_3"]
            assert await self._runs(journal, statuses={"succeeded", "running"}, limit=4) == [
                f"run_{n}" for n in (6, 5, 4, 3)
            ]
            assert await self._runs(journal, statuses={"running"}, tenant="acme") == ["run_5", "run_1"]
            assert await self._runs(journal, statuses={"running"}, after="run_5", limit=2) == ["run_4", "run_2"]
            assert await self._runs(journal, statuses=set()) == []
            assert await self._runs(journal, tenant="nobody") == []

    async def test_the_project_of_a_run_is_that_of_its_first_append(self) -> None:
        async with self.open() as journal:
            both = [
                journal.append("run_a", [submitted()], expected=0, head=running(project="alpha")),
                journal.append("run_a", [submitted()], expected=0, head=running(project="beta")),
            ]
            await both[0].durable()
            with pytest.raises(Conflict):
                await both[1].durable()
            await journal.append("run_a", [said("x")], expected=1, head=running(project="beta")).durable()
            await journal.append("run_a", [noted(1)]).durable()
            await begin(journal, "run_b")
            heads = {head.run: head.project for head in await journal.heads(HeadQuery())}
            assert heads == {"run_a": "alpha", "run_b": ""}
            head = await journal.head("run_a")
            assert head is not None
            assert (head.project, head.seq) == ("alpha", 3)
            with pytest.raises(ValueError, match="zero byte"):
                journal.append("run_c", [submitted()], expected=0, head=running(project="a\0b"))

    async def test_heads_of_projects_in_pages(self) -> None:
        async with self.open() as journal:
            for n in range(12):
                tenant, project = "other" if n == 10 else "acme", ("alpha", "beta", "", "gamma")[n % 4]
                await begin(journal, f"run_{n:02}", tenant=tenant, project=project, wake_at=NOW if n < 6 else None)
            await decide(journal, "run_04", [finished()], expected=1, status="succeeded")
            await decide(journal, "run_05", [finished()], expected=1, status="failed")
            await begin(journal, "run_12", tenant="other", project="alpha")

            async def listed(*projects: str, **query: object) -> list[int]:
                runs = await self._runs(journal, projects=frozenset(projects), tenant="acme", **query)
                return [int(run.removeprefix("run_")) for run in runs]

            assert await listed("alpha") == [8, 4, 0]
            assert await listed("alpha", "beta", "nobody's") == [9, 8, 5, 4, 1, 0]
            assert await listed("alpha", "beta", limit=2) == [9, 8]
            assert await listed("alpha", "beta", limit=2, after="run_08") == [5, 4]
            assert await listed("alpha", limit=2, after="run_03") == [0]
            assert await listed("") == [6, 2]
            assert await listed("", "gamma") == [11, 7, 6, 3, 2]
            assert await listed() == []
            assert await listed("alpha", "beta", statuses={"succeeded", "failed"}) == [5, 4]
            assert await listed("beta", statuses={"running"}, limit=1) == [9]
            assert await listed("", statuses={"running"}) == [6, 2]
            assert await listed("alpha", "gamma", due_before=NOW) == [0, 3]
            assert await listed("alpha", worker="wrk_1") == []
            assert await self._runs(journal, projects=frozenset({"alpha"})) == ["run_12", "run_08", "run_04", "run_00"]
            # More than there are walks for: picked out of all, or all of one status.
            many = [*map(str, range(40)), "beta", "gamma"]
            assert await listed(*many, limit=4) == [11, 9, 7, 5]
            assert await listed(*many, statuses={"failed"}) == [5]
            assert await listed(*many[20:], statuses={"failed", "succeeded"}) == [5]

    async def test_due_heads_soonest_first_in_pages(self) -> None:
        async with self.open() as journal:
            for n, wait_s in enumerate([50, 10, 30, 10, None, 70]):
                wake_at = None if wait_s is None else NOW + timedelta(seconds=wait_s)
                await begin(journal, f"run_{n}", wake_at=wake_at, tenant="acme" if n < 3 else "other")
            due = NOW + timedelta(seconds=50)
            assert await self._runs(journal, due_before=due) == ["run_1", "run_3", "run_2", "run_0"]
            assert await self._runs(journal, due_before=due - timedelta(microseconds=1)) == ["run_1", "run_3", "run_2"]
            assert await self._runs(journal, due_before=due, limit=2) == ["run_1", "run_3"]
            assert await self._runs(journal, due_before=due, limit=2, after="run_1") == ["run_3", "run_2"]
            assert await self._runs(journal, due_before=due, tenant="acme", after="run_1") == ["run_2", "run_0"]
            assert await self._runs(journal, due_before=due, statuses={"failed"}) == []
            assert await self._runs(journal, due_before=NOW) == []
            await decide(journal, "run_1", [finished()], expected=1, status="succeeded")
            assert await self._runs(journal, due_before=due, after="run_1") == ["run_3", "run_2", "run_0"]

    async def test_scan_sees_everything_once_in_order(self) -> None:
        async with self.open() as journal:
            assert await journal.scan() == ((), "")
            for n in range(3):
                await begin(journal, f"run_{n}", notes=2)
            seen: list[Event] = []
            cursor = ""
            while True:
                events, cursor = await journal.scan(cursor, limit=4)
                if not events:
                    break
                seen += events
            assert len(seen) == 9
            for n in range(3):
                assert tuple(e for e in seen if e.run == f"run_{n}") == await journal.read(f"run_{n}")
            assert await journal.scan(cursor) == ((), cursor)
            (event,) = await journal.append("run_0", [noted("new")]).durable()
            assert (await journal.scan(cursor))[0] == (event,)

    async def test_a_scan_misses_nothing_that_is_being_written(self) -> None:
        async with self.open() as journal:
            await asyncio.gather(*(begin(journal, f"run_{n}") for n in range(4)))
            writers = [asyncio.ensure_future(_note_on(journal, f"run_{n}", 25)) for n in range(4)]
            seen: list[tuple[str, int]] = []
            cursor = ""

            async def has_seen_all() -> bool:
                nonlocal cursor
                events, cursor = await journal.scan(cursor, limit=7)
                seen.extend((e.run, e.seq) for e in events)
                return len(seen) >= 4 * 26

            await eventually(has_seen_all)
            await asyncio.gather(*writers)
            assert sorted(seen) == [(f"run_{n}", seq) for n in range(4) for seq in range(1, 27)]

    async def test_two_processes_share_a_run(self) -> None:
        async with self.open_pair() as (one, two):
            await begin(one, "run_a")
            await asyncio.gather(
                *(_note_on(journal, "run_a", 30) for journal in (one, two)),
                *(_decide_until_done(journal, "run_a", "x") for journal in (one, two)),
            )
            assert [e.seq for e in await one.read("run_a")] == list(range(1, 64))
            assert await one.read("run_a") == await two.read("run_a")
            assert await one.head("run_a") == await two.head("run_a")

    async def _runs(self, journal: Journal, **query: object) -> list[str]:
        if "statuses" in query:
            query["statuses"] = frozenset(query["statuses"])  # type: ignore[call-overload] # a set of strings
        return [head.run for head in await journal.heads(HeadQuery(**query))]  # type: ignore[arg-type] # by name


def _draft_of(event: Event) -> Draft:
    return Draft(id=event.id, tenant=event.tenant, at=event.at, body=event.body, task=event.task, attempt=event.attempt)


async def _has_length(journal: Journal, run: str, length: int) -> bool:
    return len(await journal.read(run)) == length


async def _note_on(journal: Journal, run: str, count: int) -> None:
    for n in range(count):
        await journal.append(run, [noted(n)]).durable()


async def _decide_until_done(journal: Journal, run: str, text: str) -> None:
    while True:
        head = await journal.head(run)
        assert head is not None
        try:
            await decide(journal, run, [said(text)], expected=head.deciding_seq)
            return
        except Conflict:
            continue
