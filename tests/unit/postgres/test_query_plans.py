"""Every statement of the PostgreSQL store finds what it looks for by an index, in a store that has grown."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import ClientCursor

from collegium.adapters.head_walks import walks_of
from collegium.adapters.postgres import archive, blobs, checkpoints, journal, presence, records
from collegium.adapters.postgres.connection import SETTINGS
from collegium.adapters.postgres.journal import heads_statement
from collegium.adapters.postgres.journal_part import STATEMENTS
from collegium.adapters.postgres.store import open_store
from collegium.adapters.postgres.wire import BOOL, BYTES, INT4, INT8, TEXT, Kind, Statement
from collegium.domain.head import HeadQuery
from collegium.domain.record import Condition
from collegium.testing.servers import Server

HEADS = 50_000
NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
_FILL = f"""
CREATE TEMP TABLE made AS
SELECT n, 'run_' || lpad(to_hex(begun + n::bigint * 80000), 12, '0') || '7000800000000000000000' AS run,
       'tenant_' || n % 20 AS tenant
FROM generate_series(1, {HEADS}) AS n,
     (SELECT (extract(epoch FROM date_trunc('month', now())) * 1000)::bigint) AS month (begun);
INSERT INTO heads (run, tenant, status, seq, mac, deciding_seq, wake_at, pos, project)
SELECT run, tenant, (ARRAY['succeeded', 'succeeded', 'failed', 'running', 'waiting'])[n % 5 + 1], 4,
       sha256(run::bytea), 4, CASE WHEN n % 5 > 2 THEN {NOW_US} + n * 1000000::bigint END, n,
       (ARRAY['', 'alpha', 'beta', 'gamma'])[n / 20 % 4 + 1] FROM made;
INSERT INTO events (pos, run, seq, id, tenant, type, v, at, body, salt, digest, mac)
SELECT n, run, seq, 'evt_' || n || seq, tenant, 'run.said', 1, {NOW_US}, 'x', 'x', 'x', sha256(run::bytea)
FROM made, generate_series(1, 4) AS seq;
INSERT INTO fences SELECT run, 't' || task, 1, 'wrk_' || n % 30, n % 5 > 2 FROM made, generate_series(1, 2) AS task;
INSERT INTO blobs SELECT tenant, encode(sha256(run::bytea), 'hex'), 'x', 0, n FROM made;
INSERT INTO records SELECT 'kind_' || n % 3, tenant, 'key_' || n, 1, '{{}}', jsonb_build_object('n', n), 0 FROM made;
INSERT INTO tombstones SELECT run, tenant, '' FROM made WHERE n % 5 = 1;
INSERT INTO checkpoints (tenant, number, value, entries, until)
SELECT 'tenant_' || n % 20, n / 20, '', '', n FROM generate_series(1, 20000) AS n;
INSERT INTO workers SELECT 'wrk_' || n, 1, false FROM generate_series(1, 30) AS n;
"""


@pytest.fixture(scope="module")
def url(postgres: Server) -> Iterator[str]:
    """A store of 50,000 runs in several months."""
    import asyncio

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_plans")
    there = urlsplit(postgres.url)._replace(path="/test_plans").geturl()

    async def make() -> None:
        await (await open_store(there)).aclose()

    asyncio.run(make())
    with psycopg.connect(there, autocommit=True) as connection:
        connection.execute(_FILL)
        connection.execute("ANALYZE")
    yield there
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE test_plans WITH (FORCE)")


@pytest.fixture(scope="module")
def run(url: str) -> str:
    """One of the runs."""
    with psycopg.connect(url) as connection:
        ((one,),) = connection.execute("SELECT run FROM heads ORDER BY run OFFSET 20000 LIMIT 1").fetchall()
    return str(one)


def set_up(connection: psycopg.Connection[Any]) -> None:
    """Settings as every connection of the store has them."""
    connection.execute(f"SET enable_seqscan = {SETTINGS['enable_seqscan']}".encode())


def plans(url: str, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """The plan for these values, and the one that is kept for all of them."""
    numbers = iter(range(1, len(values) + 1))
    prepared = re.sub(r"%[sb]", lambda _: f"${next(numbers)}", query)
    found = []
    with psycopg.connect(url, autocommit=True, cursor_factory=ClientCursor) as connection:
        set_up(connection)
        connection.execute(f"PREPARE it AS {prepared}".encode())
        holes = f"({', '.join(['%s'] * len(values))})" if values else ""
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}")
            row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE it{holes}".encode(), values).fetchone()
            assert row is not None
            found.append(row[0][0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@cache
def small(url: str) -> frozenset[str]:
    """Tables that hold little: the last of the months ahead, workers."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples < 1000").fetchall()
    return frozenset(name for (name,) in rows)


