"""Fuzzes a real server over a temporary store, and prints what came of it: ``make fuzz``."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from collegium.adapters.clock import SystemClock
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.app import DEFAULT_TENANT
from collegium.server.graphql.reference import text
from tests.api_fuzz.fuzzing import command, read, settings
from tests.api_fuzz.seeding import Seeds, leave_dead_letters, seed
from tests.e2e.serving import Place

SCHEMAS = ("/openapi.json", "/graphql")
MANY = "100000000"
RATES = {
    f"COLLEGIUM_RATES__{name}": MANY
    for name in ("KEY_PER_MINUTE", "TENANT_PER_MINUTE", "REFUSALS_PER_MINUTE", "CONCURRENT")
}


def main() -> int:
    """0 where no check failed."""
    wanted = argparse.ArgumentParser(prog="python -m tests.api_fuzz")
    wanted.add_argument("--examples", type=int, default=20, help="Cases for each operation.")
    wanted.add_argument("--seed", type=int, default=1)
    wanted.add_argument("--schema", choices=SCHEMAS, action="append", help="One of them alone.")
    wanted.add_argument("--phases", help="Of the OpenAPI document.", default="examples,coverage,fuzzing,stateful")
    given = wanted.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), {"reply": "Said."})
        try:
            return _fuzz(place, given)
        finally:
            place.close()


def _fuzz(place: Place, given: argparse.Namespace) -> int:
    made = place.run("keys", "create", "--role", "admin", "--scope", "host", "--name", "fuzz", "--json").stdout
    key = json.loads(made)["key"]
    serve = place.serve("--workers", "1", **RATES)
    serve.until_ready()
    seeds = asyncio.run(_seed(place, serve.url, key))
    print(f"to be found: {seeds.shown()}")
    config = place.folder / "fuzzer.toml"
    config.write_text(settings(seeds.ids))
    more = (f"--max-examples={given.examples}", f"--seed={given.seed}")
    codes, told, faults = [0], [], 0
    sdl = place.folder / "schema.graphql"
    sdl.write_text(text())  # with a key there is no introspection
    for schema in given.schema or SCHEMAS:
        report = place.folder / f"report{schema.replace('/', '-')}.ndjson"
        where, phases = (str(sdl), "coverage,fuzzing") if schema == "/graphql" else (schema, given.phases)
        wanted = command(serve.url, key, report, *more, f"--phases={phases}", schema=where, config=config)
        codes.append(subprocess.run(wanted, cwd=place.folder, check=False).returncode)
        found = read(report.read_text().splitlines())
        faults += bool(found.server_errors)
        told.append(
            f"{schema}: {found.requests:,} requests, {found.server_errors} server errors, "
            f"{found.failures.total()} failed checks {dict(found.failures)}, by status {dict(found.statuses)}"
        )
    print("\n".join(told))
    return max(*codes, faults)


async def _seed(place: Place, url: str, key: str) -> Seeds:
    bus = SqliteBus(place.data / "bus.db", SystemClock())
    try:
        await leave_dead_letters(bus, DEFAULT_TENANT)
    finally:
        await bus.aclose()
    asks = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=asks, timeout=30, trust_env=False) as http:
        return await seed(http)


if __name__ == "__main__":
    sys.exit(main())
