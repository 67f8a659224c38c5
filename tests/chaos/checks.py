"""What must hold when a trial is over: every run's events against the promises, the store against its rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from collegium.app import Collegium
from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.head import Head, HeadQuery
from collegium.runtime.audit import verify_all
from collegium.runtime.heads import heads_of
from collegium.runtime.kept import archive_of
from tests.chaos import goals, model
from tests.chaos.glance import glance_at
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Place

_CLOSING = (b.TaskParked, b.TaskLapsed, b.TaskSettled, b.TaskQuarantined)


async def check(
    app: Collegium,
    place: Place,
    accepted: dict[str, tuple[str, str]],
    outcome: Outcome,
    *,
    is_forgiving: bool = False,
) -> None:
    """Adds to ``outcome`` what is wrong with the trial's runs.

    Args:
        accepted: Tag and kind by the id of every run whose ``submit`` returned.
        is_forgiving: A run may end without success, as long as it says why.
    """
    histories: dict[str, tuple[str, str, list[Event]]] = {}
    for head in await every_head(app):
        events = [e async for e in app.events(head.run)]
        text = events[0].body.goal.text if isinstance(events[0].body, b.RunSubmitted) else ""
        found = goals.PLANNED.search(text)
        assert found is not None, text
        histories[head.run] = (found["tag"], found["kind"], events)
    for bad in (await verify_all(app.stores.journal, archive_of(app.stores), "default")).damaged:
        outcome.wrong("chain", f"not as it was written: {bad}")
    for run in accepted.keys() - histories.keys():
        outcome.wrong("lost", f"{run} was accepted and is not in the store")
    twice = [t for t, n in Counter(tag for tag, _, _ in histories.values()).items() if n > 1]
    outcome.wrong("duplicated", *(f"{tag} has more than one run" for tag in twice))
    outcome.runs += len(histories)
    calls = _calls(place)
    asked = defaultdict(list)
    for request in model.requests(place.model_log):
        asked[request["tag"]].append(request)
    for run, (tag, kind, events) in histories.items():
        _check_run(run, tag, kind, events, calls.get(tag, []), outcome, is_forgiving)
        _check_asked(run, events, asked[tag], outcome)
    _check_store(place, outcome)


async def every_head(app: Collegium) -> list[Head]:
    """The heads of all runs."""
    return [head async for head in heads_of(app.stores.journal, HeadQuery(limit=500))]


def _calls(place: Place) -> dict[str, list[dict[str, Any]]]:
    """What reached the far side, by the tag of the run."""
    by_tag: dict[str, list[dict[str, Any]]] = defaultdict(list)
    noted = set()
    for call in place.far.calls():
        by_tag[call["label"].split("/")[0]].append(call)
        noted.add((call["key"], call["what"]))
    for key, mark in place.far.marks().items():
        # Killed between the effect and its line: the effect counts.
        if mark["state"] == "fired" and (key, "fired") not in noted:
            by_tag[mark["label"].split("/")[0]].append({**mark, "what": "fired", "key": key, "tool": "marked"})
    return by_tag


def _check_run(
    run: str,
    tag: str,
    kind: str,
    events: Sequence[Event],
    calls: Sequence[dict[str, Any]],
    outcome: Outcome,
    is_forgiving: bool,
) -> None:
    if [e.seq for e in events] != list(range(1, len(events) + 1)):
        outcome.wrong("chain", f"{run}: its seqs have gaps")
    _check_end(run, tag, kind, events, calls, outcome, is_forgiving)
    _check_repeats(run, events, outcome)
    _check_stale(run, events, outcome)
    _check_effects(run, events, calls, outcome)
    outcome.lapses += sum(1 for e in events if isinstance(e.body, b.TaskLapsed))


def _check_end(
    run: str,
    tag: str,
    kind: str,
    events: Sequence[Event],
    calls: Sequence[dict[str, Any]],
    outcome: Outcome,
    is_forgiving: bool,
) -> None:
    end = next((e.body for e in events if isinstance(e.body, b.RunFinished)), None)
    if end is not None:
        if any(isinstance(e.body, b.TaskQuarantined) for e in events):
            # Three deaths in a row before anything was stored: promised so (D13), and only counted.
            outcome.quarantined += 1
            return
        if end.status != "succeeded" and is_forgiving and (end.reason or end.missing):
            outcome.note(f"runs that ended {end.status}: {end.error or 'with what there is'}")
            return
        if end.status != "succeeded":
            outcome.wrong("lost", f"{run} ended {end.status}: {end.error} {end.reason}")
            return
        seen = {c["label"] for c in calls if c["what"] in ("fired", "read")}
        refused = {c["label"] for c in calls if c["what"] == "refused"} - seen
        outcome.note("refused after it was voided", len(refused))
        failed = {
            goals.label(tag, e.task or "", e.body.step, e.body.call)
            for e in events
            if isinstance(e.body, b.ToolFinished) and not e.body.result.is_ok
        } - seen
        outcome.note("calls that gave no result in time, as their agent was told", len(failed - refused))
        missing = goals.labels(tag, kind).keys() - seen - refused - failed
        # Near a limit a model is asked to end, and ends without the calls that were left.
        if missing and not is_forgiving:
            outcome.wrong("lost", f"{run} ended well, but the far side never saw {sorted(missing)}")
        return
    unknown = {e.task for e in events if isinstance(e.body, b.ToolOutcomeUnknown)}
    parks: dict[str, str] = {}
    for event in events:
        if isinstance(event.body, b.TaskParked) and event.task is not None:
            parks[event.task] = event.body.reason
        elif isinstance(event.body, (b.TaskReady, b.TaskSettled, b.TaskLapsed)) and event.task is not None:
            parks.pop(event.task, None)
    if unknown and unknown & {t for t, reason in parks.items() if reason == "outcome_unknown"}:
        outcome.unknown += 1
    else:
        outcome.wrong("lost", f"{run} neither ended nor waits for a person; parks {parks}, last {events[-1].type}")


def _check_repeats(run: str, events: Sequence[Event], outcome: Outcome) -> None:
    steps = Counter((e.task, e.body.step) for e in events if isinstance(e.body, b.StepProposed))
    ends = Counter((e.task, e.body.step, e.body.call) for e in events if isinstance(e.body, b.ToolFinished))
    outcome.wrong("repeated", *(f"{run}: step {s} was finished {n} times" for s, n in steps.items() if n > 1))
    outcome.wrong("repeated", *(f"{run}: call {c} was finished {n} times" for c, n in ends.items() if n > 1))


def _check_stale(run: str, events: Sequence[Event], outcome: Outcome) -> None:
    """Nothing of an attempt comes after its end."""
    closed: dict[str, int] = {}
    for event in events:
        if event.task is None or event.attempt is None:
            continue
        if event.attempt <= closed.get(event.task, 0):
            outcome.wrong("stale", f"{run}: {event.type} at {event.seq} of the closed attempt {event.attempt}")
        if isinstance(event.body, _CLOSING):
            closed[event.task] = event.attempt
        elif isinstance(event.body, b.TaskReady):
            closed[event.task] = event.attempt - 1


def _check_effects(run: str, events: Sequence[Event], calls: Sequence[dict[str, Any]], outcome: Outcome) -> None:
    intended = {e.body.key: e for e in events if isinstance(e.body, b.ToolIntended)}
    finished = {e.body.key for e in events if isinstance(e.body, b.ToolFinished)}
    unknown = {e.body.key for e in events if isinstance(e.body, b.ToolOutcomeUnknown)}
    fired = Counter(c["label"] for c in calls if c["what"] == "fired")
    outcome.writes += sum(fired.values())
    outcome.wrong("duplicated", *(f"{run}: {label} fired {n} times" for label, n in fired.items() if n > 1))
    for call in calls:
        if call["what"] == "repeated":
            outcome.wrong("duplicated", f"{run}: {call['label']} was called again after it had fired")
        if call["key"] is not None and call["key"] not in intended:
            outcome.wrong("duplicated", f"{run}: {call['label']} fired without an intent")
    # A call that the far side has taken back is made anew under another key.
    newest = {(e.task, e.body.step, e.body.call): e.body.key for e in events if isinstance(e.body, b.ToolIntended)}
    for key in set(newest.values()) - finished - unknown:
        begun = intended[key].body
        if isinstance(begun, b.ToolIntended) and begun.effect != "write":
            continue  # left by a task that was given up; doing it again does no harm
        outcome.wrong("gap", f"{run}: the call {key} has neither an end nor an unknown outcome")


def _check_asked(run: str, events: Sequence[Event], asked: Sequence[dict[str, Any]], outcome: Outcome) -> None:
    """No model is asked for a step whose result is durable: a later attempt finds it in the journal."""
    proposed = {(e.task, e.body.step): e for e in events if isinstance(e.body, b.StepProposed)}
    started = [e for e in events if isinstance(e.body, b.TaskStarted)]
    for request in asked:
        step = proposed.get((request["task"], request["step"]))
        if step is None:
            continue
        later = [e for e in started if e.task == step.task and e.seq > step.seq]
        if later and request["at"] > later[0].at.timestamp():
            outcome.wrong("repeated", f"{run}: step {request['step']} of {step.task} was asked for after it was stored")
    again = Counter((r["task"], r["step"]) for r in asked)
    outcome.asked_again += sum(n - 1 for n in again.values())


def _check_store(place: Place, outcome: Outcome) -> None:
    glance = glance_at(place)
    said = glance.damage()
    glance.close()
    if said is not None:
        outcome.wrong("chain", f"the store is damaged: {said}")


def note_recoveries(events: Sequence[Event], killed: dict[str, list[float]], outcome: Outcome) -> None:
    """Adds the seconds from a worker's death to the start of each task that was taken over from it.

    A task that two deaths left with nothing is tried alone, in a process of its own, and counted apart.
    """
    for event in events:
        if not isinstance(event.body, b.TaskLapsed):
            continue
        at = max((t for t in killed.get(event.body.worker, ()) if t <= event.at.timestamp()), default=None)
        if at is not None:
            later = [e for e in events if e.seq > event.seq and e.task == event.task]
            ready = next((e for e in later if isinstance(e.body, b.TaskReady)), None)
            start = next((e for e in later if isinstance(e.body, b.TaskStarted)), None)
            if start is not None and ready is not None and isinstance(ready.body, b.TaskReady):
                seconds = round(start.at.timestamp() - at, 3)
                (outcome.alone_s if ready.body.is_alone else outcome.recovery_s).append(seconds)
