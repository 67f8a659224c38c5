"""What every test gets: no provider key, no setting of this machine, a data folder of its own."""

import asyncio
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from collegium.testing.servers import MissingServer, Server, postgres_server, redis_server

settings.register_profile("collegium", deadline=None, print_blob=True)
settings.load_profile("collegium")

PROVIDER_VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_BASE_URL",
    "GEMINI_BASE_URL",
    "OPENAI_COMPATIBLE_API_KEY",
    "DATABASE_URL",
    "REDIS_URL",
)

TOGETHER = (
    "tests/architecture/test_wheel.py",
    "tests/conformance/test_models_local.py",
    "tests/unit/postgres/test_query_plans.py",
)
"""What their tests share takes long to make: each file is run by one worker, all the rest test by test."""

if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()  # until all tests are collected: nothing of them is garbage


def pytest_collection_finish() -> None:
    """Leaves what was imported and collected out of every collection of garbage from here on."""
    gc.enable()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Hands out the files of ``TOGETHER`` as a whole, where ``--dist loadgroup`` is asked for.

    The marker ``xdist_group`` does not do: pytest-xdist 3.8 puts the group into a field of the test that pytest 9.2
    reads no more.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return Scheduler(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Removes keys and ``COLLEGIUM_*`` and points the data folder to the test's own."""
    for name in list(os.environ):
        if name in PROVIDER_VARIABLES or name.endswith("_API_KEY_FILE") or name.startswith("COLLEGIUM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLLEGIUM_DATA_DIR", str(tmp_path / "collegium-data"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The PostgreSQL server of this test process; who stops or crashes one starts one of its own."""
    try:
        with postgres_server() as server:
            yield server
    except MissingServer as error:
        _miss(error)


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    """The Redis server of this test process; who stops, crashes or flushes one starts one of its own."""
    try:
        with redis_server() as server:
            yield server
    except MissingServer as error:
        _miss(error)


_databases = itertools.count(1)
TABLES = ("events", "heads", "fences", "blobs", "records", "tombstones", "checkpoints", "workers")


@pytest.fixture
def postgres_database(postgres: Server) -> Iterator[Callable[[], str]]:
    """Makes an empty database of this test's own, gone after it, and gives its URL."""
    import psycopg

    made: list[str] = []

    def make() -> str:
        made.append(f"test_{next(_databases)}")
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {made[-1]}")
        return urlsplit(postgres.url)._replace(path=f"/{made[-1]}").geturl()

    yield make
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of an empty database of this test's own."""
    return postgres_database()


@pytest.fixture(scope="session")
def _kept_stores(postgres: Server) -> dict[int, str]:
    """URLs of the databases whose tables are kept from test to test."""
    return {}


@pytest.fixture
def postgres_stores(postgres: Server, _kept_stores: dict[int, str]) -> Callable[[int], str]:
    """Gives the URL of store 0, 1 ...: its tables are there and empty. Much quicker than a database of one's own."""
    import psycopg

    from collegium.adapters.postgres.store import open_store

    def emptied(number: int) -> str:
        if number not in _kept_stores:
            name = f"kept_{number}"
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            _kept_stores[number] = urlsplit(postgres.url)._replace(path=f"/{name}").geturl()

            async def make() -> None:
                await (await open_store(_kept_stores[number])).aclose()

            with ThreadPoolExecutor(1) as beside:  # a test's own event loop may be running
                beside.submit(asyncio.run, make()).result()
        with psycopg.connect(_kept_stores[number], autocommit=True) as connection:
            connection.execute(";".join(f"DELETE FROM {table}" for table in TABLES))
        return _kept_stores[number]

    return emptied


def _miss(error: MissingServer) -> None:
    """A missing server is a skip on a laptop and a failure where everything has to be tried."""
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))
