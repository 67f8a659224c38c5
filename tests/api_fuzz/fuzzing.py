"""How the API is fuzzed: the command, what it is told, and what its report says."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SLOWEST_S = 60
"""Only an answer that never comes is a fault here: runs, fuzzer and server share the machine."""
NO_CODES = "not_a_server_error,positive_data_acceptance"
"""Not of GraphQL. The first takes every error that has a path for a fault of the server, `not_found` too: codes are
read instead. The second wants every query that fits the schema to be answered, whatever it costs."""
USUAL = ("2xx", "3xx", "401", "403", "404", "409", "429", "503")
_CURSOR = "a cursor is opaque: only one that an answer gave leads on"
_FILES = "`files` names uploads, and only ids of uploads that are there do"
_PLAN = "a plan is checked as a whole (422): no cycles, no task that nobody can do"
_KEY = "an `Idempotency-Key` that was used for another body (422)"
_TAG = "an `If-Match` that was not read just now"
_OF_RUNS = tuple(f"POST /v1/runs/{{run}}/{act}" for act in ("cancel", "resume", "say", "feedback"))
_OF_SCHEDULES = tuple(f"POST /v1/schedules/{{schedule}}/{act}" for act in ("pause", "resume"))
MEANT: dict[str, tuple[str, str]] = {
    **{
        f"GET /v1/{path}": ("400", _CURSOR)
        for path in (
            "agents", "approvals", "audit", "collections/{run}/documents", "dead-letters", "keys", "models", "runs",
            "runs/{run}/events", "schedules", "settings", "stops", "tools", "topics", "uploads", "usage/runs",
            "webhooks", "webhooks/{hook}/deliveries", "workers",
        )
    },
    "POST /v1/runs": ("400,422", f"{_FILES}; {_PLAN}; {_KEY}; plan_only and review_plan exclude each other"),
    "POST /v1/runs/{run}/fork": ("400,412,422", f"{_TAG}; `at` is an event that the run has; {_PLAN}"),
    "POST /v1/approvals/{approval}/answer": ("400,412,422", f"{_TAG}; each kind has its own words; {_PLAN}"),
    "POST /v1/schedules": ("400", f"{_FILES}; `cron` and `tz` are languages of their own"),
    "DELETE /v1/schedules/{schedule}": ("412", _TAG),
    **dict.fromkeys(_OF_SCHEDULES, ("405,412", f"{_TAG}; `.` as an id is no part of a path any more")),
    **dict.fromkeys(_OF_RUNS, ("412", _TAG)),
    "POST /v1/keys": ("400", "roles and scopes are names, and one of them there has to be"),
    "POST /v1/uploads": ("400", "the name is in the query for plain bytes, in the part for a form"),
    "POST /v1/webhooks": ("400", "a URL has more rules than a pattern says: a host, a port, no user"),
}  # fmt: skip
"""Operations that may refuse what fits their schema, with which status, and why: what they are given has to mean
something too. No other operation may, and these with no other status."""


def settings(ids: Mapping[str, Sequence[str]]) -> str:
    """The fuzzer's settings as TOML: ids that lead somewhere in three of four cases, and what ``MEANT`` allows."""
    lines: list[str] = []
    for name, values in ids.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(list(values))}"]
    lines.append("[parameters]")
    lines += [f'"*.*.{name}" = {{ dictionary = "{name}", probability = 0.75 }}' for name in ids]  # of GraphQL
    lines += [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.75 }}' for name in ids]
    if "topic" in ids:
        lines.append('"query.topic" = { dictionary = "topic", probability = 0.75 }')
    for operation, (statuses, _) in MEANT.items():
        allowed = [*USUAL, *statuses.split(",")]
        lines += ["[[operations]]", f"include-name = {json.dumps(operation)}"]
        lines += ["[operations.checks.positive_data_acceptance]", f"expected-statuses = {json.dumps(allowed)}"]
    return "\n".join(lines) + "\n"


class Found(NamedTuple):
    """What a run of the fuzzer found: requests by status, failures by check, answers of GraphQL that hide a fault."""

    statuses: Counter[int]
    failures: Counter[str]
    masked: Counter[str]

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self.statuses.total()

    @property
    def server_errors(self) -> int:
        """How many were answered with a fault of the server, 503 left out: that says when to come again."""
        open_ones = sum(n for status, n in self.statuses.items() if status >= 500 and status != 503)
        return open_ones + self.masked.total()


def command(
    url: str, key: str, report: Path, *more: str, schema: str = "/openapi.json", config: Path | None = None
) -> list[str]:
    """The fuzzer's command against the server at ``url``, all checks; ``schema`` is a path there or a file of SDL."""
    where = [f"{url}{schema}"] if schema.startswith("/openapi") else [schema, f"--url={url}/graphql"]
    return [
        str(Path(sys.executable).with_name("st")),
        *([] if config is None else [f"--config-file={config}"]),
        "run",
        *where,
        "--header",
        f"Authorization: Bearer {key}",
        "--checks=all",
        *([] if schema.startswith("/openapi") else [f"--exclude-checks={NO_CODES}"]),
        f"--request-timeout={SLOWEST_S}",
        f"--max-response-time={SLOWEST_S}",
        "--continue-on-failure",
        f"--report-ndjson-path={report}",
        *more,
    ]


def read(lines: Sequence[str]) -> Found:
    """What a report in ndjson says: every ``status_code`` of a response, every check that failed."""
    found = Found(Counter(), Counter(), Counter())
    for line in lines:
        _look(json.loads(line), found)
    return found


def _look(said: object, found: Found) -> None:
    if isinstance(said, list):
        for one in said:
            _look(one, found)
    elif isinstance(said, dict):
        if isinstance(status := said.get("status_code"), int) and "headers" in said:
            found.statuses[status] += 1
            found.masked["internal"] += status == 200 and _is_fault(said)
        if said.get("status") == "failure" and isinstance(name := said.get("name"), str):
            found.failures[name] += 1
        for one in said.values():
            _look(one, found)


def _is_fault(reply: dict[str, Any]) -> bool:
    """Whether an answer of 200 holds an error that GraphQL masks."""
    data = (reply.get("body") or reply.get("content") or {}).get("$base64", "")
    try:
        errors = json.loads(base64.b64decode(data)).get("errors")
        return any(one["extensions"]["code"] == "internal" for one in errors or ())
    except (ValueError, AttributeError, KeyError, TypeError):
        return False
