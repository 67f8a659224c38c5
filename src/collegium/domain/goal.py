"""Goals: what somebody wants done."""

from __future__ import annotations

import msgspec

from collegium.domain.chat import Json
from collegium.domain.document import InputFile, SkippedFile
from collegium.domain.errors import UsageError
from collegium.domain.plan import Plan
from collegium.domain.usage import Limits

MAX_GOAL_CHARS = 100_000


class Goal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants done, with everything it may use.

    Attributes:
        text: In the user's words.
        principal: Who asks.
        model: Name of the model for agents that name none.
        tools: Extra tools that are granted.
        plan: A plan that was given or edited; then none is made.
        output_schema: JSON Schema the answer's text must satisfy, or None for prose.
        continues: The run this one asks on from.
        is_plan_reviewed: Whether a person approves the plan before it is followed.
        scopes: What whoever asks may do, sorted: its tools may do no more. None where nothing narrows it: on this
            machine, and in runs of before.
        project: The project of the tenant that it belongs to; empty for none.
    """

    text: str
    principal: str = "local"
    files: tuple[InputFile, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    model: str = ""
    tools: tuple[str, ...] = ()
    limits: Limits = Limits()
    priority: int = 2
    plan: Plan | None = None
    is_plan_only: bool = False
    output_schema: Json | None = None
    continues: str | None = None
    is_plan_reviewed: bool = False
    scopes: tuple[str, ...] | None = None
    project: str = ""


def shared(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The rights that both have; None has all of them."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted({*one} & {*other}))


def check_text(text: str) -> str:
    """The goal's text without surrounding white space. Raises ``UsageError`` when it is empty or far too long."""
    text = text.strip()
    if not text:
        raise UsageError("the goal is empty: say what you want to know or have done")
    if len(text) > MAX_GOAL_CHARS:
        raise UsageError(
            f"the goal has {len(text):,} characters and the cap is {MAX_GOAL_CHARS:,}: give long texts as files"
        )
    return text
