"""What goes wrong with a PostgreSQL store, said so that somebody can act on it."""

import asyncio
from urllib.parse import urlsplit

import psycopg
import pytest

from collegium.adapters.postgres import connection
from collegium.adapters.postgres.connection import check_server, conninfo_of, is_lost, is_retryable, place_of
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.postgres.store import open_store
from collegium.domain.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable, UsageError
from collegium.domain.event import Draft
from collegium.domain.head import Fence
from collegium.domain.record import Condition, Record
from collegium.testing.conformance.drafts import begin, decide, draft, noted, ready, running, started, submitted


def sql(url: str, query: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(query)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "/no_such_database"}, r"is not there \(.*no_such_database.*make the database first"),
        ({"user": "collegium:wrong"}, r"does not let this user in \(.*check user and password"),
        ({"user": "nobody:wrong"}, r"does not let this user in \("),
        ({"port": 1}, r"cannot be used now \(.*refused"),
    ],
)
async def test_a_store_that_cannot_be_opened_says_why_without_the_password(
    postgres_url: str, change: dict[str, str], says: str
):
    parts = urlsplit(postgres_url)
    user, port = change.get("user", "collegium:collegium"), change.get("port", parts.port)
    url = parts._replace(netloc=f"{user}@127.0.0.1:{port}", path=change.get("path", parts.path)).geturl()
    with pytest.raises(StoreUnavailable, match=says) as caught:
        await open_store(url, patience_s=0.0)
    assert "wrong" not in str(caught.value)
    assert "collegium:collegium" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://[", "postgresql://h/db?nonsense=1", "postgresql://h:port/db"])
def test_a_url_that_is_none_is_wrong_use(url: str):
    with pytest.raises(UsageError, match="has to be postgresql://"):
        place_of(url)


def test_a_place_has_no_password():
    assert place_of("postgresql://me:secret@host:7/db?sslmode=require") == "postgresql://host:7/db"
    assert place_of("postgres://me:secret@host") == "postgresql://host:5432/me"


def test_a_url_cannot_take_back_what_durability_stands_on():
    made = conninfo_of("postgresql://h/db?options=-c%20synchronous_commit%3Doff%20-c%20search_path%3Dmine")
    assert made.rindex("synchronous_commit=on") > made.index("synchronous_commit=off")
    assert "search_path=mine" in made


def test_an_old_server_and_a_pooler_that_drops_settings_are_refused():
    check_server(140_000, "UTC", "postgresql://h/db")
    with pytest.raises(StoreUnavailable, match="is PostgreSQL 13; collegium needs 14 or newer"):
        check_server(130_011, "UTC", "postgresql://h/db")
    with pytest.raises(StoreUnavailable, match="drops the settings of a connection"):
        check_server(160_000, "Europe/Berlin", "postgresql://h/db")


