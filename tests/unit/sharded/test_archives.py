"""What is signed of shards, verified, exported, pruned and collected over all of them."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from collegium.domain.body import RunSaid
from collegium.domain.errors import NotFound, StoreUnavailable, UsageError
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.runtime.audit import newest_of, verify_all, verify_stores
from collegium.testing.conformance.archive import a_finished_run, tombstone_of
from collegium.testing.conformance.drafts import NOW, begin, decide, draft, noted
from tests.unit.sharded.stores import Sharded, sharded

HOUR = timedelta(hours=1)
ids = Ids(lambda: 1)


async def filled(s: Sharded) -> list[str]:
    """Two finished runs in each shard, signed."""
    runs = [ids.run(n % 3) for n in range(6)]
    for run in runs:
        await a_finished_run(s.journal, run)
    await s.archive.checkpoint(at=NOW)
    return runs


def tamper(folder: Path, shard: int, *statements: str) -> None:
    connection = sqlite3.connect(folder / f"{shard}.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_each_shard_has_its_own_chain_and_all_of_them_are_held_against_it(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        runs = await filled(s)
        stores = s.bundle()
        kept = await newest_of(stores, "acme")
        assert sorted(kept) == [0, 1, 2]
        assert [{e.run for e in kept[n].entries or ()} for n in kept] == [set(runs[n::3]) for n in kept]
        found = await verify_stores(stores, "acme", kept)
        assert [(one.runs, one.open_runs, one.damaged) for one in found.values()] == [(2, 0, ())] * 3
        await s.journal.append(runs[1], [noted("later")]).durable()
        assert [one.open_runs for one in (await verify_stores(stores, "acme")).values()] == [0, 1, 0]
        whole = await verify_all(s.journal, s.archive, "acme", kept[1])
        assert (whole.runs, whole.open_runs, whole.damaged) == (6, 1, ())


@pytest.mark.parametrize("shard", [0, 2])
async def test_what_is_changed_in_one_shard_is_found_there(tmp_path: Path, shard: int) -> None:
    async with sharded(tmp_path) as s:
        runs = await filled(s)
        gone = runs[shard]
        tamper(tmp_path, shard, *(f"DELETE FROM {table} WHERE run = '{gone}'" for table in ("events", "heads")))
    async with sharded(tmp_path) as s:
        found = await verify_stores(s.bundle(), "acme")
        assert [[(d.run, d.shard) for d in one.damaged] for one in found.values()] == [
            [(gone, shard)] if n == shard else [] for n in range(3)
        ]
        assert [d.run for d in (await verify_all(s.journal, s.archive, "acme")).damaged] == [gone]


async def test_a_shard_that_was_emptied_is_found_by_the_checkpoint_that_was_kept_elsewhere(tmp_path: Path) -> None:
    async with sharded(tmp_path / "whole") as s:
        await filled(s)
        kept = await newest_of(s.bundle(), "acme")
    (tmp_path / "whole" / "2.db").unlink()
    async with sharded(tmp_path / "whole") as s:
        assert not [d for one in (await verify_stores(s.bundle(), "acme")).values() for d in one.damaged]
        found = await verify_stores(s.bundle(), "acme", kept)
        assert [bool(one.damaged) for one in found.values()] == [False, False, True]
        assert found[2].damaged[0].shard == 2
        assert "ends at 0" in found[2].damaged[0].why
    async with sharded(tmp_path / "whole", 2) as s:
        with pytest.raises(UsageError, match=r"shard 2.*name 0, 1.*postgres\.shards"):
            await verify_stores(s.bundle(), "acme", kept)


async def test_no_export_vouches_for_a_chain_with_a_flaw(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        await filled(s)
        tamper(tmp_path, 1, "UPDATE checkpoints SET value = replace(value, '\"number\":1', '\"number\":2')")
        with pytest.raises(UsageError, match="of shard 1"):
            await newest_of(s.bundle(), "acme")


async def test_tombstones_of_all_shards_are_one_list(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        runs = await filled(s)
        for run in runs:
            await s.archive.prune(await tombstone_of(s.journal, run, "run"))
        seen: list[str] = []
        while page := await s.archive.tombstones("acme", seen[-1] if seen else "", 2):
            assert len(page) <= 2
            seen += [tombstone.run for tombstone in page]
        assert seen == sorted(runs)
        assert await s.archive.tombstone(runs[4]) is not None
        assert not [d for one in (await verify_stores(s.bundle(), "acme")).values() for d in one.damaged]


async def test_blobs_that_another_shard_names_stay(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        named = [s.blobs.put("acme", f"blob {n}".encode()) for n in range(3)]
        unnamed = s.blobs.put("acme", b"nobody's")
        for n, name in enumerate(named):
            run = ids.run(n)
            await begin(s.journal, run)
            await decide(s.journal, run, [draft(RunSaid(text=f"see {name} {'.' * 20_000}", principal="a"))])
        assert await s.archive.collect(before=s.clock.now() + HOUR) == 1
        for name in named:
            assert await s.blobs.get("acme", name)
        with pytest.raises(NotFound):
            await s.blobs.get("acme", unnamed)
        for head in await s.journal.heads(HeadQuery()):
            assert await s.archive.verify(head.run) is None, "large bodies lie with their runs, and stay as well"


async def test_what_a_shard_comes_to_name_while_blobs_are_looked_through_stays(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        name = s.blobs.put("acme", b"old")
        other = s.blobs.put("acme", b"older")
        await s.blobs.flush()
        run = ids.run(1)
        await begin(s.journal, run)
        theirs, _ = await s.stores[1].archive.names()
        assert (("acme", name)) not in theirs
        asked = 0
        cursor = ""

        async def elsewhere() -> set[tuple[str, str]]:
            nonlocal asked, cursor
            asked += 1
            names, cursor = await s.stores[1].archive.names(cursor)
            if asked == 1:  # named after the first look, before the last
                await decide(s.journal, run, [draft(RunSaid(text=f"see {name}", principal="a"))])
            return names

        assert await s.stores[0].archive.collect_unless(elsewhere, before=s.clock.now() + HOUR) == 1
        assert asked == 2
        assert await s.blobs.get("acme", name) == b"old"
        with pytest.raises(NotFound):
            await s.blobs.get("acme", other)


async def test_nothing_is_collected_while_a_shard_cannot_say_what_it_names(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        name = s.blobs.put("acme", b"x")
        await s.blobs.flush()
        s.lines[2].is_cut = True
        with pytest.raises(StoreUnavailable, match="shard 2"):
            await s.archive.collect(before=s.clock.now() + HOUR)
        assert await s.blobs.get("acme", name) == b"x"


async def test_shards_that_are_there_are_signed_while_one_is_away(tmp_path: Path) -> None:
    async with sharded(tmp_path) as s:
        runs = await filled(s)
        for run in runs:
            await s.journal.append(run, [noted("later")]).durable()
        s.lines[1].is_cut = True
        with pytest.raises(StoreUnavailable, match="shard 1"):
            await s.archive.checkpoint(at=NOW)
        newest = [(await s.stores[n].archive.covered("acme")).newest for n in range(3)]
        assert [one.number for one in newest if one is not None] == [2, 1, 2]
