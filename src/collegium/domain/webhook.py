"""Webhooks: who is told of what, how a message is signed, and how its receiver knows that it is ours."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from collegium.domain import body as b
from collegium.domain.errors import NotAuthenticated, UsageError
from collegium.domain.event import Event

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  how secrets begin
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
"""Names of the headers. Source: the specification "Standard Webhooks"."""
TOLERANCE_S: Final = 300.0
TEST: Final = "webhook.test"
MAX_URL_CHARS: Final = 2_000
EventType = Literal[
    "run.submitted",
    "run.planned",
    "run.replanned",
    "run.cancel_requested",
    "run.finished",
    "task.settled",
    "task.quarantined",
    "tool.outcome_unknown",
    "limit.exceeded",
    "approval.requested",
    "approval.answered",
    "feedback.given",
]
"""What a webhook may be told of."""
TYPES: Final[tuple[str, ...]] = get_args(EventType)
_PAUSES_S: Final = (5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0)
MAX_ATTEMPTS: Final = len(_PAUSES_S) + 1
_MIN_KEY_BYTES: Final = 16
DeliveryStatus = Literal["pending", "delivered", "dead"]


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that messages are signed with, until ``until`` where it was replaced."""

    text: str
    until: datetime | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is told of events.

    Attributes:
        types: Which events; empty for all of ``TYPES``.
        secrets: The newest first; the one before signs beside it for a while.
        disabled: Why it is told nothing any more; empty as long as it is.
        failing_since: Since when nothing has arrived there; None when the last message did.
    """

    id: str
    tenant: str
    url: str
    types: tuple[str, ...]
    secrets: tuple[Secret, ...]
    created_at: datetime
    created_by: str
    disabled: str = ""
    failing_since: datetime | None = None

    def wants(self, event: Event) -> bool:
        """Whether it is to be told of ``event``: nothing that was before it, nothing of other tenants."""
        return (
            not self.disabled
            and event.tenant == self.tenant
            and event.at >= self.created_at
            and event.type in (self.types or TYPES)
        )


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to a webhook; ``id`` is the same at every attempt.

    Attributes:
        body: What is sent, as it is signed.
        next_us: When it is tried next, in microseconds since 1970.
        status_code: What was answered last; None where nothing was.
        detail: Why it did not arrive, for a person.
        ended_us: When it had arrived or was given up; 0 before.
    """

    id: str
    tenant: str
    webhook: str
    type: str
    body: str
    created_at: datetime
    next_us: int
    status: DeliveryStatus = "pending"
    attempts: int = 0
    status_code: int | None = None
    detail: str = ""
    ended_us: int = 0


def message(event: Event) -> dict[str, Any]:
    """What a webhook is told of ``event``: what it is and where to read on, never what a user or a model has said."""
    data = {"event_id": event.id, "run_id": event.run, "seq": event.seq, "task": event.task, **_facts(event.body)}
    return {"type": event.type, "timestamp": event.at.isoformat(), "data": data}


def check_url(url: str) -> str:
    """``url`` if a webhook may have it. Which addresses are reached is judged anew at each delivery.

    Raises ``UsageError``: no https (http is for loopback alone), no host, user and password, a fragment, too long.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url[:200]!r} is no URL: {error}") from error
    is_ours = host in ("localhost", "127.0.0.1", "::1")
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"the URL of a webhook has at most {MAX_URL_CHARS:,} printable ASCII characters")
    if not host or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not is_ours):
        raise UsageError(f"{url[:200]!r} cannot be a webhook: it begins with https:// and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UsageError("the URL of a webhook has neither user nor password nor fragment: messages are signed")
    return url


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """``types`` once each, in their usual order. Raises ``UsageError`` for one that is none."""
    for one in types:
        if one not in TYPES:
            raise UsageError(f"webhooks are not told of {one[:100]!r}: it is one of {', '.join(TYPES)}")
    return tuple(one for one in TYPES if one in types)


def pause_s(attempts: int, chance: float) -> float | None:
    """How long after ``attempts`` attempts the next one waits; None when there is none. ``chance`` is in 0..1."""
    if attempts >= MAX_ATTEMPTS:
        return None
    return _PAUSES_S[attempts - 1] * (0.8 + 0.4 * chance)


def new_secret(entropy: bytes) -> str:
    """A secret made of ``entropy`` (24 to 64 random bytes)."""
    return SECRET_PREFIX + base64.b64encode(entropy).decode()


def signed(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of a message: its id, its time, and a signature with each of ``secrets``.

    Source: the specification "Standard Webhooks", symmetric signatures (v1, HMAC-SHA256).
    """
    stamp = str(int(at.timestamp()))
    signatures = " ".join("v1," + _signature(one, message_id, stamp, body) for one in secrets)
    return {ID: message_id, TIMESTAMP: stamp, SIGNATURE: signatures}


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime, tolerance_s: float = TOLERANCE_S
) -> str:
    """The id of a message whose signature holds; whoever has seen that id before refuses the message as a replay.

    Args:
        secret: As it was shown once.
        headers: Of the request, in any case.
        body: As received, before anything has read it.
        now: The time of day.
        tolerance_s: A message is refused that is older, or that is from further ahead.

    Raises:
        NotAuthenticated: a header is missing, the signature does not hold, or the time is not the present one.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and signatures and stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        raise NotAuthenticated(f"a message of a webhook has the headers {ID}, {TIMESTAMP} and {SIGNATURE}")
    right = _signature(secret, message_id, stamp, body).encode()
    shown = [one.removeprefix("v1,").encode() for one in signatures.split(" ") if one.startswith("v1,")]
    if sum(hmac.compare_digest(right, one) for one in shown) == 0:
        raise NotAuthenticated("the signature of the message does not hold")
    if abs(now.timestamp() - int(stamp)) > tolerance_s:
        raise NotAuthenticated(f"the message is not of the last {tolerance_s:g} s: it may be a replay")
    return message_id


def rotated(hook: Webhook, secret: str, *, now: datetime, grace: timedelta) -> Webhook:
    """``hook`` with a new secret; the newest of those before signs beside it for ``grace``, the others do no more."""
    kept = tuple(msgspec.structs.replace(one, until=now + grace) for one in hook.secrets[:1])
    return msgspec.structs.replace(hook, secrets=(Secret(text=secret), *kept))


def signing(hook: Webhook, now: datetime) -> tuple[str, ...]:
    """The secrets that sign at ``now``."""
    return tuple(one.text for one in hook.secrets if one.until is None or one.until > now)


def _signature(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) < _MIN_KEY_BYTES:
        raise UsageError(f"the secret of a webhook begins with {SECRET_PREFIX} and goes on with base64")
    made = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return base64.b64encode(made).decode()


def _facts(body: b.Body) -> dict[str, Any]:
    match body:
        case b.RunFinished():
            return {"status": body.status, "error": body.error}
        case b.TaskSettled():
            return {"outcome": body.outcome, "error": body.error}
        case b.ApprovalRequested():
            expires = None if body.expires_at is None else body.expires_at.isoformat()
            return {"approval": body.approval, "kind": body.kind, "tool": body.tool, "expires_at": expires}
        case b.ApprovalAnswered():
            return {"approval": body.approval, "answer": body.answer, "is_default": body.is_default}
        case b.LimitExceeded():
            return {"limit": body.limit}
        case b.ToolOutcomeUnknown():
            return {"tool": body.tool}
        case b.FeedbackGiven():
            return {"is_good": body.is_good}
        case _:
            return {}
