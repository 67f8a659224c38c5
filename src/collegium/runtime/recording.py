"""A recorded run, as a replay looks things up in it: replies of models, results of tools, words of people."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from collegium.agents.hearing import heard_in
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage, Json, ModelReply, ModelRequest
from collegium.domain.errors import CollegiumError, ContextTooLong, ModelRateLimited
from collegium.domain.event import Event
from collegium.runtime.recorded_asks import RecordedAsks
from collegium.tools.canonical import arguments_sha256
from collegium.tools.ledger import is_write

CRASHES: Final = frozenset({"drain", "stopped", "pinned", "delay"})
"""Reasons of parks that say nothing of the work: its worker went, or was told to."""
_ENDLESS: Final = 2**62
_DIFF_LINES: Final = 60


class Outside(NamedTuple):
    """What came from outside: at ``seq`` it was there, and what is recorded behind that knows of it."""

    seq: int
    event: Event


class _Line(NamedTuple):
    """A point of a task's course at which a model was asked: the reply, a compaction, or how the attempt ended."""

    seq: int
    event: Event
    attempt: int
    """Counted without those that crashes have caused, as a replay counts them."""


class ReplayMiss(CollegiumError):
    """The run asks for something that is not recorded: its agents, prompts, tools or plan are not what they were."""

    code = "replay_miss"


