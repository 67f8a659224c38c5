"""Replay: a recorded run is run again, and everything it asks of the world outside is answered from the journal.

No model is asked and no tool is called: there are none here. What people said is said again when the run has come as
far as it had come then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.errors import NotFound
from collegium.domain.event import Event, encode_body
from collegium.domain.run import RunState
from collegium.ports import Journal
from collegium.runtime.comparison import Comparison, compare
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.stand_ins import LOOK_S, Progress, ReplayClock, same_question

STALL_S: Final = 20.0
"""A replay that does nothing for so long waits for what will never come."""
_WORK: Final = (b.TaskStarted, b.StepProposed, b.ToolFinished, b.TaskSettled, b.ApprovalRequested, b.RunFinished)


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay.

    ``replies`` and ``results`` were handed out from the journal; ``model_calls`` and ``tool_calls`` were made.
    """

    run: str
    status: str
    comparison: Comparison
    is_answer_identical: bool
    replies: int
    results: int
    model_calls: int = 0
    tool_calls: int = 0
    miss: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether the run went as it had gone."""
        return self.miss is None and self.is_answer_identical and not self.comparison.differences


class Driver:
    """Takes a replay to where the recording ends.

    Args:
        cancel: Ends the run as a user does, with reason and principal.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        scheduler: Scheduler,
        journal: Journal,
        clock: ReplayClock,
        cancel: Callable[[b.RunCancelRequested], Awaitable[None]],
    ) -> None:
        self._progress = progress
        self._recording = progress.recording
        self._scheduler = scheduler
        self._journal = journal
        self._clock = clock
        self._cancel = cancel

    async def drive(self) -> Replayed:
        """Runs the recorded run again and compares. Raises ``ReplayMiss`` only inside the run, never from here."""
        first = self._recording.events[0]
        assert isinstance(first.body, b.RunSubmitted | b.RunForked)  # noqa: S101 - how every run begins
        await self._scheduler.submit(first.run, first.tenant, first.body)
        await self._scheduler.advance(first.run)
        for outside in self._recording.outside:
            if not await self._reached(outside.seq):
                break
            await self._deliver(outside.event)
            self._progress.tell()
        await self._reached(self._recording.events[-1].seq + 1)
        return await self._result(first.run)

    async def _deliver(self, event: Event) -> None:
        body = event.body
        if isinstance(body, b.RunCancelRequested):
            await self._cancel(body)
            return
        if isinstance(body, b.ApprovalAnswered):
            state = await self._scheduler.load(event.run, is_fresh=True)
            body = msgspec.structs.replace(body, approval=self._approval(state, body))
        decision = Decision(body=body, task=event.task)
        await self._scheduler.propose(event.run, lambda _: [decision])

    def _approval(self, state: RunState, answered: b.ApprovalAnswered) -> str:
        """The id that the question has here: tasks side by side may have asked in another order."""
        asked = next((r for r in self._recording.requests() if r.approval == answered.approval), None)
        for approval in state.open_approvals:
            if asked is not None and same_question(approval.request, asked):
                return approval.id
        raise NotFound(f"the question {answered.approval} was not asked again", approval=answered.approval)

    async def _reached(self, seq: int) -> bool:
        """Whether the replay came to where the recording was just before ``seq``; False when it stands still."""
        began = self._recording.starts
        before_it = (e for e in self._recording.events if e.seq < seq)
        wanted = _work(e for e in before_it if e.seq in began or not isinstance(e.body, b.TaskStarted))
        run = self._recording.events[0].run
        before, stood_since = -1, self._clock.monotonic()
        while True:
            events = await self._journal.read(run, 0, 1_000_000)
            have = _work(events)
            if all(have.get(key, 0) >= n for key, n in wanted.items()):
                return True
            if self._recording.miss is not None or isinstance(events[-1].body, b.RunFinished):
                return False
            if len(events) != before:
                before, stood_since = len(events), self._clock.monotonic()
            elif self._clock.monotonic() - stood_since > STALL_S:
                return False
            await self._pass_time(run)
            await self._clock.sleep(LOOK_S)

    async def _pass_time(self, run: str) -> None:
        """Where nothing but time moves the run, time passes."""
        state = await self._scheduler.load(run, is_fresh=True)
        waits = [t.wake_at for t in state.tasks.values() if t.status == "parked" and t.wake_at is not None]
        is_idle = not any(t.is_open for t in state.tasks.values())
        if is_idle and waits:
            self._clock.reach(min(waits))
            await self._scheduler.advance(run)

    async def _result(self, run: str) -> Replayed:
        events = await self._journal.read(run, 0, 1_000_000)
        comparison = compare(self._recording.events, events)
        was, now = _end(self._recording.events), _end(events)
        miss = self._recording.miss
        return Replayed(
            run=run,
            status=(await self._scheduler.load(run, is_fresh=True)).status,
            comparison=comparison,
            is_answer_identical=was == now,
            replies=self._recording.replies,
            results=self._recording.results,
            miss=None if miss is None else miss.message,
        )


def _work(events: Iterable[Event]) -> dict[tuple[str | None, str], int]:
    """How often each task has done what only work brings about."""
    counted: dict[tuple[str | None, str], int] = {}
    for event in events:
        body, key = event.body, (event.task, event.type)
        if isinstance(body, _WORK) or (
            isinstance(body, b.TaskParked) and body.reason in ("retry", "ask", "approval", "outcome_unknown")
        ):
            counted[key] = counted.get(key, 0) + 1
    return counted


def _end(events: Sequence[Event]) -> bytes | None:
    return next((encode_body(e.body) for e in reversed(events) if isinstance(e.body, b.RunFinished)), None)
