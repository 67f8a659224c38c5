"""Tables of a PostgreSQL store: made, brought up to date, accepted or refused."""

import asyncio
import hashlib
import os
from urllib.parse import urlsplit

import psycopg
import pytest

from collegium.adapters.postgres import connection as connection_module
from collegium.adapters.postgres import upgrade
from collegium.adapters.postgres.store import open_store
from collegium.adapters.postgres.upgrade import MIGRATIONS, SCHEMA, Migration, migrate
from collegium.adapters.sqlite import upgrade as sqlite
from collegium.cli.entry import run
from collegium.domain.errors import StoreCorrupt, StoreReadOnly
from collegium.domain.head import HeadQuery
from collegium.testing.conformance.drafts import begin, noted

NEXT = Migration(SCHEMA + 1, "notes", "CREATE TABLE notes (text text NOT NULL);")


def sql(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def meta(url: str) -> dict[str, str]:
    return dict(sql(url, "SELECT key, value FROM meta"))


def use_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the code is that of the next version."""
    monkeypatch.setattr(upgrade, "MIGRATIONS", (*MIGRATIONS, NEXT))
    monkeypatch.setattr(upgrade, "SCHEMA", NEXT.number)


async def test_migrations_are_numbered_without_gaps():
    assert [m.number for m in MIGRATIONS] == list(range(1, SCHEMA + 1))


async def test_a_dry_run_changes_nothing_and_says_all(postgres_url: str):
    plan = await migrate(postgres_url, entropy=os.urandom, is_dry=True)
    assert (plan.found, plan.steps) == (0, MIGRATIONS)
    assert sql(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


async def test_a_store_is_made_once_and_keeps_its_id(postgres_url: str):
    stores = await asyncio.gather(*(open_store(postgres_url) for _ in range(4)))
    assert len({store.meta for store in stores}) == 1
    for store in stores:
        await store.aclose()
    assert meta(postgres_url)["schema"] == str(SCHEMA)
    plan = await migrate(postgres_url, entropy=os.urandom)
    assert plan.is_empty


async def test_older_tables_are_refused_unless_the_start_may_change_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    before = await open_store(postgres_url)
    await begin(before.journal, "run_a")
    use_newer(monkeypatch)
    with pytest.raises(StoreCorrupt, match=f"version {SCHEMA} and .* works on {NEXT.number}: run `collegium migrate`"):
        await open_store(postgres_url)
    after = await open_store(postgres_url, may_upgrade=True)
    assert meta(postgres_url)[f"migration_{NEXT.number:04}"] == "notes"
    # The process of the version before goes on beside it.
    await before.journal.append("run_a", [noted("old code")]).durable()
    await after.journal.append("run_a", [noted("new code")]).durable()
    assert len(await before.journal.read("run_a")) == 3
    await before.aclose()
    await after.aclose()


async def test_runs_of_before_there_were_projects_belong_to_none(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as old:
        old.setattr(upgrade, "MIGRATIONS", MIGRATIONS[:1])
        old.setattr(upgrade, "SCHEMA", 1)
        assert (await migrate(postgres_url, entropy=os.urandom)).steps == MIGRATIONS[:1]
    sql(
        postgres_url,
        "INSERT INTO heads (run, tenant, status, seq, mac, deciding_seq, pos) "
        "VALUES ('run_a', 'acme', 'succeeded', 1, 'x', 1, 1)",
    )
    assert (await migrate(postgres_url, entropy=os.urandom)).steps == MIGRATIONS[1:]
    store = await open_store(postgres_url)
    await begin(store.journal, "run_b", project="alpha")
    for projects, runs in (({""}, ["run_a"]), ({"alpha"}, ["run_b"]), ({"", "alpha"}, ["run_b", "run_a"])):
        query = HeadQuery(tenant="acme", projects=frozenset(projects))
        assert [head.run for head in await store.journal.heads(query)] == runs
    await store.aclose()


async def test_migrate_is_all_or_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    await (await open_store(postgres_url)).aclose()
    bad = Migration(NEXT.number + 1, "bad", "CREATE TABLE more (x text); SELECT no_such_thing();")
    monkeypatch.setattr(upgrade, "MIGRATIONS", (*MIGRATIONS, NEXT, bad))
    monkeypatch.setattr(upgrade, "SCHEMA", bad.number)
    with pytest.raises(StoreCorrupt, match="no_such_thing"):
        await migrate(postgres_url, entropy=os.urandom)
    assert meta(postgres_url)["schema"] == str(SCHEMA)
    assert sql(postgres_url, "SELECT to_regclass('notes') IS NULL, to_regclass('more') IS NULL") == [(True, True)]


async def test_many_who_migrate_at_once_apply_each_step_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    use_newer(monkeypatch)
    plans = await asyncio.gather(*(migrate(postgres_url, entropy=os.urandom) for _ in range(4)))
    assert sorted(len(plan.steps) for plan in plans) == [0, 0, 0, NEXT.number]


async def test_newer_tables_are_fine_where_their_maker_says_so(postgres_url: str):
    await (await open_store(postgres_url)).aclose()
    sql(postgres_url, f"UPDATE meta SET value = '{SCHEMA + 3}' WHERE key = 'schema'")
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    await store.aclose()
    sql(postgres_url, f"UPDATE meta SET value = '{SCHEMA + 2}' WHERE key = 'oldest_code'")
    for use in (open_store(postgres_url), migrate(postgres_url, entropy=os.urandom)):
        with pytest.raises(StoreCorrupt, match=f"version {SCHEMA + 3} and .* knows up to {SCHEMA}: upgrade collegium"):
            await use


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ("CREATE TABLE heads (x int)", "somebody else's"),
        ("CREATE TABLE meta (id int, name text)", "somebody else's"),
        ("CREATE TABLE meta (key text, value text)", "no readable meta table"),
    ],
)
async def test_tables_of_somebody_else_are_left_alone(postgres_url: str, tables: str, says: str):
    sql(postgres_url, tables)
    with pytest.raises(StoreCorrupt, match=says):
        await open_store(postgres_url)
    assert sql(postgres_url, "SELECT to_regclass('events')") == [(None,)]


async def test_a_role_that_may_make_no_tables_is_told_who_should(postgres_url: str):
    name = f"nobody_{urlsplit(postgres_url).path[1:]}"
    sql(postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    sql(postgres_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    parts = urlsplit(postgres_url)
    with pytest.raises(StoreReadOnly, match="let their owner run `collegium migrate`"):
        await open_store(parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}").geturl())


async def test_a_dump_in_another_server_goes_on_behind_its_last_event(postgres_url: str):
    """Its places come from a server that has seen more transactions: else nothing new would be found until then."""
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a", notes=3)
    await store.archive.checkpoint(at=(await store.journal.read("run_a"))[0].at)
    _, cursor = await store.journal.scan()
    await store.aclose()
    sql(postgres_url, "UPDATE events SET pos = pos + 1000000; UPDATE heads SET pos = pos + 1000000")
    pos, rest = cursor.split(":", 1)
    cursor = f"{int(pos) + 1_000_000}:{rest}"
    with pytest.raises(StoreCorrupt, match=r"restored into another server.*run `collegium migrate`"):
        await open_store(postgres_url)
    assert (await migrate(postgres_url, entropy=os.urandom, is_dry=True)).rebase > 900_000
    assert (await migrate(postgres_url, entropy=os.urandom)).rebase > 900_000
    assert (await migrate(postgres_url, entropy=os.urandom)).is_empty
    store = await open_store(postgres_url)
    assert await store.journal.scan(cursor) == ((), cursor)
    (event,) = await store.journal.append("run_a", [noted("new")]).durable()
    assert (await store.journal.scan(cursor))[0] == (event,)
    assert await store.archive.checkpoint(at=event.at)
    await store.aclose()


def test_the_command_says_what_it_does(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLLEGIUM_STORE", postgres_url)
    assert run(["migrate", "--dry-run"]) == 0
    assert "would apply 0001 store" in capsys.readouterr().out
    assert run(["migrate"]) == 0
    assert "applied 0001 store" in capsys.readouterr().out
    assert run(["migrate"]) == 0
    out = capsys.readouterr().out
    assert f"up to date, version {SCHEMA}" in out
    assert "collegium:collegium" not in out, "a password was printed"
    assert run(["migrate", "--json", "--dry-run"]) == 0
    assert '"steps":[]' in capsys.readouterr().out.replace(" ", "")


def test_the_command_knows_sqlite(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLLEGIUM_STORE", f"sqlite:///{tmp_path}/store.db")
    assert run(["migrate", "--dry-run"]) == 0
    assert "a new store" in capsys.readouterr().out
    assert not (tmp_path / "store.db").exists()
    assert run(["migrate"]) == 0
    assert run(["migrate"]) == 0
    assert f"up to date, version {sqlite.SCHEMA}" in capsys.readouterr().out


async def test_a_slow_machine_makes_its_tables_all_the_same(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two statements it may take longer than a transaction that has locked a run may stand still."""
    monkeypatch.setitem(connection_module.SETTINGS, "idle_in_transaction_session_timeout", "100ms")

    def slow(count: int) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", b"slow", b"", 600_000, count)

    store = await open_store(postgres_url, entropy=slow)
    await store.aclose()