class Recording:
    """What a run was told, by task, in the order in which it asked.

    Attributes:
        miss: The first thing that was asked for and is not recorded.
        replies, results: How many were handed out.
    """

    def __init__(self, events: Sequence[Event], *, shared: Sequence[Event] = ()) -> None:
        """``events`` are the run's own, ``shared`` those of its parents in a fork."""
        self.events = tuple(events)
        self.miss: ReplayMiss | None = None
        self.replies = 0
        self.results = 0
        self._lines: dict[str, deque[_Line]] = defaultdict(deque)
        self._reads: dict[tuple[str, str, str], deque[Event]] = defaultdict(deque)
        self._writes: dict[str, deque[Event]] = defaultdict(deque)
        self._starts: dict[tuple[str, int], int] = {}
        self._agents: dict[tuple[str, int], str] = {}
        self._at_work: set[tuple[str, int]] = set()
        self._attempts: Counter[str] = Counter()
        self._conversation: dict[str, list[ChatMessage]] = defaultdict(list)
        arguments: dict[tuple[str, int, int], Json] = {}
        for event in (*shared, *events):
            if isinstance(event.body, b.StepProposed) and event.task is not None:
                for index, call in enumerate(event.body.reply.tool_calls):
                    arguments[event.task, event.body.step, index] = call.arguments
        for event in shared:
            self._converse(event)
            if event.task is not None:
                self._attempts[event.task] = max(self._attempts[event.task], event.attempt or 0)
        for event in events:
            if event.task is not None:
                self._note(event, event.task, arguments)
        for key, calls in self._reads.items():  # recorded as they ended, and asked for as they were proposed
            self._reads[key] = deque(sorted(calls, key=_place))
        self.outside = tuple(self._outside())
        self.asks = RecordedAsks(events, shared=shared)

    def enter(self, task: str, attempt: int) -> None:
        """Takes note that ``attempt`` is at work: how those before it have ended lies behind."""
        line = self._lines[task]
        while line and line[0].attempt < attempt and not isinstance(line[0].event.body, b.StepProposed):
            line.popleft()

    def may_start(self, task: str, attempt: int, told: int) -> bool:
        """Whether ``attempt`` had begun before anything came from outside that is not there yet."""
        return self._is_told(self._starts.get((task, attempt), _ENDLESS), told)

    @property
    def starts(self) -> frozenset[int]:
        """The ``seq`` at which attempts began; of those that a crash ended before their first step, the last."""
        return frozenset(self._starts.values())

    def agent(self, task: str, attempt: int) -> str | None:
        """Who had ``attempt``, the last of those that crashes have ended; None for one that is not recorded."""
        return self._agents.get((task, attempt))

    def may_call(self, task: str, tool: str | None, told: int) -> bool:
        """The same of the next call of a model, or of ``tool``."""
        return self._is_told(self._next_seq(task, tool), told)

    def may_ask(self, task: str, told: int) -> bool:
        """The same of the next question of ``task`` to a colleague."""
        return self._is_told(self.asks.next_seq(task), told)

    def may_listen(self, task: str, told: int) -> bool:
        """Whether everything that a user had added by the next request of ``task`` is there."""
        wanted = Counter(self.heard(task, _said(e.event for e in self.outside)))
        return wanted <= Counter(_said(e.event for e in self.outside[:told]))

    def heard(self, task: str, said: Sequence[str]) -> tuple[str, ...]:
        """What of ``said`` the agent of ``task`` had heard by its next request."""
        step = self._lines[task][0].event.body if self._lines[task] else None
        added = step.added if isinstance(step, b.StepProposed) else ()
        before = () if isinstance(step, b.StepProposed) and step.is_fresh else self._conversation[task]
        return heard_in(said, [m.text for m in (*before, *added) if m.role == "user"])

    def reply(self, task: str, request: ModelRequest, sha256: str) -> tuple[ModelReply, bool]:
        """The recorded reply to the next request of ``task``, and whether tools were offered with it.

        Raises the error by which the attempt ended there, ``ContextTooLong`` where the request was refused and made
        shorter, or ``ReplayMiss`` with a diff.
        """
        line = self._lines[task][0] if self._lines[task] else None
        if line is not None and not isinstance(line.event.body, b.StepProposed | b.ContextCompacted):
            raise _error(self._lines[task].popleft().event)
        while line is not None and isinstance(line.event.body, b.ContextCompacted):
            self._lines[task].popleft()
            step = next((x.event.body for x in self._lines[task] if isinstance(x.event.body, b.StepProposed)), None)
            if step is None or not self._fits(step, request, sha256):
                raise ContextTooLong("the recorded request was refused here")
            line = self._lines[task][0]
        body = line.event.body if line is not None else None
        if not isinstance(body, b.StepProposed) or not self._fits(body, request, sha256):
            raise self._missed(task, request, body if isinstance(body, b.StepProposed) else None)
        self._converse(self._lines[task].popleft().event)
        self.replies += 1
        reply = ModelReply(
            text=body.reply.text,
            tool_calls=body.reply.tool_calls,
            finish=body.finish,
            usage=body.usage,
            model=body.model,
        )
        return reply, bool(body.tools)

    def result(self, task: str, tool: str, arguments: Json, key: str | None) -> Event:
        """The recorded end of the next call of ``tool``: ``tool.finished``, or ``tool.outcome_unknown``.

        Raises the error by which the attempt ended during the call, or ``ReplayMiss``.
        """
        line = self._writes.get(key) if key is not None else None
        if line is None:
            line = self._reads.get((task, tool, arguments_sha256(arguments)))
        if not line:
            ended = next((x.event for x in self._lines[task] if not isinstance(x.event.body, b.StepProposed)), None)
            if ended is not None and not isinstance(ended.body, b.ContextCompacted):
                raise _error(ended)
            self.miss = self.miss or ReplayMiss(f"task {task!r} calls {tool} with {arguments}: that is not recorded")
            raise self.miss
        self.results += 1
        event = line.popleft()
        self._converse(event)
        return event

    def refusal(self, task: str, tool: str, arguments: Json) -> str | None:
        """Why the next call of a tool that writes was refused before it began; None when it was not."""
        line = self._reads.get((task, tool, arguments_sha256(arguments)))
        body = line[0].body if line else None
        return body.result.text if isinstance(body, b.ToolFinished) and body.effect == "pure" else None

    def rules(self) -> dict[str, str]:
        """Why a person was asked before calls, by tool; repeated writes ask by themselves."""
        calls = {
            (e.task, e.body.step, i): call.name
            for e in self.events
            if isinstance(e.body, b.StepProposed)
            for i, call in enumerate(e.body.reply.tool_calls)
        }
        found: dict[str, str] = {}
        for event in self.events:
            if isinstance(event.body, b.StepJudged) and event.body.decision == "ask":
                tool = calls.get((event.task, event.body.step, event.body.call))
                if tool is not None and " was already called " not in event.body.rule:
                    found.setdefault(tool, event.body.rule)
        return found

    def requests(self) -> Iterator[b.ApprovalRequested]:
        """What people were asked, in order."""
        return (e.body for e in self.events if isinstance(e.body, b.ApprovalRequested))

    def left(self) -> int:
        """How many recorded replies were not asked for."""
        return sum(isinstance(x.event.body, b.StepProposed) for line in self._lines.values() for x in line)

    def _note(self, event: Event, task: str, arguments: dict[tuple[str, int, int], Json]) -> None:
        attempt = self._attempts[task] + 1
        body, line = event.body, _Line(event.seq, event, attempt)
        if isinstance(body, b.StepProposed):
            self._at_work.add((task, attempt))
        if isinstance(body, b.TaskStarted):
            self._agents[task, attempt] = body.agent
        match body:
            case b.TaskStarted() if (task, attempt) not in self._at_work:
                self._starts[task, attempt] = event.seq
            case b.StepProposed() if body.model or body.request_sha256:
                self._lines[task].append(line)
            case b.ContextCompacted() | b.TaskParked(reason="retry") | b.TaskSettled(outcome="failed"):
                self._lines[task].append(line)
            case b.ToolFinished() | b.ToolOutcomeUnknown():
                self._note_call(event, task, arguments)
        if isinstance(body, b.TaskParked) and body.reason not in CRASHES:
            self._attempts[task] += 1

    def _note_call(self, event: Event, task: str, arguments: dict[tuple[str, int, int], Json]) -> None:
        body = event.body
        assert isinstance(body, b.ToolFinished | b.ToolOutcomeUnknown)  # noqa: S101 - who calls has looked
        if body.key is not None and (isinstance(body, b.ToolOutcomeUnknown) or is_write(body.effect)):
            self._writes[body.key].append(event)
        elif isinstance(body, b.ToolFinished):
            called = arguments.get((task, body.step, body.call), {})
            self._reads[task, body.tool, arguments_sha256(called)].append(event)

    def _outside(self) -> Iterator[Outside]:
        for event in self.events:
            if isinstance(event.body, b.RunSaid | b.ApprovalAnswered):
                yield Outside(event.seq, event)
            elif isinstance(event.body, b.RunCancelRequested):
                # What still was recorded between the wish and its first effect was under way already.
                rest = self.events[event.seq - self.events[0].seq + 1 :]
                effects = (e.seq for e in rest if isinstance(e.body, b.TaskSettled | b.RunFinished))
                yield Outside(next(effects, event.seq), event)

    def _is_told(self, seq: int, told: int) -> bool:
        return all(one.seq > seq for one in self.outside[told:])

    def _next_seq(self, task: str, tool: str | None) -> int:
        line = self._lines[task]
        if tool is None:
            return line[0].seq if line else _ENDLESS
        # Calls of one step that look the same end in any order: the first of them must not wait for what the last did.
        waiting = [e.seq for (t, name, _), q in self._reads.items() if (t, name) == (task, tool) for e in q]
        waiting += [q[0].seq for q in self._writes.values() if q and q[0].task == task]
        return min(waiting, default=line[0].seq if line else _ENDLESS)

    def _fits(self, step: b.StepProposed, request: ModelRequest, sha256: str) -> bool:
        if step.request_sha256 == sha256:
            return True
        # Attempts that were lost took their part of the limits with them: the output cap may have been lower then.
        capped = msgspec.structs.replace(request, max_output_tokens=step.max_output_tokens)
        return request_sha256(capped) == step.request_sha256

    def _converse(self, event: Event) -> None:
        body, task = event.body, event.task or ""
        if isinstance(body, b.StepProposed):
            if body.is_fresh:
                self._conversation[task].clear()
            self._conversation[task] += [*body.added, body.reply]
        elif isinstance(body, b.ToolFinished):
            said = ChatMessage(role="tool", text=body.result.text, call_id=body.call_id, name=body.tool)
            self._conversation[task].append(said)

    def _missed(self, task: str, request: ModelRequest, step: b.StepProposed | None) -> ReplayMiss:
        if self.miss is None:
            self.miss = ReplayMiss(self._account(task, request, step), task=task)
        return self.miss

    def _account(self, task: str, request: ModelRequest, step: b.StepProposed | None) -> str:
        if step is None:
            return f"task {task!r} asks the model once more than it is recorded:\n" + _text(request.messages[-1:])
        before = [] if step.is_fresh else self._conversation[task]
        was = _text((*before, *step.added)).splitlines()
        asked = _text(request.messages).splitlines()
        diff = list(difflib.unified_diff(was, asked, "recorded", "asked now", lineterm="", n=1))[:_DIFF_LINES]
        tools = tuple(t.name for t in request.tools)
        if step.tools and tools and tools != step.tools:
            diff.append(f"tools recorded: {', '.join(step.tools)}; now: {', '.join(tools)}")
        others = "(the messages are equal; tools, output schema, temperature or the cap on output tokens are not)"
        return "\n".join([f"step {step.step} of task {task!r} is not what is recorded:", *(diff or [others])])


