"""Links of the OpenAPI document: where the id in an answer leads."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple


class Source(NamedTuple):
    """An answer with an id, and the parameter that takes it."""

    path: str
    status: str
    pointer: str
    parameter: str
    below: str


SOURCES: Final = (
    Source("/v1/runs", "202", "/run_id", "run", "/v1/runs/{run}"),
    Source("/v1/runs", "202", "/run_id", "run", "/v1/collections/{run}"),
    Source("/v1/runs/{run}/fork", "202", "/run_id", "run", "/v1/runs/{run}"),
    Source("/v1/schedules", "201", "/schedule_id", "schedule", "/v1/schedules/{schedule}"),
    Source("/v1/uploads", "201", "/id", "upload", "/v1/uploads/{upload}"),
    Source("/v1/webhooks", "201", "/webhook/id", "hook", "/v1/webhooks/{hook}"),
    Source("/v1/keys", "201", "/shown/key_id", "key", "/v1/keys/{key}"),
)
"""All of them are answers to ``POST``."""
_NAMES: Final = re.compile(r"{(\w+)}")


def put_links(paths: dict[str, Any]) -> None:
    """Adds to each source a link to every operation that needs its id and no other."""
    for source in SOURCES:
        operation = paths.get(source.path, {}).get("post")
        answer = None if operation is None else _answer(operation, source.status)
        if answer is None:
            continue
        for path, operations in paths.items():
            if not path.startswith(source.below) or _NAMES.findall(path) != [source.parameter]:
                continue
            for target in operations.values():
                link = {
                    "operationId": target["operationId"],
                    "parameters": {source.parameter: f"$response.body#{source.pointer}"},
                }
                answer.setdefault("links", {})[target["operationId"]] = link


def _answer(operation: dict[str, Any], status: str) -> dict[str, Any] | None:
    """The answer with that status, whether its key is a text or a number."""
    found: dict[str, Any] = {str(key): value for key, value in operation["responses"].items()}
    answer: dict[str, Any] | None = found.get(status)
    return answer
