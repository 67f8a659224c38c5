"""Long conversations: what a model is still shown, and that nobody can tell an attempt that was taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import FilePresence
from collegium.agents.compaction import FULL_SHARE, Window
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chat import ChatMessage, ModelReply, ModelRequest, ToolCall, estimate_tokens
from collegium.domain.conversation import Turn, converse
from collegium.domain.errors import ContextTooLong, StoreUnavailable
from collegium.domain.event import Draft, Event
from collegium.domain.plan import Plan, Task
from collegium.domain.tool import ToolResult
from collegium.domain.usage import Limits, Usage
from collegium.ports import Receipt
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from collegium.tools.definition import tool

SMALL = msgspec.structs.replace(SCRIPTED_PROFILE, context_tokens=16_000)
STEPS = 500
CLERK = Agent(
    name="clerk",
    kind="operator",
    description="Looks things up.",
    capabilities=("look",),
    prompt="You look things up.",
    tools=("look", "dump"),
    max_steps=STEPS + 10,
)
PLAN = Plan(tasks=(Task(id="do", title="Do it", capability="look", instructions="Look at everything, one by one."),))
LIMITS = Limits(steps_per_task=STEPS + 10)


@tool(effect="read")
async def look(n: int) -> str:
    """Look at one thing."""
    return f"Thing {n} is {'long and winding ' * (n % 7 * 30)}."


@tool(effect="read")
async def dump() -> str:
    """Give it all."""
    return "".join(f"<{n}>" for n in range(15_000))


class Looking(ScriptedModel):
    """Looks at one thing after the other, up to ``last``; it knows where it is only from what it is shown."""

    def __init__(self, last: int = STEPS - 1, *, blocks_at: int | None = None, **options: Any) -> None:
        super().__init__([], **{"profile": SMALL, **options})
        self._last = last
        self._blocks_at = blocks_at
        self.is_blocked = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        shown = request.messages[-1]
        n = int(shown.text.split()[1]) + 1 if shown.role == "tool" else 1
        if n == self._blocks_at:
            self.is_blocked.set()
            await asyncio.Event().wait()
        usage = Usage(input_tokens=1, output_tokens=1, model_calls=1)
        if n > self._last:
            return ModelReply(text="All seen.", usage=usage)
        call = ToolCall(id=f"c{n}", name="look", arguments={"n": n})
        return ModelReply(text=f"Now {n}.", tool_calls=(call,), finish="tool_calls", usage=usage)


def size(request: ModelRequest) -> int:
    """Tokens as the product guesses them, tools and reply included."""
    described = sum(len(msgspec.json.encode(m)) for m in (*request.messages, *request.tools))
    return described // 3 + request.max_output_tokens


def sent(requests: Sequence[ModelRequest]) -> list[bytes]:
    return [msgspec.json.encode(r) for r in requests]


def check_pairs(messages: Sequence[ChatMessage]) -> None:
    """Every result stands behind its call, every call has its result, and the task is still there."""
    open_calls: list[str] = []
    for message in messages:
        if message.role == "tool":
            assert message.call_id == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [c.id for c in message.tool_calls]
    assert not open_calls
    assert messages[0] == ChatMessage(role="system", text=CLERK.prompt)
    assert messages[1].text.startswith("Look at everything, one by one.")


async def undisturbed(model: ScriptedModel) -> list[Event]:
    async with team(model, tools=[look, dump], agents=[CLERK]) as app:
        run = await app.submit("x", plan=PLAN, limits=LIMITS)
        report = await asyncio.wait_for(run.result(), 60)
        assert report.status == "succeeded", report
        return [e async for e in app.events(run.id)]


async def test_500_steps_fit_a_small_model() -> None:
    model = Looking()
    events = await undisturbed(model)
    assert len(model.requests) == STEPS
    assert max(size(r) for r in model.requests) < (FULL_SHARE + 0.05) * SMALL.context_tokens
    for request in model.requests:
        check_pairs(request.messages)
    assert "recall" not in [t.name for t in model.requests[1].tools]
    assert [t.name for t in model.requests[-1].tools] == ["dump", "look", "recall"]
    compactions = [e.body for e in events if isinstance(e.body, b.ContextCompacted)]
    assert 10 < len(compactions) < STEPS / 4
    assert compactions[-1].summary in model.requests[-1].messages[1].text
    steps = [e.body for e in events if isinstance(e.body, b.StepProposed)]
    assert all(len(s.added) == 0 for s in steps[1:]), "what was said is stored once, compaction or not"


class DiskGone:
    """A journal that from a moment on keeps nothing more: what the process still appends is lost, as in a crash."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.is_gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, run: str, drafts: Sequence[Draft], **options: Any) -> Receipt:
        if self.is_gone:
            return Lost()
        receipt: Receipt = self._inner.append(run, drafts, **options)
        return receipt


