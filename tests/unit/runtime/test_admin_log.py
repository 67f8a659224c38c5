"""The administrative log: what is written, in which order it is read, and that it is under the checkpoints."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.sqlite.store import open_store
from collegium.domain.deed import LogNoted, LogOpened, log_tenant
from collegium.domain.head import HeadQuery
from collegium.runtime.admin_log import MOST_CHARS, AdminLog, Wanted, journal_of
from collegium.runtime.audit import verify_all
from collegium.testing.clock import FakeClock

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def noted(action: str = "keys.created", **fields: object) -> LogNoted:
    return LogNoted(**{"actor": "local", "action": action, **fields})  # type: ignore[arg-type] # a test's shorthand


async def test_lines_are_read_newest_first_over_months_in_pages_and_by_what_is_wanted() -> None:
    clock, journal = FakeClock(START), MemoryJournal()
    log = AdminLog(journal, now=clock.now)
    for n in range(30):
        actor = "key:1" if n % 3 else "local"
        await log.note("acme", noted("keys.created" if n % 2 else "stops.put", object=f"o{n}", actor=actor))
        await clock.advance(86_400.0)
    await log.note("eve", noted(object="hers"))
    assert journal.runs == ("log_acme_202611", "log_acme_202612", "log_eve_202612")
    (opened,) = await journal.read("log_acme_202612", 0, 1)
    before = await journal.head("log_acme_202611")
    assert isinstance(opened.body, LogOpened)
    assert before is not None
    assert (opened.body.previous, opened.body.previous_seq, opened.body.previous_mac) == (
        "log_acme_202611", before.seq, before.mac,
    )  # fmt: skip

    async def objects(wanted: Wanted | None, limit: int) -> list[str]:
        seen, place = [], None
        while True:
            page = await log.page("acme", wanted, before=place, limit=limit)
            seen += [deed.object for deed in page.deeds]
            if (place := page.next) is None:
                return seen

    everything = [f"o{n}" for n in reversed(range(30))]
    for limit in (1, 4, 9, 30, 100):
        assert await objects(None, limit) == everything
    assert await objects(Wanted(actor="local"), 4) == [o for o in everything if int(o[1:]) % 3 == 0]
    assert await objects(Wanted(action="keys.*"), 4) == [o for o in everything if int(o[1:]) % 2]
    since, until = START + timedelta(days=3), START + timedelta(days=12)
    assert await objects(Wanted(since=since, until=until), 2) == [f"o{n}" for n in reversed(range(3, 12))]
    assert [deed.object async for deed in log.lines("acme")] == everything[::-1]
    assert [d.object async for d in log.lines("acme", after=("log_acme_202612", 1))] == everything[20::-1]
    assert [deed.object for deed in (await log.page("eve")).deeds] == ["hers"]
    assert await log.page("nobody") == await log.page("~log")


async def test_a_log_is_in_no_list_of_runs_and_many_write_it_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db", clock=FakeClock())
    logs = [AdminLog(store.journal, now=FakeClock(START).now) for _ in range(5)]
    await asyncio.gather(*(log.note("acme", noted(object=f"{n}")) for n in range(8) for log in logs))
    deeds = [deed async for deed in logs[0].lines("acme")]
    assert sorted(deed.object for deed in deeds) == sorted(f"{n}" for n in range(8) for _ in logs)
    assert [deed.seq for deed in deeds] == list(range(2, 42))
    assert await store.journal.heads(HeadQuery(tenant="acme")) == ()
    await store.aclose()


async def test_a_changed_line_is_found_by_the_chain_and_a_cut_one_by_the_checkpoint(tmp_path: Path) -> None:
    path, tenant = tmp_path / "store.db", log_tenant("acme")
    store = open_store(path, clock=FakeClock(), chain_key=b"k" * 32)
    log = AdminLog(store.journal, now=FakeClock(START).now)
    for n in range(6):
        await log.note("acme", noted(object=f"{n}"))
    await store.archive.checkpoint(at=START)
    assert (await verify_all(store.journal, store.archive, tenant)).damaged == ()
    await store.aclose()
    name = journal_of("acme", START)
    for statement, seq in (
        ("UPDATE events SET body = replace(body, '\"3\"', '\"9\"') WHERE run = ? AND seq = 5", 5),
        ("DELETE FROM events WHERE run = ? AND seq = 7", 5),
    ):
        with sqlite3.connect(path) as connection:
            assert connection.execute(statement, (name,)).rowcount == 1
        connection.close()
        store = open_store(path, clock=FakeClock(), chain_key=b"k" * 32)
        (bad,) = (await verify_all(store.journal, store.archive, tenant)).damaged
        assert (bad.run, bad.seq) == (name, seq)
        await store.aclose()


async def test_texts_are_cut_and_secrets_masked() -> None:
    log = AdminLog(MemoryJournal(), now=FakeClock(START).now)
    (deed,) = await log.note("t", noted(reason="x" * 10_000, object="sk-abcdefghijklmnop1234", address="a\0b"))
    assert (len(deed.reason), deed.object, deed.address) == (MOST_CHARS, "[redacted]", "a?b")


def test_every_tenant_has_a_journal_of_its_own() -> None:
    names = ["a", "a_202611", "a%5F202611", "a/b", "ä", "A"]
    assert len({journal_of(name, START) for name in names}) == len(names)
