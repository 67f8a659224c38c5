"""What must hold in every world, after every durable event and at the end."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence

from collegium.adapters.admission import Append
from collegium.adapters.rows import EventRow, to_event
from collegium.domain import body as b
from collegium.domain.decide import wake_at
from collegium.domain.errors import CollegiumError
from collegium.domain.run import RunState, apply
from collegium.runtime.accounts import is_account
from tests.simulation.history import (
    AFTER_THE_END,
    LATE,
    SCRATCH_EVERY,
    Account,
    History,
    Violation,
    chained,
    fenced,
    from_scratch,
    once,
    spent_within,
    talks,
)
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.outside import Ask, Call, Outside, Process


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
            self._checked(lambda: account.add(rows, self._cap_tokens))
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
        if self.outside.times(tool, key) > 1:
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
        chained(history, row)
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
        fenced(history.attempts, event)
        once(history, event)
        talks(history, event)
        history.state = apply(state, event)
        if isinstance(event.body, b.RunSubmitted):
            self._runs[_mark(event.body.goal.text)] = [event.run]
        if len(history.rows) % SCRATCH_EVERY == 0 or event.type == "run.finished":
            from_scratch(history)
        spent_within(history.state)

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
