"""Deeds: what a tenant's administrative log says, and the bodies that are stored of it.

The log of a tenant is a journal of its own for each month: chained, under the same checkpoints as runs and verified
like them. ``log.opened`` begins it, ``log.noted`` is one line of it. The stored format is for ever, see ``body.py``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from collegium.domain.body import Body
from collegium.domain.chat import Json

PREFIX: Final = "log_"
INSTALLATION: Final = "~installation"
"""Whose log has what belongs to no tenant: callers whom nobody knows, keys of the host, its encryption."""
Decision = Literal["allowed", "refused"]


class LogOpened(Body, frozen=True):
    """The log of a month begins. ``previous`` is the journal of the month before that has lines, if any."""

    tenant: str
    month: str
    previous: str = ""
    previous_seq: int = 0
    previous_mac: str = ""


class LogNoted(Body, frozen=True):
    """Somebody did something, or was not let.

    Attributes:
        actor: Id of the principal; empty where nobody knows who asked.
        action: ``<what>.<done>``: ``keys.created``, ``approvals.answered``, ``requests.refused``.
        object: What it was done to: an id.
        decision: Whether it was let.
        rule: What decided: a scope, a setting, a limit.
        reason: In the words of whoever did it, or why it was refused.
        address: Where the request came from.
        trace: Under which id logs and traces have the request.
        credential: Id of the key, token or session that was shown.
        count: So many alike are in this one line.
        details: More of it; no secrets, no contents.
    """

    actor: str
    action: str
    object: str = ""
    decision: Decision = "allowed"
    rule: str = ""
    reason: str = ""
    address: str = ""
    trace: str = ""
    credential: str = ""
    count: int = 1
    details: Json = msgspec.field(default_factory=dict)


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an administrative log, as it is shown. ``log``, ``seq`` and ``mac`` say where it stands."""

    at: datetime
    actor: str
    action: str
    object: str
    decision: Decision
    rule: str
    reason: str
    address: str
    trace: str
    credential: str
    count: int
    details: Json
    id: str
    log: str
    seq: int
    mac: str


def log_tenant(tenant: str) -> str:
    """The tenant of the log's journals: no listing of anybody's runs shows them, and their checkpoints are their own.

    >>> log_tenant("acme")
    '~log.acme'
    """
    return f"~log.{tenant}"


def is_log(run: str) -> bool:
    """Whether a journal is an administrative log's."""
    return run.startswith(PREFIX)
