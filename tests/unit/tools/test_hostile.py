"""Tools that do what no tool should: the agent is told, the worker lives, and nothing large or broken is stored."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collegium.domain import body as b
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ToolError, UsageError
from collegium.domain.event import encode_body
from collegium.domain.plan import Plan, Task
from collegium.domain.tool import ToolResult
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.outcome import LIMIT_BYTES, OutcomeUnknown
from collegium.tools.thread import MAX_LEFT

MB = 1_000_000
KINDS = ["sync", "async"]


class Stop(BaseException): ...


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Odd(str):
    """A text that is none of its own opinion."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        raise SystemExit

    def isascii(self) -> bool:
        raise SystemExit


def made(function: Callable[[], Any], kind: str, **options: Any) -> FunctionTool:
    async def later() -> Any:
        return function()

    def now() -> Any:
        return function()

    return tool(**{"effect": "read", "name": "bad", "timeout_s": 20, **options})(later if kind == "async" else now)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


THROWN = [
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError("me"),
    GeneratorExit(),
    Stop("now"),
    Mute(),
    MemoryError(),
    RecursionError("deep"),
    StopAsyncIteration(),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", THROWN, ids=lambda e: type(e).__name__)
async def test_whatever_it_raises_is_a_failed_result(context: ToolContext, kind: str, error: BaseException) -> None:
    result = await made(raising(error), kind).call({}, context)
    assert not result.is_ok
    assert result.text.startswith(f"bad failed: {type(error).__name__}: ")
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", THROWN, ids=lambda e: type(e).__name__)
async def test_a_write_that_does_so_may_have_happened(context: ToolContext, kind: str, error: BaseException) -> None:
    with pytest.raises(OutcomeUnknown, match="not known whether it took effect"):
        await made(raising(error), kind, effect="write").call({}, context)


async def test_a_text_of_an_exception_is_bounded_and_can_be_stored(context: ToolContext) -> None:
    result = await made(raising(ValueError("\ud800\0" * 10 * MB)), "sync").call({}, context)
    assert len(result.text.encode()) < LIMIT_BYTES + 200
    with pytest.raises(OutcomeUnknown) as caught:
        await made(raising(ValueError("\ud800\0" * MB)), "sync", effect="write").call({}, context)
    assert len(caught.value.message.encode()) < 3_000


@contextmanager
def peak_mb(limit_mb: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit_mb * MB
    finally:
        tracemalloc.stop()


LARGE: list[tuple[str, Callable[[], Any], float]] = [
    ("text", lambda: "x" * 50 * MB, 120),
    ("wide text", lambda: "é" * 25 * MB, 160),
    ("bytes", lambda: b"x" * 50 * MB, 220),
    ("list", lambda: ["x" * 1000] * 50_000, 170),
    ("result", lambda: ToolResult(text="x" * 50 * MB, data={"rows": ["x" * 1000] * 50_000}), 220),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("make", "limit_mb"), [x[1:] for x in LARGE], ids=[x[0] for x in LARGE])
async def test_50_mb_are_cut_and_said_so(
    context: ToolContext, kind: str, make: Callable[[], Any], limit_mb: float
) -> None:
    with peak_mb(limit_mb):
        result = await made(make, kind).call({}, context)
    assert "[cut: the first 102,400 of 5" in result.text
    assert len(msgspec.json.encode(result)) < LIMIT_BYTES + 500


async def test_how_much_is_kept_is_the_tools_to_say(context: ToolContext) -> None:
    result = await made(lambda: "x" * 5_000, "sync", limit_bytes=1_000).call({}, context)
    assert result.text == "x" * 1_000 + "\n[cut: the first 1,000 of 5,000 bytes; ask for less at a time]"
    with pytest.raises(UsageError, match="limit_bytes=0"):
        made(str, "sync", limit_bytes=0)


def nested() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(50_000):
        inner = [inner]
    return inner


STRANGE: list[tuple[str, Callable[[], Any]]] = [
    ("lock", threading.Lock),
    ("huge number", lambda: 10**5_000),
    ("itself", nested),
    ("deep", deep),
    ("broken bytes", lambda: b"\xff\xfe\x00"),
    ("surrogates in data", lambda: ["\ud800"]),
    ("keys", lambda: {(1, 2): 3}),
    ("generator", lambda: (n for n in range(3))),
    ("text is none", lambda: ToolResult(text=5)),  # type: ignore[arg-type]
    ("data is none", lambda: ToolResult(text="x", data=[1])),  # type: ignore[arg-type]
    ("data no store keeps", lambda: ToolResult(text="x", data={"k": threading.Lock()})),
    ("data with surrogates", lambda: ToolResult(text="x", data={"k": "\udfff"})),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [x[1] for x in STRANGE], ids=[x[0] for x in STRANGE])
async def test_what_is_no_json_is_a_failed_result(context: ToolContext, kind: str, make: Callable[[], Any]) -> None:
    looked = await made(make, kind).call({}, context)
    assert not looked.is_ok
    assert "neither text nor JSON" in looked.text
    done = await made(make, kind, effect="write").call({}, context)
    assert done.is_ok, "it returned: an agent that is told of a failure would do it again"
    assert "bad was carried out; what came of it cannot be shown" in done.text


async def test_a_text_with_its_own_opinion_is_only_a_text(context: ToolContext) -> None:
    assert await made(lambda: Odd("odd"), "async").call({}, context) == ToolResult(text="odd")
    assert await made(lambda: ToolResult(text=Odd("odd")), "sync").call({}, context) == ToolResult(text="odd")


async def test_data_is_what_will_be_read_back(context: ToolContext) -> None:
    result = await made(lambda: ToolResult(text="x", data={"k": (1, 2), "path": None}), "sync").call({}, context)
    assert result.data == {"k": [1, 2], "path": None}


async def test_who_does_not_listen_is_left_behind(context: ToolContext, caplog: pytest.LogCaptureFixture) -> None:
    is_over = asyncio.Event()

    @tool(effect="read", timeout_s=0.02)
    async def deaf() -> None:
        while not is_over.is_set():
            try:
                await is_over.wait()
            except asyncio.CancelledError:
                continue

    result = await asyncio.wait_for(deaf.call({}, context), 10)
    assert "gave no result within 0.02 s" in result.text
    assert "does not stop when it is told to" in caplog.text
    call = asyncio.ensure_future(deaf.call({}, context))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 10)
    is_over.set()


async def test_a_tool_that_hangs_again_and_again_is_not_called_for_ever(context: ToolContext) -> None:
    may_end = threading.Event()
    hang = made(may_end.wait, "sync", timeout_s=0.01, effect="write")
    for _ in range(MAX_LEFT):
        with pytest.raises(OutcomeUnknown):
            await hang.call({}, context)
    refused = await hang.call({}, context)
    assert not refused.is_ok
    assert f"{MAX_LEFT} earlier calls of tool-bad have not ended" in refused.text
    may_end.set()
    async with asyncio.timeout(10):
        while not (await hang.call({}, context)).is_ok:  # noqa: ASYNC110 - the threads end when they end
            await asyncio.sleep(0.01)


def test_a_fork_is_no_second_worker_and_holds_nobody_up(tmp_path: Path) -> None:
    script = """
        import asyncio, os, sys, time
        from collegium.tools.context import ToolContext
        from collegium.tools.definition import tool

        def fork() -> str:
            child = os.fork()
            if child == 0:
                time.sleep(float(sys.argv[1]))
                return "copy"
            return f"child {child}"

        async def later() -> str:
            return fork()

        context = ToolContext(tenant="t", run="r", task="t", key=None, retriever=None, workspace=None)

        async def main() -> None:
            for function in (fork, later):
                result = await tool(effect="read")(function).call({}, context)
                print(f"{os.getpid() == int(sys.argv[2] or os.getpid())} {result.text}", flush=True)

        sys.argv[2] = str(os.getpid())
        asyncio.run(main())
    """
    for seconds in ("0", "30"):
        command = [sys.executable, "-c", textwrap.dedent(script), seconds, ""]
        path = tmp_path / seconds
        with path.open("w") as out:
            subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=20, check=True)
        lines = path.read_text().splitlines()
        assert [line.split()[:2] for line in lines] == [["True", "child"], ["True", "child"]], "no line by a copy"
        for line in lines:
            with_pid = int(line.split()[-1])
            if seconds == "30":
                os.kill(with_pid, signal.SIGKILL)


