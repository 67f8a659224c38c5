"""What must hold in every world, after every durable event and at the end."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from collegium.adapters.admission import Append
from collegium.adapters.rows import EventRow, to_event
from collegium.domain import body as b
from collegium.domain.chain import GENESIS, PUBLIC_KEY, mac_of
from collegium.domain.decide import wake_at
from collegium.domain.errors import CollegiumError
from collegium.domain.event import Event
from collegium.domain.run import RunState, apply, fold
from collegium.domain.task import TaskState
from collegium.runtime.accounts import is_account
from collegium.testing.simulation.loop import VirtualLoop
from collegium.testing.simulation.machine import Machine
from collegium.testing.simulation.outside import Ask, Call, Outside, Process

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


class _Attempts:
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
        self.attempts = _Attempts()
        self.steps: dict[tuple[str, int], int] = {}
        self.results: dict[tuple[str, int, int], int] = {}
        self.ended: set[str] = set()
        self.items: dict[tuple[str, int, int], str] = {}
        self.finished_items: dict[tuple[str, str], int] = {}

    def inherit(self, parent: History, at_event: str) -> None:
        """Begins as a fork of ``parent`` behind the event ``at_event``: what was done there is not done again."""
        whole = [*parent.inherited, *parent.rows]
        upto = next(n for n, row in enumerate(whole, start=1) if row.id == at_event)
        self.inherited = whole[:upto]
        for row in self.inherited:
            event = to_event(row)
            self.state = apply(self.state, event)
            if event.task is not None:
                _once(self, event)
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

    def add(self, row: EventRow, cap: int | None) -> None:
        """Checks one more event."""
        _chained(self, row)
        self.rows.append(row)
        body = to_event(row).body
        if isinstance(body, b.AccountDrawn):
            if body.draw in self.held:
                raise Violation("limits hold", f"{body.draw} was drawn twice")
            self.held[body.draw] = body.allotment.tokens or 0
        elif isinstance(body, b.AccountSettled):
            self.held.pop(body.draw, None)
            self.taken += body.usage.tokens
        if cap is not None and self.taken + sum(self.held.values()) > cap:
            raise Violation("limits hold", f"{self.run}: {self.taken} taken, {self.held} set aside of {cap} tokens")


class Watch:
    """Looks at everything that becomes durable; keeps the first violation."""

    def __init__(self, outside: Outside, loop: VirtualLoop, *, cap_tokens: int | None, slack_s: float) -> None:
        self.outside = outside
        outside.on_call, outside.on_ask, outside.on_effect = self.called, self.asked, self.happened
        self.histories: dict[str, History] = {}
        self.events = 0
        self.types: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.trace: list[str] = []
        self.accounts: dict[str, Account] = {}
        self._loop = loop
        self._cap_tokens = cap_tokens
        self._slack_s = slack_s
        self._stopped_s: dict[tuple[str, str], float] = {}
        self._digest = hashlib.sha256()
        self._runs: dict[str, list[str]] = {}
        self._spent: Counter[str] = Counter()

    @property
    def digest(self) -> str:
        """A hash of the whole trace: the same for the same seed."""
        return self._digest.hexdigest()

    def _when(self) -> str:
        return f"{self._loop.time():10.4f}"

    def stopped(self, kind: str, name: str, *, is_stopped: bool) -> None:
        """Takes note that a kill switch holds from now on, or will not from now on."""
        self.say(f"{self._when()} {kind} {name} is {'stopped' if is_stopped else 'to be started'}")
        if is_stopped:
            self._stopped_s[kind, name] = self._loop.time()
        else:
            self._stopped_s.pop((kind, name), None)

    def say(self, line: str) -> None:
        """Adds a line to the trace."""
        self.trace.append(line)
        self._digest.update(line.encode() + b"\n")

    def stored(self, request: Append, rows: Sequence[EventRow], writer: str) -> None:
        """Checks an append that has just become durable."""
        for row in rows:
            self.events += 1
            self.types[row.type] += 1
            place = f"{row.task or '-'}/{row.attempt or '-'}"
            self.say(f"{self._when()} {writer} {row.run[-8:]} {row.seq} {row.type} {place} {row.mac.hex()[:8]}")
        if is_account(request.run):
            account = self.accounts.setdefault(request.run, Account(request.run))
            self._checked(lambda: [account.add(row, self._cap_tokens) for row in rows])
            return
        history = self.histories.setdefault(request.run, History(request.run))
        self._checked(lambda: self._events(history, request, rows))

    def _checked(self, check: Callable[[], object]) -> None:
        try:
            check()
        except Violation as violation:
            self.broken(violation)
        except CollegiumError as error:
            self.broken(Violation("events fold", repr(error)))

    def _events(self, history: History, request: Append, rows: Sequence[EventRow]) -> None:
        for row in rows:
            self._event(history, row)
        self._head(history, request)

    def broken(self, violation: Violation) -> None:
        """Keeps the first violation."""
        if self.violation is None:
            self.violation = violation
            self.say(f"VIOLATION {violation}")

    def raise_broken(self) -> None:
        """Raises the violation, if there is one."""
        if self.violation is not None:
            raise self.violation

    def called(self, call: Call) -> None:
        """Checks that a tool may be called now."""
        self.say(f"{self._when()} {call.machine.name} calls {call.tool} for {call.item}")
        history = self.histories[call.run]
        self._may_begin(history, call.machine, call.tool)
        self._may_run(call)
        finished = history.finished_items.get((call.task, call.item))
        if finished is not None and finished < history.attempts.began(call.task, call.machine):
            self.broken(Violation("a finished step is not repeated", f"{call.tool} {call.item} by {call.machine.name}"))

    def asked(self, ask: Ask) -> None:
        """Checks that the model may be asked now."""
        self.say(f"{self._when()} {ask.machine.name} asks for step {ask.step} of {ask.mark}")
        mark = ask.mark.partition("/")[0]
        runs = [self.histories[run] for run in self._runs[mark]]
        if len(runs) == 1:  # of a run and its forks nobody can tell here which of them asks
            self._may_begin(runs[0], ask.machine, "the model")
            for task in _asking(runs[0].state, ask):
                finished = runs[0].steps.get((task, ask.step))
                if finished is not None and finished < runs[0].attempts.began(task, ask.machine):
                    self.broken(Violation("a finished step is not repeated", f"step {ask.step} of {task} in {mark}"))
        self._spent[mark] += ask.usage.tokens
        if self._cap_tokens is not None and sum(self._spent.values()) > self._cap_tokens:
            self.broken(Violation("limits hold", f"all runs took {sum(self._spent.values())} of {self._cap_tokens}"))
        limit = runs[0].state.goal.limits.tokens if runs[0].state is not None else None
        if limit is not None and self._spent[mark] > limit * len(runs):
            self.broken(Violation("limits hold", f"{mark} took {self._spent[mark]} of {limit} tokens"))

    def happened(self, tool: str, key: str) -> None:
        """Checks that an effect has not happened before."""
        self.say(f"{self._when()} {tool} {key} takes effect")
        if self.outside.effects[tool, key] > 1:
            self.broken(Violation("no write fires twice", f"{tool} {key} for {self.outside.items[tool, key]}"))

    def check_ledger(self, history: History) -> None:
        """What the journal says was done was done, once; what it says was refused was not."""
        for row in history.rows:
            body = to_event(row).body
            if isinstance(body, b.ToolFinished) and body.key is not None:
                count = self.outside.effects[body.tool, body.key]
                # The answer of an idempotent write may be lost: it is told as failed and may have happened.
                wanted = {1} if body.result.is_ok else {0, 1} if body.effect == "idempotent_write" else {0}
                if body.tool in ("put", "pay", "mail") and count not in wanted:
                    raise Violation("the ledger tells the truth", f"{body.tool} {body.key} took effect {count} times")

    def _may_run(self, call: Call) -> None:
        """A switch holds everywhere soon after it was thrown, but for calls that had passed it."""
        task = self.histories[call.run].task(call.task)
        agent = task.agent if task is not None and task.agent is not None else ""
        for place in (("tenant", "default"), ("run", call.run), ("tool", call.tool), ("agent", agent)):
            since = self._stopped_s.get(place)
            is_late = since is not None and self._loop.time() - since > self._slack_s
            if is_late and not call.machine.was_paused:
                self.broken(Violation("a kill switch holds", f"{call.machine.name} calls {call.tool} for {call.item}"))

    def _may_begin(self, history: History, machine: Machine, what: str) -> None:
        state = history.state
        # A process that stood still may have passed its last check before it did.
        if state is not None and state.finished is not None and not machine.was_paused:
            self.broken(Violation("stop means stop", f"{machine.name} calls {what} after {state.id} has ended"))

    def _event(self, history: History, row: EventRow) -> None:
        _chained(history, row)
        history.rows.append(row)
        event = to_event(row)
        if isinstance(event.body, b.RunForked):
            history.inherit(self.histories[event.body.parent], event.body.at_event)
            history.state = apply(history.state, event)
            self._runs[_mark(history.state.goal.text)].append(event.run)
            return
        state = history.state
        if state is not None and state.finished is not None and event.type not in AFTER_THE_END:
            raise Violation("nothing after the end", f"{event.type} at seq {event.seq} of {event.run}")
        if state is not None and state.cancel is not None and event.type in ("task.ready", "task.started"):
            raise Violation("no attempt after a cancel", f"{event.type} of {event.task} at seq {event.seq}")
        _fenced(history.attempts, event)
        _once(history, event)
        history.state = apply(state, event)
        if isinstance(event.body, b.RunSubmitted):
            self._runs[_mark(event.body.goal.text)] = [event.run]
        if len(history.rows) % SCRATCH_EVERY == 0 or event.type == "run.finished":
            from_scratch(history)
        _spent(history.state)

    def _head(self, history: History, request: Append) -> None:
        if request.head is None or history.state is None or request.expected == 0:
            return  # a run that was only just accepted is due at once, whatever it will need
        state, at = history.state, request.entries[-1].draft.at
        if request.head.status != state.status:
            raise Violation("head agrees", f"{state.id} is {state.status}, its head says {request.head.status}")
        due, looked_at = wake_at(state, at), request.head.wake_at
        # Too early costs a look, too late leaves the run alone.
        if due is not None and (looked_at is None or looked_at > due + LATE):
            raise Violation("head agrees", f"{state.id} has to be looked at {due}, its head says {looked_at}")


def _asking(state: RunState | None, ask: Ask) -> list[str]:
    """The tasks on the asking machine that follow the program which is asked about."""
    worker = ask.machine.worker if isinstance(ask.machine, Process) else ""
    opening = f'{{"mark":"{ask.mark}"'
    return [
        t.task.id
        for t in (state.tasks.values() if state is not None else ())
        if t.worker == worker
        and (t.task.instructions.startswith(opening) or ask.mark.endswith(f"/{t.task.capability}"))
    ]


def _mark(text: str) -> str:
    """The mark of the run that a goal's text is about."""
    found = re.search(r"\br\d+", text)
    return found[0] if found else ""


def from_scratch(history: History) -> None:
    """The state folded as the run grew is the state folded from its stored bytes."""
    again = fold(to_event(row) for row in (*history.inherited, *history.rows))
    if msgspec.json.encode(again) != msgspec.json.encode(history.state):
        raise Violation("fold is the same from scratch", f"{history.run} at seq {len(history.rows)}")


def _chained(history: History | Account, row: EventRow) -> None:
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


def _fenced(attempts: _Attempts, event: Event) -> None:
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


def _once(history: History, event: Event) -> None:
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


def _spent(state: RunState) -> None:
    limit = state.goal.limits.tokens
    if limit is None:
        return
    held = sum(t.allotment.tokens or 0 for t in state.tasks.values() if t.is_open)
    if state.usage.tokens + held > limit:
        raise Violation("limits hold", f"{state.id} has {state.usage.tokens} spent and {held} held of {limit} tokens")
