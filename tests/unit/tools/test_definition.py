"""Tools made of functions: what calling them gives, whatever the function does."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from collegium.domain.errors import (
    CollegiumError,
    Fenced,
    LimitReached,
    NotFound,
    StoreUnavailable,
    ToolError,
    UsageError,
)
from collegium.domain.tool import ToolResult
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.outcome import LIMIT_BYTES, OutcomeUnknown, Reconciled


class Row(msgspec.Struct):
    name: str
    price: Decimal


@tool(effect="read", capabilities=["operate"])
def double(n: int, context: ToolContext) -> str:
    """Double a number."""
    return f"{context.task}: {n * 2} in {threading.current_thread().name}"


@tool(effect="read", name="shout")
async def _loud(text: str, times: int = 1) -> str:
    return text.upper() * times


def giving(value: object) -> FunctionTool:
    async def give() -> object:
        return value

    return tool(effect="pure")(give)


def raising(error: BaseException, *, effect: str = "read") -> FunctionTool:
    def fail() -> str:
        raise error

    return tool(effect=effect, timeout_s=5)(fail)  # type: ignore[arg-type]


async def test_a_plain_function_is_a_tool(context: ToolContext):
    result = await double.call({"n": 4}, context)
    assert result == ToolResult(text="t1: 8 in tool-double")
    assert double.definition.name == "double"
    assert double.definition.description == "Double a number."
    assert double.definition.capabilities == ("operate",)
    assert list(double.definition.parameters["properties"]) == ["n"]


async def test_an_async_function_is_a_tool_and_keeps_its_defaults(context: ToolContext):
    assert (await _loud.call({"text": "ab"}, context)).text == "AB"
    assert (await _loud.call({"text": "ab", "times": 2}, context)).text == "ABAB"
    assert (_loud.definition.name, _loud.definition.description) == ("shout", "shout")


@pytest.mark.parametrize(
    ("value", "text", "data"),
    [
        ("plain", "plain", None),
        (None, "done", None),
        (3, "3", {"value": 3}),
        ([1, "a"], '[1,"a"]', {"value": [1, "a"]}),
        ({"a": 1}, '{"a":1}', {"a": 1}),
        (Row("x", Decimal("1.10")), '{"name":"x","price":"1.10"}', {"name": "x", "price": "1.10"}),
        (ToolResult(text="t", data={"k": 1}), "t", {"k": 1}),
        ("half \ud800", "half ?", None),
        ("a\0b", "a?b", None),
        (b"caf\xc3\xa9", "café", None),
    ],
)
async def test_whatever_a_function_returns_is_a_result(context: ToolContext, value, text: str, data):
    assert await giving(value).call({}, context) == ToolResult(text=text, data=data)


async def test_what_is_neither_text_nor_json_is_a_failed_result(context: ToolContext):
    result = await giving(threading.Lock()).call({}, context)
    assert not result.is_ok
    assert "returned a lock, which is neither text nor JSON" in result.text


async def test_long_texts_are_cut_and_say_so(context: ToolContext):
    result = await giving("é" * LIMIT_BYTES).call({}, context)
    kept, _, note = result.text.rpartition("\n")
    assert len(kept.encode()) == LIMIT_BYTES
    assert note == f"[cut: the first {LIMIT_BYTES:,} of {2 * LIMIT_BYTES:,} bytes; ask for less at a time]"
    whole = await giving("a" * LIMIT_BYTES).call({}, context)
    assert whole.text == "a" * LIMIT_BYTES


async def test_large_data_is_left_out_and_the_text_says_so(context: ToolContext):
    value = ToolResult(text="many", data={"rows": ["x" * LIMIT_BYTES]})
    result = await giving(value).call({}, context)
    assert result.data is None
    assert "the data is larger than" in result.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ToolError("no such city: Atlantis"), "no such city: Atlantis"),
        (NotFound("gone"), "gone"),
        (ValueError("bad digit"), "fail failed: ValueError: bad digit"),
        (StopIteration("end"), "fail failed: RuntimeError: StopIteration: end"),
        (TimeoutError("the far side"), "fail failed: TimeoutError: the far side"),
    ],
)
async def test_an_exception_is_a_failed_result(context: ToolContext, error: Exception, text: str):
    assert await raising(error).call({}, context) == ToolResult(text=text, is_ok=False)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), Fenced("old"), LimitReached("spent")])
async def test_the_house_failing_is_not_told_to_the_agent(context: ToolContext, error: CollegiumError):
    with pytest.raises(type(error)):
        await raising(error).call({}, context)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_call_that_takes_too_long_is_ended(context: ToolContext, kind: str):
    never = threading.Event()

    def hang() -> bool:
        return never.wait(60)

    async def linger() -> None:
        await asyncio.get_running_loop().create_future()

    slow = tool(effect="read", timeout_s=0.02)(hang if kind == "sync" else linger)
    result = await slow.call({}, context)
    never.set()
    assert not result.is_ok
    assert "gave no result within 0.02 s" in result.text


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), StoreUnavailable("down"), TimeoutError()])
async def test_a_write_that_breaks_off_is_never_called_failed(make_context, error: Exception):
    with pytest.raises(OutcomeUnknown) as caught:
        await raising(error, effect="write").call({}, make_context(key="k-1"))
    assert caught.value.fields["key"] == "k-1"
    assert "not known whether it took effect" in str(caught.value)


async def test_a_write_that_runs_out_of_time_is_never_called_failed(context: ToolContext):
    async def pay() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(OutcomeUnknown, match=r"within 0\.01 s"):
        await tool(effect="write", timeout_s=0.01)(pay).call({}, context)


async def test_a_write_may_say_itself_that_nothing_was_done(context: ToolContext):
    refused = await raising(ToolError("card refused"), effect="write").call({}, context)
    assert refused == ToolResult(text="card refused", is_ok=False)


async def test_wrong_arguments_never_begin_a_write(context: ToolContext):
    begun: list[int] = []

    @tool(effect="write")
    def pay(amount: int) -> None:
        begun.append(amount)

    result = await pay.call({"amount": "ten"}, context)
    assert (result.is_ok, begun) == (False, [])


async def test_cancelling_passes_through(context: ToolContext):
    started = asyncio.Event()

    @tool(effect="write")
    async def wait() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    call = asyncio.ensure_future(wait.call({}, context))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_reconcile_is_asked_and_anything_but_an_answer_is_unknown(context: ToolContext):
    answer = Reconciled(state="done", result=ToolResult(text="paid"))

    def paying(reconcile) -> FunctionTool:
        def pay() -> None: ...

        return tool(effect="write", timeout_s=0.05, reconcile=reconcile)(pay)

    async def ask(key: str, context: ToolContext) -> Reconciled:
        return answer if key == "k" else Reconciled(state="voided")

    async def hang(key: str, context: ToolContext) -> Reconciled:
        return await asyncio.get_running_loop().create_future()

    assert await paying(ask).reconcile("k", context) == answer
    assert (await paying(ask).reconcile("other", context)).state == "voided"
    for mute in (None, hang, lambda key, context: "paid", lambda key, context: 1 / 0):
        assert (await paying(mute).reconcile("k", context)).state == "unknown"


def test_done_needs_a_result_and_nothing_else_has_one():
    with pytest.raises(ValueError):
        Reconciled(state="done")
    with pytest.raises(ValueError):
        Reconciled(state="voided", result=ToolResult(text=""))


def test_the_version_changes_with_what_the_tool_is():
    def one(n: int) -> int:
        """Add one."""
        return n + 1

    def make(function, **more) -> str:
        return tool(**{"effect": "pure", **more})(function).definition.version

    first = make(one)
    assert first == make(one)
    assert first != make(one, name="plus")
    assert first != make(one, effect="read")


def test_without_a_source_the_version_is_of_what_was_compiled():
    def version(added: int) -> str:
        names: dict[str, Any] = {}
        exec(f"def plus(n: int) -> int:\n  return [n + {added} for _ in (1,)][0]", names)
        return tool(effect="pure")(names["plus"]).definition.version

    assert version(1) == version(1) != version(2)


async def stream():
    yield 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tool(effect="pure")(lambda: 1), "'<lambda>' is no tool name"),
        (lambda: tool(effect="pure", name="a b")(print), "'a b' is no tool name"),
        (lambda: tool(effect="deletes")(test_done_needs_a_result_and_nothing_else_has_one), "there are pure, read"),  # type: ignore[arg-type]
        (lambda: tool(effect="pure", timeout_s=0)(print), "timeout_s=0"),
        (lambda: tool(effect="pure")(stream), "is a generator"),
        (lambda: tool(effect="read", reconcile=print)(print), "only a write is reconciled"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_when_it_is_written(make, said: str):
    with pytest.raises(UsageError) as caught:
        make()
    assert said in str(caught.value)


def test_a_call_that_hangs_for_ever_does_not_keep_the_process_from_ending():
    script = """
        import asyncio, threading
        from collegium.adapters.memory.workspace import MemoryWorkspace
        from collegium.tools.context import ToolContext
        from collegium.tools.definition import tool

        @tool(effect="read", timeout_s=0.05)
        def hang() -> None:
            threading.Event().wait()

        context = ToolContext(
            tenant="t", run="r", task="t", key=None, retriever=None, workspace=MemoryWorkspace()
        )
        print(asyncio.run(hang.call({}, context)).text)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "hang gave no result within 0.05 s" in done.stdout
