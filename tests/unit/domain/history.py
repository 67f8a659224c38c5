"""Random but possible histories of runs: what a store would hold after deciders, workers and crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from collegium.domain import body as b
from collegium.domain.chat import ChatMessage
from collegium.domain.decide import decide
from collegium.domain.decision import Decision
from collegium.domain.event import Draft, Event
from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task
from collegium.domain.result import TaskResult
from collegium.domain.run import RunState, apply
from collegium.domain.usage import Limits, Usage

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "run_" + "0" * 34


@dataclass
class History:
    """Plays one run: every event is applied as it is written."""

    random: Random
    limits: Limits = field(default_factory=Limits)
    given: Plan | None = None
    now: datetime = START
    events: list[Event] = field(default_factory=list)
    state: RunState | None = None
    plan: Plan | None = None

    def write(self, body: b.Body, *, task: str | None = None, attempt: int | None = None) -> None:
        seq = len(self.events) + 1
        draft = Draft(id=f"evt_{seq}", tenant="t", at=self.now, body=body, task=task, attempt=attempt)
        event = Event(
            id=draft.id, tenant="t", run=RUN, seq=seq, type=draft.type, v=1, at=self.now, body=body, mac="",
            task=task, attempt=attempt,
        )  # fmt: skip
        self.events.append(event)
        self.state = apply(self.state, event)

    def submit(self) -> None:
        self.write(b.RunSubmitted(goal=Goal(text="do it", limits=self.limits, plan=self.given)))

    def settle_decisions(self) -> list[Decision]:
        """Decides until nothing is left to decide; returns all that was decided."""
        assert self.state is not None
        made: list[Decision] = []
        while decisions := decide(self.state, self.now):
            for d in decisions:
                self.write(d.body, task=d.task, attempt=d.attempt)
            made += decisions
            assert len(made) < 500, "deciding does not come to an end"
        return made

    def step(self) -> None:
        """One thing a worker, a user or fate does."""
        assert self.state is not None
        self.now += timedelta(seconds=self.random.choice([0, 0.1, 5]))
        running = [t for t in self.state.tasks.values() if t.status == "running"]
        ready = [t for t in self.state.tasks.values() if t.status == "ready"]
        if ready and (not running or self.random.random() < 0.5):
            t = self.random.choice(ready)
            self.write(
                b.TaskStarted(worker="w", agent="a", agent_version="1", model="m"), task=t.task.id, attempt=t.attempt
            )
        elif running:
            t = self.random.choice(running)
            self.work(t.task.id, t.attempt)
        elif self.state.finished is None:
            self.now += timedelta(seconds=120)

    def work(self, task: str, attempt: int) -> None:
        assert self.state is not None
        # What an attempt takes never exceeds what it was allotted: the worker reserves before it calls.
        cap = self.state.tasks[task].allotment.tokens
        usage = Usage(input_tokens=min(self.random.randrange(50), 50 if cap is None else cap), model_calls=1)
        match self.random.randrange(8):
            case 0 | 1:
                said = ChatMessage(role="assistant", text="hm")
                self.write(
                    b.StepProposed(
                        step=1, added=(), reply=said, finish="stop", model="m", usage=usage, request_sha256=""
                    ),
                    task=task,
                    attempt=attempt,
                )
            case 2:
                wake = self.now + timedelta(seconds=1)
                self.write(b.TaskParked(reason="retry", wake_at=wake, usage=usage), task=task, attempt=attempt)
            case 3:
                lapsed = b.TaskLapsed(worker="w", has_progressed=self.random.random() < 0.5, usage=usage)
                self.write(lapsed, task=task, attempt=attempt)
            case 4:
                self.write(
                    b.TaskSettled(outcome="failed", error="tool", reason="no luck", usage=usage),
                    task=task,
                    attempt=attempt,
                )
            case _:
                plan = self.plan if task == "plan" else None
                result = TaskResult(text=f"result of {task}", plan=plan)
                self.write(b.TaskSettled(outcome="succeeded", result=result, usage=usage), task=task, attempt=attempt)


def random_plan(random: Random) -> Plan:
    names = [f"t{i}" for i in range(random.randint(1, 6))]
    return Plan(
        tasks=tuple(
            Task(
                id=name,
                title=name.upper(),
                capability="research",
                depends_on=tuple(random.sample(names[:i], k=random.randint(0, min(i, 3)))),
                needs=random.choice(["all", "any"]),
            )
            for i, name in enumerate(names)
        )
    )


def play(seed: int, *, limits: Limits | None = None, is_cancelled: bool = False) -> History:
    """A whole run of ``seed``, to its end."""
    random = Random(seed)
    plan = random_plan(random)
    history = History(random, limits=limits or Limits(), given=plan if random.random() < 0.5 else None, plan=plan)
    history.submit()
    cancel_at = random.randrange(12) if is_cancelled else None
    for n in range(400):
        history.settle_decisions()
        assert history.state is not None
        if history.state.finished is not None:
            return history
        if n == cancel_at:
            history.write(b.RunCancelRequested(principal="me"))
            continue
        history.step()
    raise AssertionError(f"seed {seed}: the run does not end")
