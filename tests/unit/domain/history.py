"""Random but possible histories of runs: what a store would hold after deciders, workers and crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Literal

from collegium.domain import body as b
from collegium.domain.asking import approval_id
from collegium.domain.chat import ChatMessage
from collegium.domain.decide import decide, resumed
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
        is_reviewed = self.random.random() < 0.3
        goal = Goal(text="do it", limits=self.limits, plan=self.given, is_plan_reviewed=is_reviewed)
        self.write(b.RunSubmitted(goal=goal))

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
        if self.state.open_approvals and self.random.random() < 0.5:
            self.answer()
        elif ready and (not running or self.random.random() < 0.5):
            t = self.random.choice(ready)
            started = b.TaskStarted(worker="w", agent=self.random.choice("ab"), agent_version="1", model="m")
            self.write(started, task=t.task.id, attempt=t.attempt)
        elif running:
            t = self.random.choice(running)
            self.work(t.task.id, t.attempt)
        elif self.state.finished is None:
            self.now += timedelta(seconds=120)
            self.resume()

    def play_on(self, *, cancel_at: int | None = None) -> None:
        """Plays until the run has ended."""
        for n in range(600):
            self.settle_decisions()
            assert self.state is not None
            if self.state.finished is not None:
                return
            if n == cancel_at:
                self.write(b.RunCancelRequested(principal="me"))
            else:
                self.step()
        raise AssertionError("the run does not end")

    def resume(self) -> None:
        """Somebody sets going what was stopped, and answers what is asked."""
        assert self.state is not None
        for decision in resumed(self.state, "me"):
            self.write(decision.body, task=decision.task, attempt=decision.attempt)
        if self.state.open_approvals:
            self.answer()

    def answer(self) -> None:
        """A person answers one open question."""
        assert self.state is not None
        asked = self.random.choice(self.state.open_approvals)
        words = ["done", "not-done", "retry"] if asked.request.kind == "outcome" else ["approve", "approve", "reject"]
        answer = b.ApprovalAnswered(approval=asked.id, answer=self.random.choice(words), principal="me")
        self.write(answer, task=asked.task)

    def ask(self, task: str, attempt: int) -> None:
        """The attempt parks until a person has answered."""
        assert self.state is not None
        kind: Literal["tool", "outcome"] = self.random.choice(["tool", "outcome"])
        expires = self.now + timedelta(seconds=60) if kind == "tool" and self.random.random() < 0.5 else None
        name, key = approval_id(self.state), f"key {len(self.events)}"
        if kind == "outcome":
            self.write(b.ToolOutcomeUnknown(key=key, tool="pay", detail="it is not known"), task=task, attempt=attempt)
        asked = b.ApprovalRequested(approval=name, kind=kind, question="May I?", key=key, expires_at=expires)
        self.write(asked, task=task, attempt=attempt)
        reason: Literal["approval", "outcome_unknown"] = "approval" if kind == "tool" else "outcome_unknown"
        self.write(b.TaskParked(reason=reason), task=task, attempt=attempt)

    def ask_colleagues(self, task: str, attempt: int, usage: Usage) -> None:
        """The attempt parks until colleagues have answered."""
        assert self.state is not None
        mine = self.state.tasks[task].allotment
        for call in range(self.random.randint(1, 2)):
            name = next(n for i in count() if (n := f"{task}-ask-{i}") not in self.state.tasks)
            child = Task(id=name, title="Asked", capability="research", instructions="Who?")
            self.write(
                b.TaskAsked(task=child, step=len(self.events), call=call, allotment=mine), task=task, attempt=attempt
            )
        self.write(b.TaskParked(reason="ask", usage=usage), task=task, attempt=attempt)

    def work(self, task: str, attempt: int) -> None:
        assert self.state is not None
        # What an attempt takes never exceeds what it was allotted: the worker reserves before it calls.
        cap = self.state.tasks[task].allotment.tokens
        usage = Usage(input_tokens=min(self.random.randrange(50), 50 if cap is None else cap), model_calls=1)
        match self.random.randrange(10):
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
                reason: Literal["retry", "delay"] = self.random.choice(["retry", "delay"])
                wake = self.now + timedelta(seconds=1)
                self.write(b.TaskParked(reason=reason, wake_at=wake, usage=usage), task=task, attempt=attempt)
            case 3:
                lapsed = b.TaskLapsed(worker="w", has_progressed=self.random.random() < 0.5, usage=usage)
                self.write(lapsed, task=task, attempt=attempt)
            case 4:
                self.write(
                    b.TaskSettled(outcome="failed", error="tool", reason="no luck", usage=usage),
                    task=task,
                    attempt=attempt,
                )
            case 5:
                self.ask(task, attempt)
            case 6:
                stop: Literal["drain", "stopped", "pinned"] = self.random.choice(["drain", "stopped", "pinned"])
                self.write(b.TaskParked(reason=stop, usage=usage), task=task, attempt=attempt)
            case 7 if task != "plan" and len(self.state.tasks) < 14:
                self.ask_colleagues(task, attempt, usage)
            case _:
                plan = self.plan if task == "plan" else None
                if task in self.state.replans:
                    plan = random_plan(self.random)
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
    history.play_on(cancel_at=random.randrange(12) if is_cancelled else None)
    return history