def assert_indexed(url: str, found: list[dict[str, Any]], *, is_sorted: bool = True) -> None:
    """No large table is read from end to end, and nothing large is sorted."""
    for plan in found:
        for node in nodes(plan):
            is_whole = node["Node Type"] == "Seq Scan" and node.get("Relation Name") not in small(url)
            assert not is_whole, json.dumps(plan, indent=1)
            assert is_sorted or node["Node Type"] != "Sort", json.dumps(plan, indent=1)


def parts_touched(plan: dict[str, Any]) -> int:
    names = {n.get("Relation Name", "") for n in nodes(plan) if n["Node Type"] != "ModifyTable"}
    return len([name for name in names if name.startswith("events")])


ALL_QUERIES = {
    "newest": HeadQuery(),
    "next page": HeadQuery(after="RUN"),
    "tenant": HeadQuery(tenant="tenant_3"),
    "tenant, next page": HeadQuery(tenant="tenant_3", after="RUN"),
    "status": HeadQuery(statuses=frozenset({"waiting"})),
    "tenant, statuses": HeadQuery(tenant="tenant_3", statuses=frozenset({"waiting", "running", "failed"})),
    "project": HeadQuery(tenant="tenant_3", projects=frozenset({"alpha"})),
    "projects, next page": HeadQuery(tenant="tenant_3", projects=frozenset({"alpha", "beta"}), after="RUN"),
    "project, statuses": HeadQuery(
        tenant="tenant_3", projects=frozenset({"alpha"}), statuses=frozenset({"waiting", "failed"})
    ),
    "many projects": HeadQuery(tenant="tenant_3", projects=frozenset(map(str, range(501)))),
    "due": HeadQuery(due_before=NOW),
    "due, next page": HeadQuery(due_before=NOW, after="RUN"),
    "due, of a status": HeadQuery(due_before=NOW, statuses=frozenset({"waiting"})),
    "due, of a tenant": HeadQuery(due_before=NOW, tenant="tenant_3"),
    "worker": HeadQuery(worker="wrk_3"),
    "worker of a tenant": HeadQuery(worker="wrk_3", tenant="tenant_3", statuses=frozenset({"running"})),
}


@pytest.mark.parametrize("name", ALL_QUERIES)
def test_listings_of_heads(url: str, run: str, name: str):
    import msgspec

    query = ALL_QUERIES[name]
    if query.after:
        query = msgspec.structs.replace(query, after=run)
    sql, values = heads_statement(query, NOW_US - 1 if query.due_before and query.after else None)
    # A worker has few runs open, and a merge of a page per walk is short: these may be sorted, as may what is picked.
    walks = walks_of(query, most=500)
    found = plans(url, sql, values)
    is_picked = query.projects is not None and not walks.projects
    assert_indexed(url, found, is_sorted=query.worker is not None or bool(walks.places) or is_picked)
    if walks.projects:
        wanted = "heads_project_status" if walks.statuses else "heads_project"
        for plan in found:
            used = [node["Index Name"] for node in nodes(plan) if "Index Name" in node]
            assert used == [wanted], json.dumps(plan, indent=1)


ONE_RUN = {
    "read": (journal.READ, (0, 1_000)),
    "links": (archive.LINKS, (0, 1_000)),
    "prune": (archive.DROP_EVENTS, (0,)),
    "prune bodies": (archive.DROP_BODIES, (0,)),
}


@pytest.mark.parametrize("name", ONE_RUN)
def test_what_is_about_one_run_touches_one_month(url: str, run: str, name: str):
    query, values = ONE_RUN[name]
    found = plans(url, query, (run, *values))
    assert_indexed(url, found)
    with psycopg.connect(url) as connection:
        ((months,),) = connection.execute("SELECT count(*) FROM pg_partition_tree('events') WHERE isleaf").fetchall()
    assert months >= 5
    assert [parts_touched(plan) for plan in found] == [1, 1]


