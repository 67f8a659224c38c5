"""Roles that may do what they have to: no tables made or dropped, no other tenant's rows for who is bound to one."""

from collections.abc import Callable
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from collegium.adapters.postgres.presence import PostgresPresence
from collegium.adapters.postgres.store import open_store
from collegium.domain.body import RunSaid
from collegium.domain.errors import NotFound, StoreReadOnly
from collegium.domain.head import Fence, HeadQuery
from collegium.domain.record import Record
from collegium.testing.conformance.archive import a_finished_run, tombstone_of
from collegium.testing.conformance.drafts import NOW, begin, decide, draft, ready, running, submitted
from collegium.wiring.migrate import roles_script

Login = Callable[..., str]


def sql(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
async def login(postgres_url: str) -> Login:
    """Logs in as a member of a role, in a store with runs of two tenants."""
    store = await open_store(postgres_url)
    for tenant in ("acme", "eve"):
        await begin(store.journal, f"run_{tenant}", tenant=tenant)
        await store.journal.append(
            f"run_{tenant}", [draft(ready("t", 1).body, task="t", attempt=1, tenant=tenant)], head=running()
        ).durable()
        store.blobs.put(tenant, b"secret")
        await store.records.put(Record(kind="k", tenant=tenant, key="a", value={"of": tenant}))
    await store.archive.checkpoint(at=NOW)
    await store.aclose()
    for _ in range(2):
        sql(postgres_url, roles_script())
    parts = urlsplit(postgres_url)

    def make(role: str, tenant: str = "") -> str:
        name = f"{role}_{parts.path[1:]}_{tenant}"
        sql(postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE {role}")
        options = f"?options={quote(f'-c collegium.tenant={tenant}')}" if tenant else ""
        return parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}").geturl() + options

    return make


async def test_the_app_role_does_all_the_work_of_all_tenants(login: Login):
    url = login("collegium_app")
    store = await open_store(url)
    assert {h.tenant for h in await store.journal.heads(HeadQuery())} == {"acme", "eve"}
    await a_finished_run(store.journal, "run_c", note="y" * 20_000)
    assert await store.archive.checkpoint(at=NOW)
    await store.archive.prune(await tombstone_of(store.journal, "run_c", "run"))
    name = store.blobs.put("acme", b"x")
    await store.blobs.flush()
    assert await store.archive.collect(before=NOW.replace(year=2100)) > 0
    with pytest.raises(NotFound):
        await store.blobs.get("acme", name)
    assert (await store.records.put(Record(kind="k", tenant="acme", key="a", value={}))).version == 2
    assert await store.records.delete("k", "acme", "a")
    presence = PostgresPresence(url)
    await presence.announce("wrk_1")
    assert await presence.dead() == ()
    await presence.withdraw("wrk_1")
    await store.aclose()
    assert sql(url, "SELECT collegium_make_partitions(3)") == [(1,)], "by the owner's rights"


async def test_working_for_all_tenants_costs_nothing(login: Login, postgres_url: str):
    """The policy that is always true is no condition any more when the statement is planned."""
    query = "SELECT * FROM events e, fences f WHERE e.run = f.run AND e.run = 'run_acme' AND e.seq > 0"
    query = f"EXPLAIN (COSTS off) {query}"
    assert sql(login("collegium_app"), query) == sql(postgres_url, query)
    assert "current_setting" in str(sql(login("collegium_tenant", "acme"), query))


FORBIDDEN = [
    "DROP TABLE events",
    "DROP TABLE heads CASCADE",
    "TRUNCATE heads",
    "ALTER TABLE heads DISABLE ROW LEVEL SECURITY",
    "DROP POLICY one_tenant ON heads",
    "CREATE TABLE mine (x int)",
    "CREATE ROLE friend SUPERUSER",
    "UPDATE meta SET value = '9'",
    "SELECT count(*) FROM events_rest",
    "CREATE OR REPLACE FUNCTION collegium_pos() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
]


@pytest.mark.parametrize("role", ["collegium_app", "collegium_reader", "collegium_tenant"])
async def test_no_role_changes_what_the_owner_has_made(login: Login, role: str):
    url = login(role)
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql(url, statement)


async def test_the_readers_role_reads_everything_and_writes_nothing(login: Login):
    store = await open_store(login("collegium_reader"))
    assert {h.tenant for h in await store.journal.heads(HeadQuery())} == {"acme", "eve"}
    assert len(await store.journal.read("run_eve")) == 2
    with pytest.raises(StoreReadOnly):
        await begin(store.journal, "run_x")
    with pytest.raises(StoreReadOnly):
        await store.records.put(Record(kind="k", tenant="acme", key="a", value={}))
    await store.aclose()


async def test_who_is_bound_to_a_tenant_sees_and_changes_no_other(login: Login):
    store = await open_store(login("collegium_tenant", "acme"))
    journal = store.journal
    assert {h.tenant for h in await journal.heads(HeadQuery())} == {"acme"}
    assert await journal.head("run_eve") is None
    assert await journal.read("run_eve") == ()
    assert {e.tenant for e in (await journal.scan())[0]} == {"acme"}
    assert await store.records.get("k", "eve", "a") is None
    assert await store.records.find("k", "eve") == ()
    assert not await store.records.delete("k", "eve", "a")
    with pytest.raises(NotFound):
        await journal.append(
            "run_eve", [draft(RunSaid(text="x", principal="a"), tenant="eve")], head=running()
        ).durable()
    for attempt in (
        begin(journal, "run_new", tenant="eve"),
        store.records.put(Record(kind="k", tenant="eve", key="b", value={})),
    ):
        with pytest.raises(StoreReadOnly, match="row-level security"):
            await attempt
    store.blobs.put("eve", b"new")
    with pytest.raises(StoreReadOnly):
        await store.blobs.flush()
    # Its own it works on like anybody.
    await begin(journal, "run_mine")
    await decide(journal, "run_acme", [ready("u", 1)], fence=Fence(task="t", attempt=1))
    assert (await store.records.put(Record(kind="k", tenant="acme", key="a", value={}))).version == 2
    assert len(await store.archive.checkpoints("acme")) == 1
    assert await store.archive.checkpoints("eve") == ()
    await store.aclose()


async def test_no_table_shows_another_tenants_rows(login: Login, postgres_url: str):
    sql(postgres_url, "INSERT INTO tombstones VALUES ('run_x', 'acme', ''), ('run_y', 'eve', '')")
    bound, unbound = login("collegium_tenant", "acme"), login("collegium_tenant")
    # Fences before their heads, by which they are seen.
    for table in ("events", "fences", "heads", "blobs", "records", "tombstones", "checkpoints"):
        ((everything,),) = sql(postgres_url, f"SELECT count(*) FROM {table}")
        assert everything >= 2
        assert sql(bound, f"SELECT count(*) FROM {table}") == [(everything // 2,)]
        assert sql(unbound, f"SELECT count(*) FROM {table}") == [(0,)]
        with psycopg.connect(bound, autocommit=True) as connection:
            assert connection.execute(f"DELETE FROM {table}").rowcount == everything // 2
        assert sql(postgres_url, f"SELECT count(*) FROM {table}") == [(everything // 2,)]


async def test_nobody_gets_the_owners_rights_by_a_table_of_his_own(login: Login, postgres_url: str):
    """The one function that runs with them looks where the owner's tables are, not in its caller's way."""
    url = login("collegium_app")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE events_rest (run text, secret text)")
        connection.execute("CREATE TEMP TABLE events (run text)")
        connection.execute("SELECT collegium_make_partitions(4)")
    parts = sql(postgres_url, "SELECT count(*) FROM pg_partition_tree('public.events') WHERE isleaf")
    assert parts == [(7,)]


def test_the_command_prints_the_roles(capsys: pytest.CaptureFixture[str]):
    from collegium.cli.entry import run

    assert run(["migrate", "--roles"]) == 0
    assert capsys.readouterr().out == roles_script()


async def test_a_new_run_is_written_by_a_bound_role_as_by_any(login: Login):
    store = await open_store(login("collegium_tenant", "eve"))
    stored = await store.journal.append("run_e", [submitted("eve")], expected=0, head=running()).durable()
    assert await store.journal.read("run_e") == stored
    await store.aclose()
