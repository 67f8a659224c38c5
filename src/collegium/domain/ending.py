"""How a run ends: with what answer, and what is missing from it."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.document import Citation
from collegium.domain.result import Answer, TaskResult
from collegium.domain.run import RunState
from collegium.domain.task import TaskState

EndStatus = Literal["succeeded", "partial", "failed", "cancelled", "limited"]
_MARK = re.compile(r"\[(\d+)\]")


def finish(state: RunState) -> b.RunFinished:
    """The end of a run whose tasks are all settled: succeeded, or what is missing and why."""
    answer, missing = _answer(state), _missing(state)
    lost = [t for t in state.planned if t.status != "succeeded"]
    limited = next((t for t in lost if t.error == "limited"), None)
    if limited is not None:
        return b.RunFinished(
            status="limited", answer=answer or _so_far(state), missing=missing, error="limited", reason=limited.reason
        )
    doubtful = _doubtful(state)
    if not lost:
        status: EndStatus = "partial" if doubtful or missing else "succeeded"
        return b.RunFinished(status=status, answer=answer, missing=(*missing, *doubtful))
    first = next((t for t in lost if t.status != "skipped"), lost[0])
    status = "failed" if answer is None else "partial"
    return b.RunFinished(
        status=status, answer=answer, missing=(*missing, *doubtful), error=first.error, reason=first.reason
    )


def cut_short(state: RunState, error: Literal["cancelled", "limited"], reason: str) -> b.RunFinished:
    """The end of a run before its tasks have ended, with what there is."""
    return b.RunFinished(
        status=error, answer=_answer(state) or _so_far(state), missing=_missing(state), error=error, reason=reason
    )


def _missing(state: RunState) -> tuple[str, ...]:
    lost = [t for t in state.planned if t.is_settled and t.status != "succeeded"]
    unknown = [f"{u.tool} may or may not have happened: {u.detail}" for u in state.unknown.values()]
    return (*(f"{t.task.title}: {t.reason or t.error or t.status}" for t in lost), *unknown)


def _doubtful(state: RunState) -> tuple[str, ...]:
    """Values of a JSON answer that no evidence bears out: prose carries a mark for them, data cannot."""
    return tuple(
        f"evidence for {c.text}"
        for t in state.planned
        if t.status == "succeeded" and t.result is not None and t.result.data is not None
        for c in t.result.claims
        if c.verdict in ("unsupported", "contradicted")
    )


def _answer(state: RunState) -> Answer | None:
    """What the plan's last tasks give together; None when none of them gave anything."""
    if state.plan is None:
        return None
    sinks = [state.tasks[t.id] for t in state.plan.sinks()]
    return _joined(state, [r for t in sinks if (r := _given(t)) is not None])


def _so_far(state: RunState) -> Answer | None:
    """What a run has that ends before its last tasks have given anything: the texts nobody has worked on yet."""
    if state.goal.output_schema is not None:
        return None  # half of it would not fit
    given = {t.task.id: r for t in state.planned if (r := _given(t)) is not None and r.text}
    used = {d for t in state.planned if t.task.id in given for d in t.task.depends_on}
    return _joined(state, [r for name, r in given.items() if name not in used])


def _given(task: TaskState) -> TaskResult | None:
    """What a task gave: its result, or what it had written when it was cut short."""
    is_cut = task.error in ("limited", "cancelled")
    return task.result if task.status == "succeeded" or is_cut else None


def _joined(state: RunState, results: list[TaskResult]) -> Answer | None:
    if not results:
        return None
    artifacts = {a.path: a for t in state.tasks.values() if t.result is not None for a in t.result.artifacts}
    claims = tuple(c for r in results for c in r.claims)
    return Answer(
        text=_text(results),
        claims=claims,
        citations=_citations(results),
        actions=tuple(a for r in results for a in r.actions),
        artifacts=tuple(artifacts.values()),
        data=next((r.data for r in results if r.data is not None), None),
    )


def _text(results: list[TaskResult]) -> str:
    """The texts one after the other; marks ``[n]`` count on through all of them, as the citations do."""
    texts: list[str] = []
    before = 0
    for result in results:
        if result.text:
            texts.append(_shifted(result.text, before))
        before += sum(len(c.citations) for c in result.claims)
    return "\n\n".join(texts)


def _shifted(text: str, by: int) -> str:
    return _MARK.sub(lambda mark: f"[{int(mark[1]) + by}]", text) if by else text


def _citations(results: list[TaskResult]) -> tuple[Citation, ...]:
    claims = [c for r in results for c in r.claims]
    return tuple(msgspec.structs.replace(q, claim=i) for i, claim in enumerate(claims) for q in claim.citations)
