"""What a simulation remembers of each run and account, told apart from the code under test, and when it contradicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from collegium.adapters.rows import EventRow, to_event
from collegium.domain import body as b
from collegium.domain.chain import GENESIS, PUBLIC_KEY, mac_of
from collegium.domain.event import Event
from collegium.domain.run import RunState, apply, fold
from collegium.domain.task import TaskState
from tests.simulation.machine import Machine
from tests.simulation.outside import Process
from tests.simulation.team import Colleagues

AFTER_THE_END: Final = frozenset({"feedback.given"})
NEEDS_A_PERSON: Final = frozenset({"outcome_unknown", "approval", "ask"})
"""Reasons for which a run may wait when a simulation ends."""
SCRATCH_EVERY: Final = 16
MOST_ATTEMPTS: Final = 60
"""No task needs more in a world of half a minute: who tries more often turns in circles."""
LATE: Final = timedelta(seconds=1)
"""A run that waits for its accounts is looked at again after so long."""


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class Attempts:
    """A second opinion on attempts, written apart from the code under test."""

    def __init__(self) -> None:
        self.newest: dict[str, int] = {}
        self.is_open: dict[str, bool] = {}
        self.workers: dict[tuple[str, int], str] = {}
        self.started_at: dict[tuple[str, str], int] = {}

    def began(self, task: str, machine: Machine) -> int:
        """Seq at which the worker on ``machine`` last started an attempt of ``task``; 0 for never."""
        worker = machine.worker if isinstance(machine, Process) else ""
        return self.started_at.get((task, worker), 0)


class History:
    """One run as the watch has seen it grow."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rows: list[EventRow] = []
        self.inherited: list[EventRow] = []
        """The events that a fork shares with its parent."""
        self.state: RunState | None = None
        self.attempts = Attempts()
        self.steps: dict[tuple[str, int], int] = {}
        self.results: dict[tuple[str, int, int], int] = {}
        self.ended: set[str] = set()
        self.items: dict[tuple[str, int, int], str] = {}
        self.finished_items: dict[tuple[str, str], int] = {}
        self.colleagues = Colleagues()

    def inherit(self, parent: History, at_event: str) -> None:
        """Begins as a fork of ``parent`` behind the event ``at_event``: what was done there is not done again."""
        whole = [*parent.inherited, *parent.rows]
        upto = next(n for n, row in enumerate(whole, start=1) if row.id == at_event)
        self.inherited = whole[:upto]
        for row in self.inherited:
            event = to_event(row)
            self.colleagues.broken_by(event, self.state)
            self.state = apply(self.state, event)
            if event.task is not None:
                once(self, event)
        self.steps = dict.fromkeys(self.steps, 0)
        self.finished_items = dict.fromkeys(self.finished_items, 0)

    def task(self, name: str) -> TaskState | None:
        """What is known of a task."""
        return None if self.state is None else self.state.tasks.get(name)

    def is_at_rest(self, *, is_answering: bool) -> bool:
        """Whether the run has ended, or waits for a person, where nobody answers, and says why."""
        state = self.state
        if state is None or state.finished is not None:
            return True
        if is_answering or state.status != "waiting":
            return False
        parked = [t for t in state.tasks.values() if t.status == "parked"]
        return bool(state.open_approvals) and all(t.park in NEEDS_A_PERSON and t.wake_at is None for t in parked)


