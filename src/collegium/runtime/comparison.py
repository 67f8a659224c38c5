"""Two courses of the same run held beside each other: what has to be the same, task by task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from collegium.domain import body as b
from collegium.domain.event import Event, encode_body
from collegium.domain.usage import Allotment, Usage
from collegium.runtime.recording import CRASHES

_ASIDE = (
    b.RunAllotted,
    b.RunReturned,
    b.LimitReserved,
    b.LimitSettled,
    b.FeedbackGiven,
    b.RunResumed,
    b.RunSaid,
)
"""Bookkeeping of limits, what came after the end, and what users added: who heard it has it in a step."""
_ENDED_FROM_OUTSIDE = frozenset({"cancelled", "limited"})
"""A call may have been under way then; what it took is only guessed."""
_PER_ATTEMPT = (b.TaskReady, b.TaskRouted, b.TaskStarted)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a stream that is not the same: the task (None: the run itself), its place, both events."""

    task: str | None
    place: int
    recorded: str | None
    replayed: str | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How many recorded events were compared, and what was different."""

    events: int
    differences: tuple[Difference, ...]


def compare(recorded: Sequence[Event], replayed: Sequence[Event]) -> Comparison:
    """Compares the streams of both runs; ids, times, seqs, interleaving and attempts that crashes caused aside."""
    crashed = _crashed(recorded) | _crashed(replayed)
    ours, theirs = streams(recorded, crashed), streams(replayed, crashed)
    differences = []
    for task in {**ours, **theirs}:
        one, other = ours.get(task, []), theirs.get(task, [])
        for place in range(max(len(one), len(other))):
            was = one[place] if place < len(one) else None
            now = other[place] if place < len(other) else None
            if was != now:
                differences.append(Difference(task=task, place=place + 1, recorded=was, replayed=now))
                break
    return Comparison(events=sum(map(len, ours.values())), differences=tuple(differences))


def streams(events: Sequence[Event], crashed: Collection[str | None] = ()) -> dict[str | None, list[str]]:
    """By task, what happened, as text: everything that has to be the same in a replay.

    ``crashed`` are tasks of which attempts were lost: what those took is left out.
    """
    asked = {e.body.approval: e.body for e in events if isinstance(e.body, b.ApprovalRequested)}
    return {
        task: [
            f"{e.type} {encode_body(_masked(e.body, asked, has_crashed=task in crashed)).decode()}"
            for e in _ordered(_without_crashes(own))
        ]
        for task, own in _by_task(events).items()
    }


def _by_task(events: Sequence[Event]) -> dict[str | None, list[Event]]:
    by_task: dict[str | None, list[Event]] = defaultdict(list)
    for event in events:
        if not isinstance(event.body, _ASIDE):
            by_task[event.task].append(event)
    return by_task


def _crashed(events: Sequence[Event]) -> set[str | None]:
    return {task for task, own in _by_task(events).items() if len(_without_crashes(own)) < len(own)}


def _without_crashes(events: Sequence[Event]) -> list[Event]:
    """A task's events as if its worker had never died or been stopped: of the attempts after it only the work stays."""
    kept: list[Event] = []
    began, has_started, is_again = 0, False, False
    for event in events:
        body = event.body
        if isinstance(body, b.TaskLapsed) or (isinstance(body, b.TaskParked) and body.reason in CRASHES):
            if not is_again and not has_started:
                del kept[began:]  # nobody had begun: the next attempt is the first
            is_again = is_again or has_started
        elif isinstance(body, _PER_ATTEMPT):
            if isinstance(body, b.TaskReady) and not is_again:
                began, has_started = len(kept), False
            if not is_again:
                kept.append(event)
            if isinstance(body, b.TaskStarted):
                has_started, is_again = True, False
        else:
            kept.append(event)
    return kept


def _ordered(events: Sequence[Event]) -> list[Event]:
    """Results of calls that ran side by side, and the messages they sent, stand in the order of the calls."""
    ordered: list[Event] = []
    group: list[Event] = []
    for event in (*events, None):
        if event is not None and _is_side_by_side(event.body):
            group.append(event)
            continue
        ordered += sorted(group, key=lambda e: (getattr(e.body, "step", 0), getattr(e.body, "call", 0)))
        group = []
        if event is not None:
            ordered.append(event)
    return ordered


def _is_side_by_side(body: b.Body) -> bool:
    return isinstance(body, b.MessageSent) or (isinstance(body, b.ToolFinished) and body.effect in ("pure", "read"))


def _masked(body: b.Body, asked: dict[str, b.ApprovalRequested], *, has_crashed: bool) -> b.Body:
    """The body without what a replay cannot have: times, workers, ids, loads, limits, what lost attempts took."""
    changes: dict[str, Any] = dict(_MASKS.get(type(body), {}))
    if isinstance(body, b.TaskParked | b.TaskSettled) and (has_crashed or body.error in _ENDED_FROM_OUTSIDE):
        changes["usage"] = Usage()
    match body:
        case b.ApprovalRequested(kind="outcome"):
            changes["question"] = ""  # it says when the call was made, and whether its worker was heard of since
        case b.ApprovalAnswered():
            request = asked.get(body.approval)
            changes = {"approval": "" if request is None else f"{request.kind} {request.key}"}
        case b.ToolIntended() if body.approval is not None:
            changes = {"approval": "given"}
        case b.StepJudged() if body.rule.startswith("apr_"):
            changes = {"rule": body.rule.partition(":")[2]}
    return msgspec.structs.replace(body, **changes) if changes else body


_MASKS: Mapping[type[b.Body], Mapping[str, Any]] = {
    b.RunSubmitted: {"pins": {}},
    b.RunForked: {"pins": {}},
    b.TaskReady: {"allotment": Allotment(), "not_before": None, "is_alone": False},
    b.TaskRouted: {"reason": "", "candidates": ()},
    b.TaskStarted: {"worker": ""},
    b.TaskAsked: {"allotment": Allotment()},
    b.TaskParked: {"wake_at": None},
    b.StepProposed: {"seconds": 0.0},
    b.ToolFinished: {"seconds": 0.0},
    b.ApprovalRequested: {"approval": "", "expires_at": None},
}
"""By type, the fields that differ from run to run."""
