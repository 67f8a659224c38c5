"""The presence's suite on every adapter."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from collegium.adapters.postgres.presence import PostgresPresence
from collegium.adapters.postgres.store import open_store
from collegium.adapters.presence import FilePresence, MemoryPresence
from collegium.testing.conformance.presence import LEASE_S, PresenceConformance


class TestFilePresence(PresenceConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "workers"

    @contextmanager
    def processes(self, clock):
        yield lambda: FilePresence(self.folder, clock=clock, lease_s=LEASE_S, now_s=clock.monotonic)


class TestMemoryPresence(PresenceConformance):
    @contextmanager
    def processes(self, clock):
        board: dict[str, int] = {}
        yield lambda: MemoryPresence(clock, board=board, lease_s=LEASE_S)


class TestPostgresPresence(PresenceConformance):
    @pytest.fixture(autouse=True)
    async def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)
        await (await open_store(postgres_stores(0))).aclose()

    @contextmanager
    def processes(self, clock):
        made: list[PostgresPresence] = []

        def process() -> PostgresPresence:
            made.append(PostgresPresence(self.url, clock=clock, lease_s=LEASE_S, now_s=clock.monotonic))
            return made[-1]

        yield process
        for one in made:
            one.close()
