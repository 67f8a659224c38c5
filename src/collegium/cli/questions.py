"""Questions to people as they are printed: in lists, and behind a run that waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.text import Text

from collegium.cli.columns import print_indented
from collegium.cli.text import ago, one_line, seconds, short_id, short_question
from collegium.domain.chat import Json
from collegium.domain.report import ReportedQuestion

if TYPE_CHECKING:
    from collegium.runtime.inbox import Question

MAX_LINES = 32
MAX_LINE_CHARS = 400


def as_document(question: Question) -> dict[str, Any]:
    """A question for ``--json``; ``arguments`` of a plan are the plan itself."""
    asked = question.approval
    request = asked.request
    return {
        "approval": asked.id,
        "kind": request.kind,
        "run_id": question.run,
        "goal": question.goal,
        "task": asked.task,
        "question": request.question,
        "tool": request.tool,
        "arguments": request.arguments,
        "asked_at": asked.requested_at,
        "expires_at": request.expires_at,
        "default": request.default,
        "assignee": request.assignee,
        "is_four_eyes": request.is_four_eyes,
    }


def print_question(console: Console, question: Question, now: datetime) -> None:
    """Prints one question with all that is needed to answer it."""
    asked = question.approval
    request = asked.request
    facts = [request.kind, f"run {short_id(question.run)}", f"asked {ago(asked.requested_at, now)}"]
    if request.expires_at is not None:
        left = seconds((request.expires_at - now).total_seconds())
        facts.append(f"then {request.default}" if request.expires_at <= now else f"{request.default} in {left}")
    if request.assignee is not None:
        facts.append(f"for {one_line(request.assignee)}")
    if request.is_four_eyes:
        facts.append(f"not for {one_line(question.principal)}")
    console.print(Text.assemble((short_question(asked.id), "cyan"), "  ", ", ".join(facts)), soft_wrap=True)
    print_indented(console, Text(one_line(question.goal), style="dim"), 2)
    print_indented(console, Text(one_line(request.question)), 2)
    _print_arguments(console, request.kind, request.tool, request.arguments)


def print_open(console: Console, run: str, questions: Sequence[ReportedQuestion]) -> None:
    """Prints what a run waits for, and what to type to answer."""
    console.print(Text("Waits for you", style="bold"))
    for question in questions:
        print_indented(console, Text(one_line(question.question)), 2)
        _print_arguments(console, question.kind, question.tool, question.arguments)
        if question.kind != "outcome":
            short = short_question(question.approval)
            for word in ("approve", "reject"):
                console.print(Text(f"    collegium approvals {word} {short} --resume", style="cyan"), soft_wrap=True)
    if any(q.kind == "outcome" for q in questions):
        for word, meaning in (("done", "it took place"), ("not-done", "it did not"), ("retry", "call it once more")):
            line = f"    collegium runs resume {short_id(run)} --as {word}"
            console.print(Text.assemble((line, "cyan"), (f"  # {meaning}", "dim")), soft_wrap=True)
    console.print()


def _print_arguments(console: Console, kind: str, tool: str | None, arguments: Json | None) -> None:
    """Prints what the question is about: the tasks of a plan, the sentences of an answer, the arguments of a call."""
    if arguments is None:
        return
    if kind == "plan":
        lines = [f"{t['title']} ({t['capability']})" for t in arguments.get("tasks", ())]
    elif kind == "verdict":
        lines = [f"{c['verdict']}: {c['text']}" for c in arguments.get("claims", ())]
    else:
        lines = [f"{tool or ''} {msgspec.json.encode(arguments, order='sorted').decode()}".strip()]
    for line in map(one_line, lines[:MAX_LINES]):
        cut = line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]} ... (--json shows all)"
        print_indented(console, Text(cut, style="dim"), 4)
    if len(lines) > MAX_LINES:
        print_indented(console, Text(f"and {len(lines) - MAX_LINES} more", style="dim"), 4)
