"""Which calls need a person's word before they are made, and how that person is asked."""

from __future__ import annotations

import fnmatch
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.tool import ToolDefinition


class ApprovalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked about. It is judged anew at every call, never kept with a run.

    Attributes:
        tools: Names and patterns (``send_*``) of tools that ask, beside those that say so themselves.
        expires_s: How long an answer is waited for; None for ever. Unknown outcomes are never guessed.
        default: The answer when that time is over.
        is_four_eyes: Whether somebody else than the one who asked for the run has to answer.
        assignee: The only one who may answer; None for anybody.
        is_escalating: Whether a person is asked about answers with sentences that nothing bears out.
    """

    tools: tuple[str, ...] = ()
    expires_s: float | None = None
    default: Literal["approve", "reject"] = "reject"
    is_four_eyes: bool = False
    assignee: str | None = None
    is_escalating: bool = False

    def rule(self, tool: ToolDefinition) -> str | None:
        """The rule by which calls of ``tool`` need a person, or None when none does."""
        if tool.asks:
            return f"{tool.name} asks before every call"
        pattern = next((p for p in self.tools if fnmatch.fnmatchcase(tool.name, p)), None)
        return None if pattern is None else f"approvals.tools has {pattern!r}"

    def addressed(self, request: b.ApprovalRequested, now: datetime) -> b.ApprovalRequested:
        """``request`` with who may answer it, until when, and what holds after that."""
        return msgspec.structs.replace(
            request,
            assignee=self.assignee,
            expires_at=None if self.expires_s is None else now + timedelta(seconds=self.expires_s),
            default=self.default,
            is_four_eyes=self.is_four_eyes,
        )
