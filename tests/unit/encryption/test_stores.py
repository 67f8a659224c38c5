"""Stores that encrypt: what their database shows, what they find changed, rotation and the end of keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from collegium.adapters.encryption.rotation import shred
from collegium.domain.chat import Json
from collegium.domain.errors import Erased, NotFound, StoreCorrupt, UsageError
from collegium.domain.head import HeadChange
from collegium.domain.record import Condition, Record
from collegium.domain.tombstone import Tombstone
from collegium.testing.conformance.drafts import begin, finished, noted
from tests.unit.encryption.conftest import Place, Sealed

SECRET = "the harbour master's safe is behind the map"
LARGE = SECRET * 300
TABLES = ("events", "blobs", "records")


async def fill(store: object, tenant: str = "acme", run: str = "run_a") -> str:
    """A run with a small and a large body, a blob and records; gives the blob's name."""
    journal, records, blobs = store.journal, store.records, store.blobs  # type: ignore[attr-defined]
    await begin(journal, run, tenant=tenant)
    await journal.append(run, [noted(SECRET, tenant=tenant), noted(LARGE, tenant=tenant)]).durable()
    await records.put(Record(kind="note", tenant=tenant, key="a", value={"text": SECRET, "n": 1}))
    await records.put(Record(kind="schedule", tenant=tenant, key="s", value=schedule(7)))
    name: str = blobs.put(tenant, LARGE.encode() + b"!")
    await blobs.flush()
    return name


def schedule(due_us: int) -> Json:
    return {"tenant": "acme", "name": "daily", "due_us": due_us, "goal": SECRET}


async def check(store: object, name: str, tenant: str = "acme", run: str = "run_a") -> None:
    """All that ``fill`` has stored is there."""
    journal, records, blobs = store.journal, store.records, store.blobs  # type: ignore[attr-defined]
    events = await journal.read(run)
    assert [event.body.note for event in events[1:3]] == [SECRET, LARGE]
    record = await records.get("note", tenant, "a")
    assert record is not None
    assert record.value == {"text": SECRET, "n": 1}
    assert await blobs.get(tenant, name) == LARGE.encode() + b"!"
    assert await store.archive.verify(run) is None  # type: ignore[attr-defined]


def shown(place: Place) -> str:
    rows = [row for table in TABLES for row in place.sql(f"SELECT * FROM {table}")]
    return repr([bytes(v) if isinstance(v, memoryview) else v for row in rows for v in row])


def versions(place: Place) -> set[int]:
    found = place.sql("SELECT key_version FROM events WHERE body IS NOT NULL")
    found += place.sql("SELECT key_version FROM blobs")
    found += place.sql("SELECT key_version FROM records WHERE kind <> 'data_key'")
    return {version for (version,) in found}


async def test_the_database_shows_nothing_of_it(place: Place) -> None:
    async with place.sealed() as (store, _):
        name = await fill(store)
        await check(store, name)
        assert SECRET not in shown(place)
        assert versions(place) == {1}
    async with place.sealed() as (store, _):
        await check(store, name)


async def test_records_are_found_by_any_field(place: Place) -> None:
    async with place.sealed() as (store, _):
        await fill(store)
        for n in range(5):
            await store.records.put(Record(kind="schedule", tenant="acme", key=f"t{n}", value=schedule(n)))
        due = [Condition(field="due_us", op="<=", value=3)]
        assert [r.key for r in await store.records.find("schedule", "acme", due)] == ["t0", "t1", "t2", "t3"]
        goal = [Condition(field="goal", op="=", value=SECRET), *due]
        assert [r.key for r in await store.records.find("schedule", "acme", goal, limit=2)] == ["t0", "t1"]
        one = [Condition(field="n", op="=", value=1)]
        assert [r.key for r in await store.records.find("note", "acme", one)] == ["a"]
    assert '"due_us":3' in shown(place), "the fields that are searched are in plain, which the docs say"