# A whole run


PLAN = Plan(
    tasks=(
        Task(id="bad", title="Bad", capability="operate", instructions="Use the bad tool."),
        Task(id="good", title="Good", capability="operate", instructions="Use the good tool."),
    )
)


class Calling(ScriptedModel):
    """Calls the tool that its task names, once, and then says what it was told."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        last = request.messages[-1]
        if last.role == "tool":
            return ModelReply(text=f"I was told: {last.text[:60]}")
        name = "bad" if "bad tool" in last.text else "good"
        return ModelReply(tool_calls=(ToolCall(id="c", name=name, arguments={}),), finish="tool_calls")


@tool(effect="read", capabilities=["operate"])
async def good() -> str:
    """Be good."""
    return "fine"


@pytest.mark.parametrize(
    "bad",
    [
        *(made(raising(e), kind, capabilities=["operate"]) for e in THROWN for kind in KINDS),
        *(made(make, "sync", capabilities=["operate"]) for _, make in STRANGE),
        made(lambda: "x\ud800\0" * 15 * MB, "sync", capabilities=["operate"]),
    ],
)
async def test_a_run_and_its_worker_outlive_it(bad: FunctionTool) -> None:
    async with team(Calling([]), tools=[bad, good]) as app:
        report = await asyncio.wait_for((await app.submit("x", plan=PLAN)).result(), 20)
        assert [t.status for t in report.plan.tasks] == ["succeeded", "succeeded"]
        again = await asyncio.wait_for((await app.submit("y", plan=PLAN)).result(), 20)
        assert again.status == "succeeded"
        events = [e async for e in app.events(report.run_id)]
    finished = {e.body.tool: e.body for e in events if isinstance(e.body, b.ToolFinished)}
    assert finished["good"].result.text == "fine"
    assert max(len(encode_body(e.body)) for e in events) < 2 * LIMIT_BYTES


async def test_a_tool_of_its_own_mind_may_say_that_nothing_was_done(context: ToolContext) -> None:
    result = await made(raising(ToolError("\ud800 no")), "async", effect="write").call({}, context)
    assert result == ToolResult(text="? no", is_ok=False)
