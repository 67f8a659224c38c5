"""A commit whose answer is lost: what was ordered is stored exactly once, and whoever waits hears so."""

import asyncio
from typing import get_args

import psycopg
import pytest

from collegium.adapters.postgres import connection
from collegium.adapters.postgres.store import open_store
from collegium.domain.head import Fence
from collegium.testing.conformance.drafts import begin, decide, noted, ready, running, started, submitted
from tests.unit.postgres.commit_proxy import CommitProxy, Loss

LOSSES = get_args(Loss)


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends transactions of clients that are gone sooner than usual: there is one in every third test."""
    monkeypatch.setitem(connection.SETTINGS, "idle_in_transaction_session_timeout", "500ms")


@pytest.mark.parametrize("loss", LOSSES)
async def test_events_are_stored_once(postgres_url: str, loss: Loss):
    async with CommitProxy(postgres_url).open() as proxy:
        store = await open_store(proxy.url)
        await begin(store.journal, "run_a")
        proxy.lose = loss
        stored = await store.journal.append("run_a", [noted(1), noted(2)]).durable()
        assert proxy.losses == 1
        assert await store.journal.read("run_a", after=1) == stored
        (third,) = await store.journal.append("run_a", [noted(3)]).durable()
        assert third.seq == 4
        assert await store.archive.verify("run_a") is None
        await store.aclose()


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_run_begins_once_and_its_decision_holds(postgres_url: str, loss: Loss):
    """Its head is not there to be locked: whoever asks has to wait for the row to come, or not to come."""
    async with CommitProxy(postgres_url).open() as proxy:
        store = await open_store(proxy.url)
        await begin(store.journal, "run_0")
        proxy.lose = loss
        stored = await store.journal.append("run_a", [submitted()], expected=0, head=running()).durable()
        assert (proxy.losses, await store.journal.read("run_a")) == (1, stored)
        proxy.lose = loss
        await decide(store.journal, "run_a", [ready("t", 1)], expected=1)
        fence = Fence(task="t", attempt=1)
        proxy.lose = loss
        await decide(store.journal, "run_a", [started("t", 1)], fence=fence)
        await store.journal.append("run_a", [noted(1, task="t", attempt=1)], fence=fence).durable()
        assert proxy.losses == 3
        assert [e.type for e in await store.journal.read("run_a")] == [
            "run.submitted",
            "task.ready",
            "task.started",
            "feedback.given",
        ]
        await store.aclose()


@pytest.mark.parametrize("loss", LOSSES)
async def test_somebody_elses_event_behind_ours_hides_nothing(postgres_url: str, loss: Loss):
    async with CommitProxy(postgres_url).open() as proxy:
        store, other = await open_store(proxy.url), await open_store(postgres_url)
        await begin(other.journal, "run_a")
        proxy.lose = loss
        ours = store.journal.append("run_a", [noted("ours")])
        waiting = asyncio.ensure_future(ours.durable())
        await proxy.lost.wait()
        theirs = await other.journal.append("run_a", [noted("theirs")]).durable()
        assert sorted([*await waiting, *theirs], key=lambda e: e.seq) == list(await other.journal.read("run_a", 1))
        await store.aclose()
        await other.aclose()


@pytest.mark.parametrize("loss", LOSSES)
async def test_blobs_deletes_and_checkpoints_are_made_again(postgres_url: str, loss: Loss):
    async with CommitProxy(postgres_url).open() as proxy:
        store = await open_store(proxy.url)
        proxy.lose = loss
        name = store.blobs.put("acme", b"x")
        await store.blobs.flush()
        assert proxy.losses == 1
        assert await store.blobs.get("acme", name) == b"x"
        await begin(store.journal, "run_a")
        at = (await store.journal.read("run_a"))[0].at
        proxy.lose = loss
        await store.archive.checkpoint(at=at)
        assert proxy.losses == 2
        assert [one.number for one in await store.archive.checkpoints("acme")] == [1]
        assert (await store.archive.covered("acme")).flaw is None
        await store.aclose()


async def test_a_transaction_number_that_is_given_again_after_a_crash_proves_nothing(postgres_url: str):
    """The store is asked for what was written, not what became of a number: another may have committed under it."""
    async with CommitProxy(postgres_url).open() as proxy:
        store = await open_store(proxy.url)
        await begin(store.journal, "run_a")
        with psycopg.connect(postgres_url, autocommit=True) as other:
            proxy.lose = "the commit"
            waiting = asyncio.ensure_future(store.journal.append("run_a", [noted(1)]).durable())
            await proxy.lost.wait()
            for _ in range(20):
                other.execute("SELECT pg_current_xact_id()")
        (event,) = await waiting
        assert (await store.journal.read("run_a"))[-1] == event
        await store.aclose()
