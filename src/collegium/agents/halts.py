"""What ends an attempt in the middle of a call: somebody has to say something first, or time has to pass."""

from __future__ import annotations

from datetime import datetime

from collegium.domain import body as b
from collegium.domain.errors import CollegiumError
from collegium.tools import ledger as books


class UnknownOutcome(CollegiumError):
    """A write was begun and nobody knows whether it happened; a person has to say."""

    code = "outcome_unknown"

    def __init__(self, intended: b.ToolIntended, why: str, entry: books.Entry | None = None) -> None:
        super().__init__(f"{intended.tool} was called and {why}: it may or may not have happened")
        self.intended = intended
        self.entry = entry
        """The call on the ledger, where an earlier attempt has made it."""


class ApprovalNeeded(CollegiumError):
    """A person has to allow calls before they are made; ``requests`` have no ids yet."""

    code = "approval_needed"

    def __init__(self, requests: tuple[b.ApprovalRequested, ...]) -> None:
        super().__init__("; ".join(r.question for r in requests))
        self.requests = requests


class Asked(CollegiumError):
    """The task waits for colleagues; its attempt is closed already."""

    code = "asked"


class TooEarly(CollegiumError):
    """The worker that is taken for dead may still be in its call: what became of it is judged ``at`` that time."""

    code = "too_early"

    def __init__(self, tool: str, at: datetime) -> None:
        super().__init__(f"{tool} was being called by a worker that died; what became of it is looked into later")
        self.at = at