async def test_a_pooler_that_drops_settings_is_found_at_the_start(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    """What PgBouncer does with ``ignore_startup_parameters = options``."""
    sql(postgres_url, f"ALTER DATABASE {urlsplit(postgres_url).path[1:]} SET timezone = 'Europe/Berlin'")
    await (await open_store(postgres_url)).aclose()
    monkeypatch.delitem(connection.SETTINGS, "timezone")
    with pytest.raises(StoreUnavailable, match="connect to PostgreSQL itself"):
        await open_store(postgres_url)


async def test_a_pooler_that_refuses_settings_is_named():
    """PgBouncer in its usual configuration says this to whoever connects with ``options``."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            if (await reader.readexactly(size - 4))[:2] == b"\0\3":  # the startup message; before it, questions for TLS
                break
            writer.write(b"N")
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter in options: statement_timeout\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(StoreUnavailable, match="is a pooler that does not pass settings on"):
        await open_store(f"postgresql://me@127.0.0.1:{port}/db")
    listener.close()


@pytest.mark.parametrize(
    ("state", "lost", "again"),
    [
        ("57P01", True, False),  # thrown out
        ("57P03", True, False),  # comes up
        ("08006", True, False),
        ("25P03", True, False),  # stood still in the middle of a transaction
        ("25006", True, False),  # a standby
        ("53300", True, False),  # too many connections
        ("40P01", False, True),  # a deadlock
        ("55P03", False, True),
        ("42501", False, False),
        ("53100", False, False),
    ],
)
def test_what_is_worth_another_try(state: str, lost: bool, again: bool):
    error = psycopg.errors.lookup(state)("x")
    assert (is_lost(error), is_retryable(error)) == (lost, again)


async def test_a_full_disk_fails_what_waits_and_nothing_else(postgres_url: str):
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    sql(
        postgres_url,
        """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON events_rest FOR EACH ROW EXECUTE FUNCTION full_disk();
        """,
    )
    with pytest.raises(StoreFull, match="No space left on device"):
        await store.journal.append("run_a", [noted(1)]).durable()
    assert await store.archive.verify("run_a") is None
    sql(postgres_url, "DROP TRIGGER full_disk ON events_rest")
    (event,) = await store.journal.append("run_a", [noted(2)]).durable()
    assert event.seq == 2
    await store.aclose()


async def test_what_no_store_can_keep_fails_without_its_neighbours(postgres_url: str):
    store = await open_store(postgres_url)
    runs = [f"run_{n}" for n in range(20)]
    for run in runs:
        await begin(store.journal, run)
    sql(postgres_url, "ALTER TABLE events ADD CHECK (run <> 'run_7' OR seq < 2)")
    outcomes = await asyncio.gather(
        *(store.journal.append(run, [noted(run)]).durable() for run in runs), return_exceptions=True
    )
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, StoreError)] == [7]
    for run in runs:
        assert len(await store.journal.read(run)) == (1 if run == "run_7" else 2)
    await store.aclose()


async def test_after_a_failure_an_attempt_stays_in_doubt(postgres_url: str):
    """An effect must never be durable without its cause: what was ordered before fails, and so does what follows."""
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    await decide(store.journal, "run_a", [ready("t", 1)])
    fence = Fence(task="t", attempt=1)
    await decide(store.journal, "run_a", [started("t", 1)], fence=fence)
    sql(postgres_url, "ALTER TABLE events ADD CONSTRAINT small CHECK (length(body) < 3000)")
    bad = store.journal.append("run_a", [noted("x" * 3_500, task="t", attempt=1)], fence=fence)
    late = store.journal.append("run_a", [noted("y", task="t", attempt=1)], fence=fence)
    free = store.journal.append("run_a", [noted("z")])
    outcomes = await asyncio.gather(bad.durable(), late.durable(), free.durable(), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["StoreUnavailable", "Fenced", "tuple"]
    await store.aclose()


async def test_a_statement_that_takes_too_long_is_ended(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.SETTINGS, "statement_timeout", "50ms")
    reader = Reader(postgres_url)
    with pytest.raises(StoreUnavailable, match="took too long for one statement"):
        await reader.rows("SELECT pg_sleep(10)")
    assert await reader.rows("SELECT 1") == [(1,)]
    await reader.aclose()


async def test_a_pool_that_is_busy_says_so(postgres_url: str):
    reader = Reader(postgres_url, size=1, wait_s=0.2)
    held = asyncio.ensure_future(reader.rows("SELECT pg_sleep(1)"))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match=r"busy for 0.2 s: raise \[postgres\] pool"):
        await reader.rows("SELECT 1")
    await held
    await reader.aclose()


async def test_a_role_without_rights_is_told_where_they_are_described(postgres_url: str):
    await (await open_store(postgres_url)).aclose()
    name = f"reader_{urlsplit(postgres_url).path[1:]}"
    sql(postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    parts = urlsplit(postgres_url)
    store = await open_store(parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}").geturl())
    with pytest.raises(StoreReadOnly, match=r"docs/how-to/postgresql\.md"):
        await begin(store.journal, "run_a")
    await store.aclose()


@pytest.mark.parametrize(
    ("run", "drafts"),
    [
        ("run_\0", [submitted()]),
        ("run_a", [submitted("ac\0me")]),
        ("run_a", [submitted(), noted(1, task="t\0", attempt=1)]),
        ("run_a", [submitted(), ready("t", 1), started("t", 1, "wrk_\0")]),
    ],
    ids=["run", "tenant", "task", "worker"],
)
async def test_names_with_a_zero_byte_are_refused_to_whoever_gives_them(
    postgres_url: str, run: str, drafts: list[Draft]
):
    store = await open_store(postgres_url)
    with pytest.raises(ValueError, match="zero byte"):
        store.journal.append(run, drafts, expected=0, head=running())
    with pytest.raises(ValueError, match="zero byte"):
        await store.records.put(Record(kind="k", tenant="acme", key="a\0", value={}))
    with pytest.raises(ValueError, match="zero byte"):
        store.blobs.put("ac\0me", b"x")
    with pytest.raises(ValueError, match="zero byte"):
        await store.records.find("k", "acme", [Condition(field="a", op="=", value="x\0")])
    await begin(store.journal, "run_b")
    await store.journal.append("run_b", [draft(noted("\0 in a body is fine").body)]).durable()
    await store.aclose()