class Lost:
    async def durable(self) -> tuple[Any, ...]:
        raise StoreUnavailable("the process is dead")


@pytest.mark.parametrize("at", [2, 300, 301, 302])
async def test_after_a_crash_the_requests_are_the_same_byte_for_byte(tmp_path: Path, at: int) -> None:
    whole = Looking()
    await undisturbed(whole)
    first, second = Looking(blocks_at=at), Looking()
    stores = replace(memory_stores(SystemClock()), presence=FilePresence(tmp_path))
    journal = DiskGone(stores.journal)
    async with team(first, tools=[look, dump], agents=[CLERK], stores=replace(stores, journal=journal)) as app:
        run = await app.submit("x", plan=PLAN, limits=LIMITS)
        await asyncio.wait_for(first.is_blocked.wait(), 30)
        journal.is_gone = True
    heirs = own_bus(stores)
    async with team(second, tools=[look, dump], agents=[CLERK], stores=heirs) as heir:
        resumed = await heir.resume(run.id)
        assert (await asyncio.wait_for(resumed.result(), 60)).status == "succeeded"
    assert len(first.requests) == at
    assert sent(first.requests) == sent(whole.requests[:at])
    assert sent(second.requests) == sent(whole.requests[at - 1 :])


async def test_a_refused_request_is_compacted_harder_and_sent_once_more() -> None:
    class Narrow(Looking):
        """Claims more context than it has."""

        def __init__(self) -> None:
            super().__init__(60, profile=SCRIPTED_PROFILE)
            self.refused: list[ModelRequest] = []

        async def complete(self, request: ModelRequest) -> ModelReply:
            if size(request) > 12_000:
                self.refused.append(request)
                raise ContextTooLong("the prompt is too long: maximum context length 12000")
            return await super().complete(request)

    model = Narrow()
    events = await undisturbed(model)
    assert 1 <= len(model.refused) < 10
    assert len(model.requests) == 61
    assert len([e for e in events if e.type == "context.compacted"]) == len(model.refused)
    assert {e.attempt for e in events if e.task == "do" and e.attempt is not None} == {1}
    for request in model.requests:
        check_pairs(request.messages)


@pytest.mark.parametrize(("at", "told"), [(1, "no older steps that could be left out"), (4, "replaced by a summary")])
async def test_what_is_refused_again_fails_clearly(at: int, told: str) -> None:
    class Refusing(Looking):
        count = 0

        async def complete(self, request: ModelRequest) -> ModelReply:
            self.count += 1
            if self.count >= at:
                raise ContextTooLong("maximum context length is 7; send less")
            return await super().complete(request)

    model = Refusing()
    async with team(model, tools=[look, dump], agents=[CLERK]) as app:
        run = await app.submit("x", plan=PLAN, limits=msgspec.structs.replace(LIMITS, tokens=60_000))
        report = await asyncio.wait_for(run.result(), 20)
    assert (report.status, report.plan.tasks[0].attempts) == ("failed", 1)
    assert told in str(report.missing) + str(report.reason)
    assert model.count == (at if at == 1 else at + 1)
    assert report.usage.input_tokens < 100, "a refused request has spent nothing"


