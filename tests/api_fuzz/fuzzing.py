"""How the API is fuzzed: the command, what it is told, and what its report says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

EXCLUDED = ("positive_data_acceptance",)
"""Not every text that fits a schema means something: a cron expression, a cursor, the id of an upload. 400 says so."""


class Found(NamedTuple):
    """What a run of the fuzzer found: requests by status, failures by check."""

    statuses: Counter[int]
    failures: Counter[str]

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.statuses.total()

    @property
    def server_errors(self) -> int:
        """How many were answered with a fault of the server, 503 left out: that says when to come again."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status != 503)


def command(url: str, key: str, report: Path, *more: str, schema: str = "/openapi.json") -> list[str]:
    """The fuzzer's command against the server at ``url``; ``schema`` may be ``/graphql`` as well."""
    return [
        str(Path(sys.executable).with_name("st")),
        "run",
        f"{url}{schema}",
        "--header",
        f"Authorization: Bearer {key}",
        f"--exclude-checks={','.join(EXCLUDED)}",
        "--request-timeout=20",
        "--continue-on-failure",
        f"--report-ndjson-path={report}",
        *more,
    ]


def read(lines: Sequence[str]) -> Found:
    """What a report in ndjson says: every ``status_code`` of a response, every check that failed."""
    statuses: Counter[int] = Counter()
    failures: Counter[str] = Counter()
    for line in lines:
        _look(json.loads(line), statuses, failures)
    return Found(statuses, failures)


def _look(found: object, statuses: Counter[int], failures: Counter[str]) -> None:
    if isinstance(found, list):
        for one in found:
            _look(one, statuses, failures)
    elif isinstance(found, dict):
        if isinstance(status := found.get("status_code"), int) and "headers" in found:
            statuses[status] += 1
        if found.get("status") == "failure" and isinstance(name := found.get("name"), str):
            failures[name] += 1
        for one in found.values():
            _look(one, statuses, failures)
