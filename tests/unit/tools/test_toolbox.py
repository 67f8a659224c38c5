"""The one door through which tools are called."""

import pytest

from collegium.domain.chat import ToolCall
from collegium.domain.errors import ToolError, UnknownName, UsageError
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.toolbox import Toolbox


def named(name: str, done: list[str] | None = None) -> FunctionTool:
    def act(text: str = "") -> str:
        if done is not None:
            done.append(name)
        return f"{name}({text})"

    return tool(effect="read", name=name)(act)


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall(id="c1", name=name, arguments=arguments)


@pytest.fixture
def toolbox() -> Toolbox:
    return Toolbox([named("search"), named("read_input"), named("delete_all")])


def test_two_tools_never_have_one_name():
    with pytest.raises(UsageError, match="two tools named 'search'"):
        Toolbox([named("search"), named("search")])


def test_the_same_grant_always_makes_the_same_prompt(toolbox: Toolbox):
    orders = (["search", "read_input"], ["read_input", "search", "search"], {"search", "read_input"})
    assert {tuple(d.name for d in toolbox.granted(names)) for names in orders} == {("read_input", "search")}
    assert [d.name for d in toolbox.definitions] == ["delete_all", "read_input", "search"]


def test_a_grant_of_nothing_that_exists_is_a_mistake(toolbox: Toolbox):
    with pytest.raises(UnknownName, match="did you mean search"):
        toolbox.granted(["serch"])
    with pytest.raises(UnknownName, match="there are: delete_all, read_input, search"):
        toolbox.matching(["zzz"])


def test_patterns_stand_for_the_tools_they_match(toolbox: Toolbox):
    assert toolbox.matching(["*"]) == {"search", "read_input", "delete_all"}
    assert toolbox.matching(["read_*", "search"]) == {"search", "read_input"}
    assert toolbox.matching(["mcp.*"]) == frozenset()


async def test_a_granted_call_is_made(toolbox: Toolbox, context: ToolContext):
    result = await toolbox.call(call("search", text="x"), granted={"search"}, context=context)
    assert (result.is_ok, result.text) == (True, "search(x)")


@pytest.mark.parametrize(
    ("wanted", "granted", "said"),
    [
        (call("delete_all"), {"search"}, "delete_all is not granted to this task; you may call search"),
        (call("delete_all"), set(), "you may call no tools: answer without"),
        (call("serch"), {"search"}, "there is no tool 'serch'; did you mean search?"),
        (call("delete_al"), {"search"}, "there is no tool 'delete_al'; you may call search"),
        (call("search", txt="x"), {"search"}, "there is no argument 'txt', did you mean 'text'?"),
        (call("search", text=1), {"search"}, "text: expected str, got int"),
    ],
)
async def test_a_call_that_may_not_be_made_is_not(context: ToolContext, wanted: ToolCall, granted: set[str], said: str):
    done: list[str] = []
    toolbox = Toolbox([named("search", done), named("delete_all", done)])
    result = await toolbox.call(wanted, granted=granted, context=context)
    assert not result.is_ok
    assert said in result.text
    with pytest.raises(ToolError):
        toolbox.admit(wanted, granted=granted)
    assert done == []


async def test_admitting_does_nothing_yet(context: ToolContext):
    done: list[str] = []
    toolbox = Toolbox([named("search", done)])
    admitted = toolbox.admit(call("search", text="x"), granted={"search"})
    assert (admitted.definition.name, admitted.bound, done) == ("search", {"text": "x"}, [])
    assert (await toolbox.run(admitted, context)).text == "search(x)"
    assert done == ["search"]


async def test_a_tool_that_is_gone_cannot_be_asked(toolbox: Toolbox, context: ToolContext):
    assert (await toolbox.reconcile("gone", "k", context)).state == "unknown"
    assert (await toolbox.reconcile("search", "k", context)).state == "unknown"