class Account:
    """An account's journal: what is set aside and what was taken, counted apart from the code under test."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rows: list[EventRow] = []
        self.held: dict[str, int] = {}
        self.taken = 0

    def add(self, rows: Sequence[EventRow], cap: int | None) -> None:
        """Checks what was appended."""
        for row in rows:
            chained(self, row)
            self.rows.append(row)
            self._count(to_event(row).body)
        if cap is not None and self.taken + sum(self.held.values()) > cap:
            raise Violation("limits hold", f"{self.run}: {self.taken} taken, {self.held} set aside of {cap} tokens")

    def _count(self, body: b.Body) -> None:
        if isinstance(body, b.AccountDrawn):
            if body.draw in self.held:
                raise Violation("limits hold", f"{body.draw} was drawn twice")
            self.held[body.draw] = body.allotment.tokens or 0
        elif isinstance(body, b.AccountSettled):
            self.held.pop(body.draw, None)
            self.taken += body.usage.tokens


def from_scratch(history: History) -> None:
    """The state folded as the run grew is the state folded from its stored bytes."""
    again = fold(to_event(row) for row in (*history.inherited, *history.rows))
    if msgspec.json.encode(again) != msgspec.json.encode(history.state):
        raise Violation("fold is the same from scratch", f"{history.run} at seq {len(history.rows)}")


def chained(history: History | Account, row: EventRow) -> None:
    """The row follows the one before it, in number and in the chain."""
    last = history.rows[-1] if history.rows else None
    if row.seq != (last.seq if last else 0) + 1:
        raise Violation("seq without gaps", f"{row.run}: {row.seq} follows {last.seq if last else 0}")
    mac = mac_of(
        PUBLIC_KEY,
        last.mac if last else GENESIS,
        run=row.run,
        seq=row.seq,
        id_=row.id,
        tenant=row.tenant,
        type_=row.type,
        v=row.v,
        at_us=row.at_us,
        task=row.task,
        attempt=row.attempt,
        digest=row.digest,
    )
    if mac != row.mac:
        raise Violation("chain verifies", f"{row.run} at seq {row.seq}")


def fenced(attempts: Attempts, event: Event) -> None:
    """Attempts come one after the other, start once, and write only while they are open."""
    if event.task is None or event.attempt is None:
        return
    task, number = event.task, event.attempt
    newest, is_open = attempts.newest.get(task, 0), attempts.is_open.get(task, False)
    if event.type == "task.ready":
        if is_open or number != newest + 1:
            raise Violation("attempts in order", f"{task}: attempt {number} after {newest}, open: {is_open}")
        if number > MOST_ATTEMPTS:
            raise Violation("work makes headway", f"{task} is tried for the {number}th time")
        attempts.newest[task], attempts.is_open[task] = number, True
        return
    if number != newest or not is_open:
        raise Violation("no stale append", f"{event.type} of {task}/{number}; the newest is {newest}, open: {is_open}")
    if isinstance(event.body, b.TaskStarted):
        if (task, number) in attempts.workers:
            raise Violation("an attempt starts once", f"{task}/{number} at seq {event.seq}")
        attempts.workers[task, number] = event.body.worker
        attempts.started_at[task, event.body.worker] = event.seq
    elif event.type in ("task.parked", "task.lapsed", "task.settled", "task.quarantined"):
        attempts.is_open[task] = False


def talks(history: History, event: Event) -> None:
    """What agents ask and tell each other is asked, told and read once."""
    told = history.colleagues.broken_by(event, history.state)
    if told is not None:
        raise Violation("colleagues are asked and told once", told)


def once(history: History, event: Event) -> None:
    """No step and no call is recorded twice, and none fails for a fault of the code."""
    body, task = event.body, event.task or ""
    if isinstance(body, b.TaskSettled | b.TaskParked) and body.error == "internal":
        raise Violation(
            "no fault of the code",
            f"{task} ended with {body.reason if isinstance(body, b.TaskSettled) else body.detail}",
        )
    if isinstance(body, b.ToolFinished) and body.key is not None:
        history.ended.add(body.key)
    if isinstance(body, b.ToolOutcomeUnknown) and body.key in history.ended:
        raise Violation("a known outcome is not unknown", f"{body.tool} {body.key} at seq {event.seq}")
    if isinstance(body, b.StepProposed):
        if (task, body.step) in history.steps:
            raise Violation("a finished step is not repeated", f"step {body.step} of {task} at seq {event.seq}")
        history.steps[task, body.step] = event.seq
        _follows(history, task, body)
        for index, call in enumerate(body.reply.tool_calls):
            history.items[task, body.step, index] = str(call.arguments.get("item", ""))
    elif isinstance(body, b.ToolFinished):
        place = (task, body.step, body.call)
        if place in history.results:
            raise Violation("a finished step is not repeated", f"call {place} at seq {event.seq}")
        history.results[place] = event.seq
        history.finished_items[task, history.items.get(place, "")] = event.seq


def _follows(history: History, task: str, body: b.StepProposed) -> None:
    """A step is durable only together with everything it builds on."""
    before = body.step - 1
    if body.is_fresh or not before:
        return
    missing = [p for p in history.items if p[:2] == (task, before) and p not in history.results]
    if (task, before) not in history.steps or missing:
        raise Violation("no effect without its cause", f"step {body.step} of {task} without {missing or before}")


def spent_within(state: RunState) -> None:
    """What was taken and what open attempts hold is within the run's limit."""
    limit = state.goal.limits.tokens
    if limit is None:
        return
    held = sum(t.allotment.tokens or 0 for t in state.tasks.values() if t.is_open)
    if state.usage.tokens + held > limit:
        raise Violation("limits hold", f"{state.id} has {state.usage.tokens} spent and {held} held of {limit} tokens")