async def test_encryption_is_turned_on_over_plain_rows(place: Place) -> None:
    async with place.plain() as store:
        name = await fill(store)
    assert SECRET in shown(place)
    async with place.sealed() as (store, ring):
        await check(store, name)
        other = await fill(store, run="run_b")
        await check(store, other, run="run_b")
        assert versions(place) == {0, 1}
        assert place.rotate(ring) > 0
        assert SECRET not in shown(place)
        assert versions(place) == {2}
        await check(store, name)
        await check(store, name, run="run_b")
        assert (await store.journal.scan())[0][1].body.note == SECRET  # type: ignore[attr-defined]


async def test_an_encrypted_store_without_a_key_says_so(place: Place) -> None:
    async with place.sealed() as (store, _):
        name = await fill(store)
    async with place.plain() as bare:
        for read in (
            bare.journal.read("run_a"), bare.blobs.get("acme", name), bare.records.get("note", "acme", "a"),
            bare.archive.verify("run_a"), bare.journal.scan(),
        ):  # fmt: skip
            with pytest.raises(UsageError, match="no key is configured"):
                await read
    async with place.sealed(b"w" * 32) as (store, _):
        with pytest.raises(UsageError, match="it is the wrong key"):
            await store.journal.read("run_a")
        with pytest.raises(UsageError, match="it is the wrong key"):
            store.journal.append("run_a", [noted("x")])


async def test_rows_that_change_places_are_found(place: Place) -> None:
    async with place.sealed() as (store, _):
        await begin(store.journal, "run_a", notes=3)
        await begin(store.journal, "run_b", notes=3)
        bodies = dict(place.sql("SELECT seq, body FROM events WHERE run = 'run_a'"))
        place.sql("UPDATE events SET body = ? WHERE run = 'run_a' AND seq = 2", [bodies[3]])
        place.sql("UPDATE events SET body = ? WHERE run = 'run_b' AND seq = 3", [bodies[3]])
        for run in ("run_a", "run_b"):
            with pytest.raises(StoreCorrupt, match="changed, or put where something else was"):
                await store.journal.read(run)
        assert (await store.archive.verify("run_a"), await store.archive.verify("run_b")) == (2, 3)
        for key in "ab":
            await store.records.put(Record(kind="note", tenant="acme", key=key, value={"key": key}))
        (value,) = place.sql("SELECT value FROM records WHERE kind = 'note' AND key = 'a'")[0]
        place.sql("UPDATE records SET value = ? WHERE kind = 'note' AND key = 'b'", [value])
        with pytest.raises(StoreCorrupt, match="note 'b'"):
            await store.records.get("note", "acme", "b")
        assert await store.records.get("note", "acme", "a") is not None


async def test_changed_bytes_are_found(place: Place) -> None:
    async with place.sealed() as (store, _):
        name = await fill(store)
        (body,) = place.sql("SELECT body FROM events WHERE run = 'run_a' AND seq = 1")[0]
        for at in (0, 1, 3, 8, 25, len(body) - 1):
            changed = bytearray(body)
            changed[at] ^= 0x55
            place.sql("UPDATE events SET body = ? WHERE run = 'run_a' AND seq = 1", [bytes(changed)])
            with pytest.raises(StoreCorrupt):
                await store.journal.read("run_a")
            assert await store.archive.verify("run_a") == 1
        (data,) = place.sql("SELECT data FROM blobs WHERE sha256 = ?", [name])[0]
        place.sql("UPDATE blobs SET data = ? WHERE sha256 = ?", [bytes(data[:-1]), name])
        with pytest.raises(StoreCorrupt, match=name):
            await store.blobs.get("acme", name)
        (value,) = place.sql("SELECT value FROM records WHERE kind = 'schedule'")[0]
        text = value if isinstance(value, str) else bytes(value).decode()
        moved = text.replace('"due_us":7', '"due_us":8')
        assert moved != text
        place.sql(
            "UPDATE records SET value = ? WHERE kind = 'schedule'", [moved if place.url is None else moved.encode()]
        )
        with pytest.raises(StoreCorrupt, match="a field beside its envelope was changed"):
            await store.records.get("schedule", "acme", "s")


