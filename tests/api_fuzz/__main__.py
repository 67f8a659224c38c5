"""Fuzzes a real server over a temporary store, and prints what came of it: ``make fuzz``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.api_fuzz.fuzzing import command, read
from tests.e2e.serving import Place

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
    wanted.add_argument("--schema", default="/openapi.json", help="/graphql for the other one.")
    wanted.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
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
    with httpx.Client(base_url=serve.url, headers={"authorization": f"Bearer {key}"}, trust_env=False) as http:
        for goal in ("Say it.", "Say more."):
            http.post("/v1/runs", json={"goal": goal}).raise_for_status()
        http.post("/v1/schedules", json={"cron": "@yearly", "goal": "Say it."}).raise_for_status()
    report = place.folder / "report.ndjson"
    more = (f"--max-examples={given.examples}", f"--seed={given.seed}", f"--phases={given.phases}")
    done = subprocess.run(command(serve.url, key, report, *more, schema=given.schema), cwd=place.folder, check=False)
    found = read(report.read_text().splitlines())
    print(f"{found.requests:,} requests, {found.server_errors} server errors, by status: {dict(found.statuses)}")
    print(f"{found.failures.total()} failed checks: {dict(found.failures)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
