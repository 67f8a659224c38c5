"""Hot statements walk an index; none reads a whole table or sorts one."""

import itertools
import sqlite3
from datetime import UTC, datetime

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.head_walks import walks_of
from collegium.adapters.sqlite import blobs, cache, checkpoints, journal, journal_part, records
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.adapters.sqlite.journal import heads_statement
from collegium.adapters.sqlite.store import open_store
from collegium.domain.head import HeadQuery
from collegium.domain.record import Condition

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * statement.count("?"))]


def whole_reads(steps: list[str], *, in_order: bool = False) -> list[str]:
    """Steps that read a table from end to end; subqueries are walked as they come, pages go down the primary key."""
    bad = [s for s in steps if s.startswith("SCAN") and not s.startswith(("SCAN (subquery", "SCAN CONSTANT"))]
    return [] if in_order and bad == ["SCAN h"] and not any("TEMP B-TREE" in s for s in steps) else bad


@pytest.fixture
def store_file(tmp_path):
    open_store(tmp_path / "store.db").close()
    connection = sqlite3.connect(tmp_path / "store.db")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [journal.READ, journal.SCAN, journal.HEAD, journal_part.HEAD, journal_part.FENCE, blobs.GET, blobs.DELETE,
     records.GET, records.DELETE, records.find_statement([Condition(field="a", op="in", value=[1, "x"])])[0]],
)  # fmt: skip
def test_the_stores_statements(store_file, statement):
    steps = plan(store_file, statement)
    assert not whole_reads(steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("statement", [checkpoints.CHANGED, checkpoints.NEWEST, checkpoints.SOME])
def test_what_is_signed_is_found_by_what_is_new(store_file, statement):
    steps = plan(store_file, statement)
    assert not whole_reads(steps), steps
    assert not any("FOR ORDER BY" in step for step in steps), steps


def test_whether_anything_is_to_be_signed_takes_two_steps_down_a_tree(store_file):
    codes = [plan(store_file, s) for s in (checkpoints.LAST_POS, checkpoints.LAST)]
    assert codes == [["SEARCH events"], ["SCAN checkpoints"]]  # the first row of a walk from the end


@pytest.mark.parametrize(
    ("tenant", "statuses", "projects", "worker", "due", "after"),
    list(
        itertools.product(
            [None, "acme"],
            [None, {"waiting"}, {"queued", "running"}],
            [None, {"alpha", "beta"}, {"", "alpha"}],
            [None, "w"],
            [None, DUE],
            [None, "run_a"],
        )
    ),
)
def test_every_listing_of_heads(store_file, tenant, statuses, projects, worker, due, after):
    query = HeadQuery(
        tenant=tenant,
        statuses=None if statuses is None else frozenset(statuses),
        projects=None if projects is None else frozenset(projects),
        worker=worker,
        due_before=due,
        after=after,
    )
    walks = walks_of(query, most=journal.MOST_WALKS)
    statement, values = heads_statement(query, 1)
    assert statement.count("?") == len(values)
    steps = plan(store_file, statement)
    assert not whole_reads(steps, in_order=True), steps
    if due is not None and worker is None:
        assert any("heads_due" in step for step in steps), steps
    if worker is None:
        merged = len(walks.places)  # the few best of each walk are sorted
        assert sum("TEMP B-TREE" in step for step in steps) <= merged, steps
    if walks.projects:
        used = (
            "INDEX heads_project_status (tenant=? AND project=? AND status=?"
            if statuses
            else ("INDEX heads_project (tenant=? AND project=?")
        )
        assert sum(used in step for step in steps) == len(walks.places), steps


@pytest.mark.parametrize("statement", [cache.GET, cache.DROP, cache.EXPIRE])
async def test_the_caches_statements(tmp_path, statement):
    await SqliteCache(tmp_path / "cache.db", SystemClock()).aclose()
    connection = sqlite3.connect(tmp_path / "cache.db")
    assert not whole_reads(plan(connection, statement))
    connection.close()
