"""A receiver of webhooks: takes messages that collegium has signed, once each. Run it to see it take three."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from collegium.domain.errors import NotAuthenticated
from collegium.domain.webhook import new_secret, signed, verify_webhook

SECRET = new_secret(bytes(range(32)))


# snippet: webhook-receiver
seen: set[str] = set()  # in earnest: a table with a unique key, kept for a day


def receive(headers: Mapping[str, str], body: bytes) -> int:
    """The status to answer with."""
    try:
        message = verify_webhook(SECRET, headers, body, now=datetime.now(UTC))
    except NotAuthenticated:
        return 401
    if message not in seen:
        seen.add(message)
        print(json.loads(body)["type"])
    return 204


# end snippet


def main() -> None:
    """Receives a message, the same again, and one that was forged."""
    body = b'{"type":"run.finished","data":{"run_id":"run_1"}}'
    headers = signed([SECRET], "msg_1", datetime.now(UTC), body)
    print(receive(headers, body), receive(headers, body), receive(headers, body + b" "))


if __name__ == "__main__":
    main()