async def test_a_rotation_that_was_broken_off_goes_on(place: Place) -> None:
    async with place.sealed() as (store, ring):
        name = await fill(store)
        await fill(store, "other", "run_b")
        assert ring.add("acme", 2, state="filling")  # and then the process was killed
        assert place.rotate(ring, "acme") > 0
        assert ring.stored("acme").current == 2, "it went on, and began none of its own"
        assert ring.stored("other").current == 1, "nobody asked for it"
        assert place.rotate(ring, "acme") > 0
        assert ring.stored("acme").current == 3, "that one was over"
        await check(store, name)
        await check(store, name, "other", "run_b")


async def _shredded(sealed: Sealed) -> tuple[str, str]:
    mine, theirs = await fill(sealed.store), await fill(sealed.store, "other", "run_b")
    await sealed.store.archive.checkpoint(at=datetime(2026, 11, 22, tzinfo=UTC))
    assert shred(sealed.ring, "acme") == 1
    return mine, theirs


async def test_a_shredded_tenant_is_erased_and_others_are_not(place: Place) -> None:
    async with place.sealed() as sealed:
        mine, theirs = await _shredded(sealed)
        store = sealed.store
        for read in (
            store.journal.read("run_a"), store.blobs.get("acme", mine),
        ):  # fmt: skip
            with pytest.raises(Erased, match="it was erased"):
                await read
        assert await store.records.find("note", "acme") == ()
        assert await store.records.get("schedule", "acme", "s") is None
        await check(store, theirs, "other", "run_b")
        scanned, _ = await store.journal.scan()
        assert {event.run for event in scanned} == {"run_b"}
        assert [link.body for link in await store.archive.links("run_a")] == [None] * 3
        assert await store.archive.verify("run_a") is None, "the chain holds without what it says"
        assert await store.archive.verify("run_b") is None
        assert (await store.archive.covered("acme")).flaw is None


async def test_what_is_missing_is_not_called_erased(place: Place) -> None:
    async with place.sealed() as sealed:
        await _shredded(sealed)
        place.sql("UPDATE events SET body = NULL WHERE run = 'run_a' AND seq = 2")
        assert await sealed.store.archive.verify("run_a") == 2


async def test_what_a_fork_kept_of_a_pruned_run_is_erased_and_not_changed(place: Place) -> None:
    async with place.sealed() as sealed:
        await fill(sealed.store)
        ended = HeadChange(status="succeeded", wake_at=None)
        await sealed.store.journal.append("run_a", [finished()], expected=1, head=ended).durable()
        archive, head = sealed.store.archive, await sealed.store.journal.head("run_a")
        assert head is not None
        at = datetime(2026, 11, 22, tzinfo=UTC)
        left = Tombstone(
            run="run_a", tenant="acme", seq=head.seq, mac=head.mac, status="succeeded", what="bodies", kept=2,
            submitted_at=at, finished_at=at, pruned_at=at,
        )  # fmt: skip
        await archive.prune(left)
        assert [link.body is None for link in await archive.links("run_a")] == [False, False, True, True]
        assert shred(sealed.ring, "acme") == 1
        assert await archive.verify("run_a") is None, "its key was destroyed, nobody has changed it"
        place.sql("UPDATE events SET body = NULL WHERE run = 'run_a' AND seq = 2")
        assert await archive.verify("run_a") == 2


async def test_a_shredded_tenant_begins_anew(place: Place) -> None:
    async with place.sealed() as sealed:
        mine, _ = await _shredded(sealed)
        again = sealed.store.blobs.put("acme", LARGE.encode() + b"!")
        await sealed.store.blobs.flush()
        assert again == mine
        assert await sealed.store.blobs.get("acme", mine) == LARGE.encode() + b"!"
        await begin(sealed.store.journal, "run_c", notes=1)
        assert len(await sealed.store.journal.read("run_c")) == 2
        assert place.rotate(sealed.ring) > 0
        with pytest.raises(Erased):
            await sealed.store.journal.read("run_a")


async def _read_for_ever(sealed: Sealed) -> None:
    async with asyncio.timeout(10):
        while True:
            await sealed.store.journal.read("run_a")
            await asyncio.sleep(0.002)


async def test_another_process_hears_of_it(place: Place) -> None:
    async with place.sealed() as sealed, place.sealed() as other:
        mine = await fill(sealed.store)
        await check(other.store, mine)
        shred(sealed.ring, "acme")
        with pytest.raises(NotFound, match="it was erased"):
            await _read_for_ever(other)
