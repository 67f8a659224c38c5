"""A short look of the fuzzer at the API; ``make fuzz`` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from collegium.adapters.clock import SystemClock
from collegium.app import DEFAULT_TENANT
from collegium.testing.harness import team
from tests.api_fuzz.fuzzing import command, read, settings
from tests.api_fuzz.seeding import leave_dead_letters, seed
from tests.unit.server.conftest import Serve, serve
from tests.unit.server.test_auth_keys import door
from tests.unit.stores.moved import working

__all__ = ["serve"]
ELSEWHERE = "--exclude-path-regex=(^/v1/privacy/|/export$)"
"""What a team in memory cannot do; ``make fuzz`` asks a whole server."""
WAIT_S = 120.0


async def test_no_answer_is_a_fault_or_another_than_the_document_says(serve: Serve, tmp_path: Path) -> None:
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        key = await keeper.keys.create(tenant=DEFAULT_TENANT, roles=["admin"], scopes=["host"], created_by="test")
        served = await serve(app, authenticator=keeper)
        await leave_dead_letters(app.stores.bus, DEFAULT_TENANT)
        served.http.headers["authorization"] = f"Bearer {key.text}"
        config = tmp_path / "fuzzer.toml"
        config.write_text(settings((await seed(served.http)).ids))
        report = tmp_path / "report.ndjson"
        more = ("--max-examples=1", "--seed=1", "--phases=examples,fuzzing", ELSEWHERE)
        wanted = command(served.url, key.text, report, *more, config=config)
        process = await asyncio.create_subprocess_exec(
            *wanted, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(WAIT_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        found = read(report.read_text().splitlines())
        assert (process.returncode, found.server_errors) == (0, 0), said.decode()[-5_000:]
        assert found.requests > 60