async def test_a_result_that_is_too_large_is_cut_and_can_be_looked_at_on() -> None:
    whole = "".join(f"<{n}>" for n in range(15_000))
    shown: list[str] = []

    def offset() -> int:
        return int(shown[-1].rpartition("offset=")[2].split(")")[0].split(":")[0])

    class Reading(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            self.requests.append(request)
            last = request.messages[-1]
            if last.role != "tool":
                calls = (ToolCall(id="d", name="dump", arguments={}),)
            else:
                shown.append(last.text)
                if "the end:" in last.text:
                    return ModelReply(text="Read.")
                arguments = {"step": 1, "offset": offset()}
                calls = (ToolCall(id=f"r{len(shown)}", name="recall", arguments=arguments),)
            return ModelReply(tool_calls=calls, finish="tool_calls")

    model = Reading([], profile=SMALL)
    events = await undisturbed(model)
    assert max(size(r) for r in model.requests) < SMALL.context_tokens
    head, *parts = shown
    pieces = [head.partition("\n[cut:")[0], *(p.partition("\n")[2] for p in parts)]
    assert "".join(pieces) == whole
    finished = [e.body for e in events if isinstance(e.body, b.ToolFinished)]
    assert [(f.tool, f.effect) for f in finished] == [("dump", "read"), *[("recall", "read")] * len(parts)]
    assert finished[0].result.text == whole, "the journal keeps all of it"


async def test_who_sees_everything_has_nothing_to_recall() -> None:
    call = ToolCall(id="r", name="recall", arguments={"step": 1})
    steps = [
        Step(tool_calls=(call,)),
        Step(expect_last=("recall is not granted",), reply="All right."),
    ]
    async with ScriptedModel(steps) as model:
        await undisturbed(model)


async def test_a_model_that_is_given_its_tools_as_a_schema_fits_too() -> None:
    class Choosing(Looking):
        async def complete(self, request: ModelRequest) -> ModelReply:
            self.requests.append(request)
            last = request.messages[-1].text
            n = int(last.split()[4]) + 1 if last.startswith("Result of look:") else 1
            choice = {"tool": "look", "arguments": {"n": n}} if n < 60 else {"answer": "All seen."}
            return ModelReply(text=msgspec.json.encode(choice).decode())

    profile = msgspec.structs.replace(SMALL, tool_mode="schema", context_tokens=8_000)
    model = Choosing(profile=profile)
    events = await undisturbed(model)
    assert len(model.requests) == 60
    assert max(size(r) for r in model.requests) < 0.8 * profile.context_tokens
    assert "- recall: Show the result" in model.requests[-1].messages[0].text
    assert len([e for e in events if e.type == "context.compacted"]) > 5


async def test_calls_that_are_too_many_are_answered_all_the_same() -> None:
    calls = tuple(ToolCall(id=f"c{n}", name="look", arguments={"n": n}) for n in range(20))
    model = ScriptedModel([Step(tool_calls=calls), Step(reply="All right.")])
    await undisturbed(model)
    answers = [m for m in model.requests[1].messages if m.role == "tool"]
    assert [m.call_id for m in answers] == [c.id for c in calls]
    assert [n for n, m in enumerate(answers) if "not carried out" in m.text] == [16, 17, 18, 19]


# The window itself


def turn(step: int, *results: str, added: tuple[ChatMessage, ...] = (), is_fresh: bool = False, said: str = "") -> Turn:
    calls = tuple(ToolCall(id=f"{step}.{n}", name="look", arguments={"n": n}) for n in range(len(results)))
    return Turn(
        proposed=b.StepProposed(
            step=step,
            added=added,
            reply=ChatMessage(role="assistant", text=said, tool_calls=calls),
            finish="tool_calls" if calls else "stop",
            model="m",
            usage=Usage(),
            request_sha256="",
            is_fresh=is_fresh,
        ),
        finished={
            n: b.ToolFinished(
                step=step, call=n, tool="look", effect="read", call_id=f"{step}.{n}", result=ToolResult(text=text)
            )
            for n, text in enumerate(results)
        },
    )


OPENING = (
    ChatMessage(role="system", text=CLERK.prompt),
    ChatMessage(role="user", text="Look at everything, one by one."),
)
NEXT = ModelRequest(messages=(), max_output_tokens=500)


@pytest.mark.parametrize("seed", range(30))
def test_any_conversation_stays_bounded_whole_and_the_same_for_an_heir(seed: int) -> None:
    random = Random(seed)
    profile = msgspec.structs.replace(SMALL, context_tokens=random.choice([4_000, 16_000, 64_000]))
    window, turns, last = Window(profile), [turn(1, "first", added=OPENING, is_fresh=True)], None
    for step in range(2, 150):
        window.take(turns)
        compacted = window.compact(NEXT)
        last = compacted or last
        messages = window.messages
        check_pairs(messages)
        assert size(ModelRequest(messages=messages, max_output_tokens=500)) < 0.95 * profile.context_tokens
        heir = Window(profile, last)
        heir.take(turns)
        assert heir.compact(NEXT) is None
        assert heir.messages == messages
        assert heir.is_shortened == window.is_shortened
        texts = ["x" * random.choice([0, 50, 900, 9_000]) for _ in range(random.choice([0, 1, 1, 2, 16]))]
        told = (ChatMessage(role="user", text=f"Mind {step}."),) if random.random() < 0.1 else ()
        turns.append(turn(step, *texts, added=told, said="é" * random.choice([0, 10, 500])))
    assert last is not None


def test_a_fresh_start_forgets_the_compaction_before_it() -> None:
    window = Window(SMALL)
    turns = [turn(n, "x" * 9_000, added=OPENING if n == 1 else (), is_fresh=n == 1) for n in range(1, 12)]
    window.take(turns)
    before = window.compact(NEXT)
    assert before is not None
    turns.append(turn(12, "y", added=(ChatMessage(role="user", text="Anew."),), is_fresh=True))
    for shown in (window, Window(SMALL, before)):
        shown.take(turns)
        assert [m.text for m in shown.messages] == ["Anew.", "", "y"]
        assert not shown.is_shortened


def test_the_summary_says_what_happened() -> None:
    window = Window(SMALL)
    turns = [
        turn(n, f"Thing {n}. " + "x" * 4_000, added=OPENING if n == 1 else (), said=f"Now {n}.") for n in range(1, 41)
    ]
    turns[7] = turn(8, "failed", "fine", added=(ChatMessage(role="user", text="Mind the\nthird shelf."),))
    turns[7].finished[0] = msgspec.structs.replace(
        turns[7].finished[0], result=ToolResult(text="no shelf", is_ok=False)
    )
    window.take(turns)
    compacted = window.compact(NEXT)
    assert compacted is not None
    lines = compacted.summary.splitlines()
    assert lines[0].startswith(f"[Steps 1 to {compacted.upto_step - 1} of this conversation are left out")
    listed = int(lines[1].removeprefix("Up to step ").partition(":")[0])
    assert lines[1].endswith(f": look {listed + 1} times (1 failed).")
    assert lines[2] == "Before step 8 you were told: Mind the third shelf."
    assert lines[3] == f"Step {listed + 1}, you said: Now {listed + 1}."
    assert lines[4].startswith(f'Step {listed + 1}: look({{"n": 0}}) gave 4,0')
    assert f'"Thing {listed + 1}. xxx' in lines[4]
    assert estimate_tokens(compacted.summary) < 0.05 * SMALL.context_tokens


def test_what_was_recorded_is_what_the_next_attempt_reads() -> None:
    bodies: list[b.Body] = [turn(1, added=OPENING).proposed, b.ContextCompacted(upto_step=2, summary="s")]
    events = [
        Event(
            id=str(n),
            tenant="t",
            run="r",
            seq=n,
            type="context.compacted",
            v=1,
            at=SystemClock().now(),
            body=body,
            mac="",
            task="do",
            attempt=1,
        )
        for n, body in enumerate(bodies, 1)
    ]
    talk = converse(events, "do")
    assert talk.compacted == bodies[1]
    assert converse(events[1:], "do", converse(events[:1], "do")) == talk
