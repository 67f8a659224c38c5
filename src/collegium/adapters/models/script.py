"""Steps of a script and their strict bookkeeping, shared by ``ScriptedModel`` and the scripted model server."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from collegium.domain.chat import Finish, ModelRequest, ToolCall
from collegium.domain.errors import ModelError, ModelRequestError
from collegium.domain.usage import Usage

_SHOWN = 1_500


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One expected request and its answer.

    Attributes:
        expect: Texts that must all occur somewhere in the request (messages, tools, output schema).
        expect_last: Texts that must all occur in the last message.
        when: Any other condition.
        reply: The text of the answer, or a function of the request that gives it.
        tool_calls: What the model calls; an empty ``id`` is filled in as ``call_<request>_<position>``.
        finish: How the reply ends; without it ``tool_calls`` or ``stop``.
        error: Raised instead of an answer.
        delay_s: Waited before the answer.
        usage: What the call consumes; estimated without it.
        times: How often the step answers; None for any number of times, which also may be never.
        label: What the step is called when it is missed.
    """

    expect: tuple[str, ...] = ()
    expect_last: tuple[str, ...] = ()
    when: Callable[[ModelRequest], bool] | None = None
    reply: str | Callable[[ModelRequest], str] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish | None = None
    error: ModelError | None = None
    delay_s: float = 0.0
    usage: Usage | None = None
    times: int | None = 1
    label: str = ""

    def text_for(self, request: ModelRequest) -> str:
        """The text of the answer to ``request``."""
        return self.reply if isinstance(self.reply, str) else self.reply(request)

    def numbered_calls(self, request_number: int) -> tuple[ToolCall, ...]:
        """The tool calls, each with an id."""
        return tuple(
            call if call.id else msgspec.structs.replace(call, id=f"call_{request_number}_{position}")
            for position, call in enumerate(self.tool_calls)
        )

    def misses(self, request: ModelRequest) -> list[str]:
        """Why ``request`` is not what the step expects; empty where it is."""
        whole = request_text(request)
        last = request.messages[-1].text if request.messages else ""
        missing = [f"the request does not hold {text!r}" for text in self.expect if text not in whole]
        missing += [f"the last message does not hold {text!r}" for text in self.expect_last if text not in last]
        if self.when is not None and not self.when(request):
            missing.append(f"the condition {getattr(self.when, '__name__', 'when')!r} does not hold")
        return missing


class Script:
    """Which step answers which request, and what was neither expected nor used."""

    def __init__(self, steps: Iterable[Step], *, ordered: bool) -> None:
        self._steps = list(steps)
        self._used = [0] * len(self._steps)
        self._ordered = ordered
        self._problems: list[str] = []
        self.requests: list[ModelRequest] = []

    def take(self, request: ModelRequest) -> Step:
        """The step that answers ``request``, counted as used.

        Raises:
            ModelRequestError: no step does; the text says what was expected and what came.
        """
        self.requests.append(request)
        candidates = self._candidates()
        for position in candidates:
            if not self._steps[position].misses(request):
                self._used[position] += 1
                return self._steps[position]
        problem = self._account(request, candidates)
        self._problems.append(problem)
        raise ModelRequestError(problem, request_number=len(self.requests))

    def verify(self) -> None:
        """Raises ``AssertionError`` for requests that no step answered and for steps that were not used up."""
        problems = list(self._problems)
        for position, (step, used) in enumerate(zip(self._steps, self._used, strict=True)):
            if step.times is not None and used < step.times:
                problems.append(f"{self._name(position)} was used {used} of {step.times} times")
        if problems:
            raise AssertionError("the script was not followed:\n" + "\n".join(problems))

    def _candidates(self) -> list[int]:
        """Steps that may answer now: with order, up to the first one that still must."""
        left = []
        for position, (step, used) in enumerate(zip(self._steps, self._used, strict=True)):
            if step.times is not None and used >= step.times:
                continue
            left.append(position)
            if self._ordered and step.times is not None:
                break
        return left

    def _account(self, request: ModelRequest, candidates: list[int]) -> str:
        lines = [f"request {len(self.requests)} was not expected by the script"]
        if not candidates:
            lines.append(f"  all {len(self._steps)} steps are used up")
        for position in candidates[:5]:
            lines += [f"  {self._name(position)}: {miss}" for miss in self._steps[position].misses(request)]
        lines.append("  the request says:")
        text = request_text(request)
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}\n[...]\n{text[-_SHOWN // 2 :]}"
        lines += [f"    {line}" for line in shown.splitlines()]
        return "\n".join(lines)

    def _name(self, position: int) -> str:
        label = self._steps[position].label
        return f"step {position + 1}" + (f" ({label})" if label else "")


def request_text(request: ModelRequest) -> str:
    """Everything that ``request`` says, for matching and for reading: roles, texts, calls, tools, schema."""
    lines = []
    for message in request.messages:
        lines.append(f"{message.role}: {message.text}")
        lines += [f"  calls {c.name} {msgspec.json.encode(c.arguments).decode()}" for c in message.tool_calls]
    lines += [f"tool {tool.name}: {tool.description}" for tool in request.tools]
    if request.output_schema is not None:
        lines.append(f"output schema: {msgspec.json.encode(request.output_schema).decode()}")
    return "\n".join(lines)
