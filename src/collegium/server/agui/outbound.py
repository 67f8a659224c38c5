"""Events of a run as those of AG-UI, in an order that its clients accept.

Source: AG-UI 1.0: a run begins with RUN_STARTED and ends with RUN_FINISHED or RUN_ERROR; what was opened (steps,
messages, tool calls) is closed before it finishes, and nothing is opened twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    Interrupt,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.report import report
from collegium.domain.run import Approval, RunState, apply
from collegium.runtime.inbox import WORDS, YES_NO
from collegium.server.live.change import Token

PIECE: Final = "collegium.token"
CHUNK_CHARS: Final = 4_000
MAX_RESULT_CHARS: Final = 20_000
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


class Translator:
    """Turns what happens in a run into events of AG-UI, from ``start`` until it ``is_over``.

    Args:
        state: The run as it stands at the beginning.
        thread: Id of the thread, as the front end has named it.
        run: Id of this run, as the front end has named it; ours is in the state.
        known: How many events there are already: where the run waited before the last of them, it has gone on.
    """

    def __init__(self, state: RunState, *, thread: str, run: str, known: int = 0) -> None:
        self._is_over = False
        self._state = state
        self._thread, self._run = thread, run
        self._known = known
        self._steps: dict[str, str] = {}
        self._calls: set[str] = set()
        self._shown = shown(state)
        self._at_ms: int | None = None

    def is_over(self) -> bool:
        """Whether the last event was given."""
        return self._is_over

    def start(self) -> Iterator[BaseEvent]:
        """The first events: where the run stands; all there is where it is at rest already."""
        yield RunStartedEvent(thread_id=self._thread, run_id=self._run)
        yield StateSnapshotEvent(snapshot=self._shown)
        yield from self._end_if_at_rest()

    def take(self, event: Event) -> Iterator[BaseEvent]:
        """What ``event`` means to a front end; ends where the run ends or waits for a person alone."""
        self._at_ms = int(event.at.timestamp() * 1_000)
        self._state = apply(self._state, event)
        for one in (*self._told(event), *self._changed()):
            one.timestamp = self._at_ms
            yield one
        yield from self._end_if_at_rest()

    def say(self, token: Token) -> BaseEvent:
        """A piece of what a model is saying: an event of our own, which the protocol has no rule for.

        The answer is what TEXT_MESSAGE_CONTENT brings in the end: what a model says before may be refused, or be meant
        for colleagues.
        """
        return CustomEvent(name=PIECE, value=_plain(token))

    def failed(self, code: str, message: str) -> BaseEvent:
        """The last event where the stream cannot go on; the run itself does."""
        self._is_over = True
        return RunErrorEvent(code=code, message=message)

    def _told(self, event: Event) -> Iterator[BaseEvent]:
        body, task = event.body, event.task
        if isinstance(body, b.TaskStarted) and task is not None and task not in self._steps:
            self._steps[task] = f"{self._state.tasks[task].task.title} ({task})"
            yield StepStartedEvent(step_name=self._steps[task])
        elif isinstance(body, b.TaskParked | b.TaskLapsed | b.TaskSettled | b.TaskQuarantined) and task in self._steps:
            yield StepFinishedEvent(step_name=self._steps.pop(task))
        elif isinstance(body, b.StepProposed):
            yield from self._proposed(event, body)
        elif isinstance(body, b.ToolFinished):
            call = f"{task}-{event.attempt}-{body.step}-{body.call}"
            if call in self._calls:
                self._calls.discard(call)
                text = body.result.text[:MAX_RESULT_CHARS]
                yield ToolCallResultEvent(message_id=f"{event.id}-result", tool_call_id=call, content=text)

    def _proposed(self, event: Event, body: b.StepProposed) -> Iterator[BaseEvent]:
        for number, wanted in enumerate(body.reply.tool_calls):
            call = f"{event.task}-{event.attempt}-{body.step}-{number}"
            if call not in self._calls:
                self._calls.add(call)
                yield ToolCallStartEvent(tool_call_id=call, tool_call_name=wanted.name)
                arguments = json.dumps(wanted.arguments, ensure_ascii=False)
                yield ToolCallArgsEvent(tool_call_id=call, delta=arguments)
                yield ToolCallEndEvent(tool_call_id=call)

    def _changed(self) -> Iterator[BaseEvent]:
        """What is different in the state that was shown."""
        now = shown(self._state)
        changes = [
            {"op": "replace", "path": f"/{name}", "value": value}
            for name, value in now.items()
            if self._shown[name] != value
        ]
        self._shown = now
        if changes:
            yield StateDeltaEvent.model_validate({"delta": changes})

    def _end_if_at_rest(self) -> Iterator[BaseEvent]:
        state = self._state
        is_asking = state.seq >= self._known and state.status == "waiting" and bool(state.open_approvals)
        if state.finished is None and not is_asking:
            return
        self._is_over = True
        for name in self._steps.values():
            yield StepFinishedEvent(step_name=name)
        self._steps.clear()
        if state.finished is None:
            waiting = RunFinishedInterruptOutcome(interrupts=[_interrupt(one) for one in state.open_approvals])
            yield RunFinishedEvent(thread_id=self._thread, run_id=self._run, outcome=waiting, usage=self._usage())
            return
        yield from self._answer()
        yield self._finished(state.finished)

    def _answer(self) -> Iterator[BaseEvent]:
        finished = self._state.finished
        text = "" if finished is None or finished.answer is None else finished.answer.text
        if not text:
            return
        message = f"{self._state.id}-answer"
        yield TextMessageStartEvent(message_id=message, role="assistant")
        for start in range(0, len(text), CHUNK_CHARS):
            yield TextMessageContentEvent(message_id=message, delta=text[start : start + CHUNK_CHARS])
        yield TextMessageEndEvent(message_id=message)

    def _finished(self, finished: b.RunFinished) -> BaseEvent:
        if finished.status in ("failed", "limited"):
            why = finished.reason or finished.error or finished.status
            return RunErrorEvent(code=finished.error or finished.status, message=why, usage=self._usage())
        outcome = RunFinishedCancelledOutcome() if finished.status == "cancelled" else RunFinishedSuccessOutcome()
        made = report(self._state, self._state.finished_at or self._state.submitted_at)
        result = _plain({
            "run_id": made.run_id,
            "status": made.status,
            "citations": () if made.answer is None else made.answer.citations,
            "data": None if made.answer is None else made.answer.data,
            "missing": made.missing,
        })  # fmt: skip
        return RunFinishedEvent(
            thread_id=self._thread, run_id=self._run, result=result, outcome=outcome, usage=self._usage()
        )

    def _usage(self) -> list[TokenUsage]:
        used = self._state.usage
        return [
            TokenUsage(
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                total_tokens=used.input_tokens + used.output_tokens,
                cached_input_tokens=used.cached_input_tokens,
            )
        ]


def shown(state: RunState) -> dict[str, Any]:
    """What a front end is shown of a run beside its messages."""
    return {
        "run_id": state.id,
        "status": state.status,
        "tasks": [
            {
                "id": one.task.id,
                "title": one.task.title,
                "capability": one.task.capability,
                "status": one.status,
                "agent": one.agent,
            }
            for one in state.tasks.values()
        ],
        "questions": [one.id for one in state.open_approvals],
    }


def _interrupt(asked: Approval) -> Interrupt:
    request = asked.request
    words = list(WORDS.get(request.kind, YES_NO))
    return Interrupt(
        id=asked.id,
        reason=f"collegium:{request.kind}",
        message=request.question,
        expires_at=None if request.expires_at is None else request.expires_at.isoformat(),
        response_schema={
            "type": "object",
            "required": ["answer"],
            "properties": {"answer": {"enum": words}, "reason": {"type": "string"}},
        },
        metadata={"collegium": _plain({"tool": request.tool, "arguments": request.arguments})},
    )


def _plain(value: object) -> Any:
    return msgspec.json.decode(_ENCODER.encode(value))
