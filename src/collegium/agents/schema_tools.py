"""Tool calls for models that have none of their own: a constrained JSON choice of one tool or a final answer.

Conversations always hold native tool calls; these pure functions translate the request on its way out and the reply on
its
way in, so that no agent knows what kind of model it talks to.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from collegium.domain.chat import ChatMessage, Json, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelReplyError


def to_schema(request: ModelRequest) -> ModelRequest:
    """``request`` with its tools described in the system message and the choice among them as output schema."""
    if not request.tools:
        return msgspec.structs.replace(request, messages=tuple(_plain(m) for m in request.messages))
    lines = [f"- {t.name}: {t.description} Arguments: {json.dumps(t.parameters)}" for t in request.tools]
    manual = (
        "You have these tools:\n" + "\n".join(lines) + "\nReply with one JSON object: "
        '{"tool": NAME, "arguments": {...}} to use a tool, or {"answer": TEXT} when you are done.'
    )
    messages = tuple(_plain(m) for m in request.messages)
    if messages and messages[0].role == "system":
        first = msgspec.structs.replace(messages[0], text=f"{messages[0].text}\n\n{manual}")
        messages = (first, *messages[1:])
    else:
        messages = (ChatMessage(role="system", text=manual), *messages)
    return msgspec.structs.replace(
        request, messages=messages, tools=(), tool_choice="auto", output_schema=_choice_schema(request)
    )


def from_schema(reply: ModelReply, *, call_id: str) -> ModelReply:
    """The reply with the chosen tool as a native call, or with the answer as its text.

    Raises ``ModelReplyError`` when the text is no such choice (cut off, or from a server that ignored the schema).
    """
    try:
        # Strict, unlike the standard library: half characters and NaN are nothing that could be stored.
        choice = msgspec.json.decode(reply.text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ModelReplyError(
            f"{reply.model or 'the model'} was asked for a JSON choice of tool or answer and wrote {reply.text[:200]!r}"
        ) from error
    if isinstance(choice, dict) and isinstance(choice.get("tool"), str):
        arguments = choice.get("arguments")
        call = ToolCall(id=call_id, name=choice["tool"], arguments=arguments if isinstance(arguments, dict) else {})
        return msgspec.structs.replace(reply, text="", tool_calls=(call,), finish="tool_calls")
    if isinstance(choice, dict) and isinstance(choice.get("answer"), str):
        return msgspec.structs.replace(reply, text=choice["answer"])
    raise ModelReplyError(f"{reply.model or 'the model'} chose neither a tool nor an answer: {reply.text[:200]!r}")


def _plain(message: ChatMessage) -> ChatMessage:
    """A message without native tool calls."""
    if message.role == "tool":
        return ChatMessage(role="user", text=f"Result of {message.name}:\n{message.text}")
    if message.tool_calls:
        call = message.tool_calls[0]
        return ChatMessage(role="assistant", text=json.dumps({"tool": call.name, "arguments": call.arguments}))
    return message


def _choice_schema(request: ModelRequest) -> Json:
    choices: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {"tool": {"const": t.name}, "arguments": _inlined(t.parameters)},
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for t in request.tools
    ]
    if request.tool_choice != "required":
        choices.append(
            {
                "type": "object",
                "properties": {"answer": {"type": "string"}},
                "required": ["answer"],
                "additionalProperties": False,
            }
        )
    return {"anyOf": choices}


def _inlined(schema: Json) -> Json:
    """``schema`` without ``$defs``: references would not resolve where it is put into another schema."""
    definitions = schema.get("$defs", {})

    def walk(node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(n, inside) for n in node]
        if not isinstance(node, dict):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions:
            # A type within itself cannot be written out: from the second level on anything goes.
            return {} if name in inside else walk(definitions[name], (*inside, name))
        return {key: walk(value, inside) for key, value in node.items() if key != "$defs"}

    plain: Json = walk(schema, ())
    return plain
