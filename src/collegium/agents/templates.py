"""The plan library: plans for models that cannot plan, and for plans that came back invalid twice."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any

import msgspec

from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task

_FILE = re.compile(
    r"\b(?:write|save|put|store|export)\b[^.?!]{0,80}?\b(?:to|into|in|as)\s+(?:the\s+)?(?:file\s+)?[`\"']?"
    r"(?P<path>[\w][\w./-]*\.(?:md|txt|csv|json|html))",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.?!\n]+\?")
MAX_QUESTIONS = 8


def choose(goal: Goal) -> Plan:
    """The library plan for ``goal``: by what it was given and asks for, never by a model."""
    path = _FILE.search(goal.text)
    questions = [q.strip() for q in _QUESTION.findall(goal.text)][:MAX_QUESTIONS]
    if path is not None:
        return fill("report", goal, path=path["path"], question=_without_errand(goal.text))
    if not goal.files and goal.continues is None:
        return fill("chat", goal)
    if len(questions) > 1:
        return fill("questions", goal, questions=questions)
    return fill("answer", goal)


def fill(
    name: str, goal: Goal, *, path: str = "", question: str | None = None, questions: list[str] | None = None
) -> Plan:
    """Template ``name`` with its blanks filled in; ``question`` stands for the goal where that says more."""
    raw = tomllib.loads((files("collegium.agents") / "templates" / f"{name}.toml").read_text("utf-8"))
    blanks = {"goal": question or goal.text, "path": path}
    tasks: list[Task] = []
    repeated: dict[str, list[str]] = {}
    for table in raw["task"]:
        if table.pop("repeat", None) is None:
            needs = [i for d in table.get("depends_on", []) for i in repeated.get(d, [d])]
            tasks.append(_task({**table, "depends_on": needs}, blanks))
            continue
        for n, question in enumerate(questions or [goal.text], start=1):
            task = _task(table, {**blanks, "n": str(n), "question": question})
            repeated.setdefault(table["id"], []).append(task.id)
            tasks.append(task)
    return Plan(tasks=tuple(tasks), template=f"{name}@{raw['version']}")


def _without_errand(text: str) -> str:
    """``text`` without "and write it to FILE": words that would mislead the search."""
    asked = re.sub(r"\s*(?:,?\s*\band|[,;])?\s*$", "", _FILE.sub("", text).strip(" .\n`\"'"))
    return re.sub(r"\s+\.", ".", asked) or text


def _task(table: dict[str, Any], blanks: dict[str, str]) -> Task:
    # Plain replacement: a goal may hold braces of its own, which str.format would trip over.
    def filled(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"\{(\w+)\}", lambda m: blanks.get(m[1], m[0]), value)

    return msgspec.convert({k: filled(v) for k, v in table.items()}, Task)