SOME = {
    "head": (journal.HEAD, ("RUN",)),
    "scan": (journal.SCAN, (25_000, "RUN", 2, 1_000)),
    "scan from the start": (journal.SCAN, (0, "", 0, 1_000)),
    "blob": (blobs.GET, ("tenant_3", "ab" * 32)),
    "blob's end": (blobs.DELETE, ("tenant_3", "ab" * 32)),
    "old blobs": (archive._OLD, (100,)),
    "record": (records.GET, ("kind_1", "tenant_3", "key_3")),
    "record's end": (records._DELETE, ("kind_1", "tenant_3", "key_3")),
    "record put": (records._PUT, ("kind_1", "tenant_3", "key_3", b"{}", "{}", 0)),
    "record put over": (records._PUT_OVER, (b"{}", "{}", 0, "kind_1", "tenant_3", "key_3", 1)),
    "records found": (
        records.find_statement([Condition(field="n", op="=", value=3)])[0],
        ("kind_1", "tenant_3", "key_1", 3, 100),
    ),
    "names in events": (archive.NAMING, (25_000, "RUN", 2, 1_000)),
    "names in records": (archive.OTHERS, ("kind_1", "tenant_3", "key_3", 1_000)),
    "tombstone": (archive.TOMBSTONE, ("RUN",)),
    "tombstones": (archive.TOMBSTONES, ("tenant_3", "RUN", 100)),
    "checkpoint due": (checkpoints.HAS_NEW, (HEADS + 1,)),
    "last checkpoint": (checkpoints.LAST, ()),
    "newest checkpoint": (checkpoints.NEWEST, ("tenant_3",)),
    "checkpoints": (checkpoints.SOME, ("tenant_3", 900, 100)),
    "changed": (checkpoints.CHANGED, (HEADS - 10,)),
    "seen": (checkpoints.SEEN, (HEADS - 10,)),
    "macs": (checkpoints.MACS, (["RUN"], [4])),
    "beat": (presence.BEAT, (7, ["wrk_3"])),
}


@pytest.mark.parametrize("name", SOME)
def test_what_is_read_and_removed(url: str, run: str, name: str):
    query, values = SOME[name]
    filled = [run if v == "RUN" else [run] if v == ["RUN"] else v for v in values]
    assert_indexed(url, plans(url, query, filled))


VALUES: dict[Kind, str] = {TEXT: "{run_x}", BYTES: '{"\\\\x00"}', INT8: "{1}", INT4: "{1}", BOOL: "{t}"}
TYPES: dict[Kind, str] = {TEXT: "text[]", BYTES: "bytea[]", INT8: "bigint[]", INT4: "int[]", BOOL: "bool[]"}


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if s.takes], ids=lambda s: s.name)
def test_what_the_writer_sends(url: str, statement: Statement):
    types = f"({', '.join(TYPES[kind] for kind in statement.takes)})"
    with psycopg.connect(url, autocommit=True) as connection:
        set_up(connection)
        connection.execute(f"PREPARE it {types} AS {statement.sql}".encode())
        values = ", ".join(f"'{VALUES[kind]}'" for kind in statement.takes)
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}")
            row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE it({values})".encode()).fetchone()
            assert row is not None
            assert_indexed(url, [row[0][0]["Plan"]])


async def test_plans_that_were_made_in_an_empty_store_are_good_ones(postgres_url: str):
    """As for a process that was there from the beginning: nothing was counted yet when its statements were prepared."""
    await (await open_store(postgres_url)).aclose()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        set_up(connection)
        for statement in STATEMENTS:
            if not statement.takes:
                continue
            types = f"({', '.join(TYPES[kind] for kind in statement.takes)})"
            connection.execute(f"PREPARE {statement.name} {types} AS {statement.sql}".encode())
            connection.execute("SET plan_cache_mode = force_generic_plan")
            values = ", ".join(f"'{VALUES[kind]}'" for kind in statement.takes)
            row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {statement.name}({values})".encode()).fetchone()
            assert row is not None
            assert not [n for n in nodes(row[0][0]["Plan"]) if n["Node Type"] == "Seq Scan"], statement.name


def test_a_table_that_is_read_from_end_to_end_would_be_seen(url: str):
    found = plans(url, "SELECT run FROM heads WHERE deciding_seq = %s", (7,))
    with pytest.raises(AssertionError):
        assert_indexed(url, found)
