from __future__ import annotations

import json

import jsonschema
import pytest

from collegium.agents.schema_tools import from_schema, to_schema
from collegium.domain.chat import ChatMessage, ModelReply, ModelRequest, ToolCall, ToolSpec
from collegium.domain.errors import ModelReplyError
from collegium.tools.builtin import builtin_tools
from collegium.tools.toolbox import Toolbox

LOOK = ToolSpec(
    name="look",
    description="Look something up.",
    parameters={"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
)
ASKED = ModelRequest(
    messages=(
        ChatMessage(role="system", text="You look things up."),
        ChatMessage(role="user", text="Who?"),
        ChatMessage(role="assistant", tool_calls=(ToolCall(id="c1", name="look", arguments={"what": "who"}),)),
        ChatMessage(role="tool", text="Ada", call_id="c1", name="look"),
    ),
    tools=(LOOK,),
)


def test_a_request_carries_the_tools_in_words_and_the_choice_as_schema() -> None:
    sent = to_schema(ASKED)
    assert sent.tools == ()
    assert "look: Look something up." in sent.messages[0].text
    assert json.loads(sent.messages[2].text) == {"tool": "look", "arguments": {"what": "who"}}
    assert (sent.messages[3].role, sent.messages[3].text) == ("user", "Result of look:\nAda")
    assert sent.output_schema is not None
    for choice in ({"tool": "look", "arguments": {"what": "x"}}, {"answer": "Ada"}):
        jsonschema.validate(choice, sent.output_schema)
    for wrong in ({"tool": "fly", "arguments": {}}, {"tool": "look", "arguments": {}}, {"answer": 5}, {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, sent.output_schema)


def test_a_request_without_tools_only_loses_its_native_calls() -> None:
    sent = to_schema(ModelRequest(messages=ASKED.messages))
    assert sent.output_schema is None
    assert [m.role for m in sent.messages] == ["system", "user", "assistant", "user"]


def test_a_choice_becomes_a_call_and_an_answer_a_text() -> None:
    call = from_schema(ModelReply(text='{"tool": "look", "arguments": {"what": "x"}}'), call_id="call_7")
    assert call.tool_calls == (ToolCall(id="call_7", name="look", arguments={"what": "x"}),)
    assert (call.finish, call.text) == ("tool_calls", "")
    assert from_schema(ModelReply(text='{"answer": "Ada"}'), call_id="c").text == "Ada"


HALF = '{"answer": "\\ud800"}'
NO_NUMBER = '{"tool": "look", "arguments": {"what": NaN}}'


@pytest.mark.parametrize(
    "text", ["Ada", '{"tool": "lo', "[]", '{"answer": 3}', "", HALF, NO_NUMBER, "[" * 100_000, '{"answer": "\ud800"}']
)
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(ModelReplyError):
        from_schema(ModelReply(text=text), call_id="c")


def test_references_of_a_tool_are_written_out() -> None:
    specs = tuple(d.spec for d in Toolbox(builtin_tools()).definitions)
    sent = to_schema(ModelRequest(messages=ASKED.messages[:1], tools=specs))
    assert sent.output_schema is not None
    assert "$ref" not in json.dumps(sent.output_schema)
    query = next(s for s in specs if s.name == "query_table")
    assert "$defs" in query.parameters
    jsonschema.Draft202012Validator.check_schema(sent.output_schema)