def _said(events: Iterable[Event]) -> list[str]:
    return [e.body.text for e in events if isinstance(e.body, b.RunSaid)]


def _place(event: Event) -> tuple[int, int]:
    body = event.body
    return (body.step, body.call) if isinstance(body, b.ToolFinished) else (0, 0)


def request_sha256(request: ModelRequest) -> str:
    """What ``step.proposed`` has as ``request_sha256``."""
    plain = msgspec.structs.replace(request, cached_prefix=0)
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def _error(event: Event) -> CollegiumError:
    """The error by which an attempt ended, as it was raised."""
    body = event.body
    assert isinstance(body, b.TaskParked | b.TaskSettled)  # noqa: S101 - nothing else is kept of an attempt's end
    code, text = body.error or "error", body.detail if isinstance(body, b.TaskParked) else body.reason
    kind = next((k for k in _tree(CollegiumError) if k.code == code), CollegiumError)
    if kind is ModelRateLimited:
        return ModelRateLimited(text, retry_after_s=None)
    error = kind.__new__(kind)
    CollegiumError.__init__(error, text)  # some make their text of other things
    return error


def _tree(kind: type[CollegiumError]) -> Iterable[type[CollegiumError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _text(messages: Iterable[ChatMessage]) -> str:
    lines = []
    for message in messages:
        calls = " ".join(f"{c.name}({msgspec.json.encode(c.arguments).decode()})" for c in message.tool_calls)
        lines.append(f"{message.role}: {message.text}{f' -> {calls}' if calls else ''}")
    return "\n".join(lines)
