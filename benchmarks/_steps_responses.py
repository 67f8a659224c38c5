"""The scripted model server with OpenAI's Responses API in front: what the vendor's SDK speaks.

    python benchmarks/_steps_responses.py SCRIPT

prints its URL and serves until it is ended. Requests are turned into Chat Completions and answered from the script.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import msgspec

from collegium.adapters.models.script_file import load_script
from collegium.testing.loopback import HttpAnswer, HttpRequest
from collegium.testing.model_server import ModelServer


class ResponsesServer(ModelServer):
    """Answers ``POST .../responses``, whole replies only, and all that ``ModelServer`` answers."""

    def _handle(self, request: HttpRequest) -> HttpAnswer:
        if not request.path.endswith("/responses"):
            return super()._handle(request)
        asked = msgspec.json.decode(request.body, type=dict[str, Any])
        body = json.dumps({"messages": messages(asked), "tools": tools(asked)}).encode()
        answer = super()._handle(msgspec.structs.replace(request, path="/chat/completions", body=body))
        if answer.status != 200 or not isinstance(answer.body, bytes):
            return answer
        return msgspec.structs.replace(answer, body=json.dumps(response(json.loads(answer.body))).encode())


def messages(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation as Chat Completions has it."""
    found: list[dict[str, Any]] = []
    if asked.get("instructions"):
        found.append({"role": "system", "content": asked["instructions"]})
    for item in [asked["input"]] if isinstance(asked["input"], str) else asked["input"]:
        match item:
            case str():
                found.append({"role": "user", "content": item})
            case {"type": "function_call", "call_id": call, "name": name, "arguments": arguments}:
                wired = {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
                found.append({"role": "assistant", "content": None, "tool_calls": [wired]})
            case {"type": "function_call_output", "call_id": call, "output": output}:
                found.append({"role": "tool", "tool_call_id": call, "content": text(output)})
            case {"role": role, "content": content}:
                found.append({"role": "system" if role == "developer" else role, "content": text(content)})
    return found


def text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def tools(asked: dict[str, Any]) -> list[dict[str, Any]]:
    kept = ("name", "description", "parameters")
    return [
        {"type": "function", "function": {key: tool[key] for key in kept if tool.get(key) is not None}}
        for tool in asked.get("tools", ())
        if tool["type"] == "function"
    ]


def response(completion: dict[str, Any]) -> dict[str, Any]:
    """A chat completion as a response."""
    message = completion["choices"][0]["message"]
    output: list[dict[str, Any]] = []
    if message.get("content"):
        part = {"type": "output_text", "text": message["content"], "annotations": []}
        done = {"type": "message", "id": "msg_scripted", "role": "assistant", "status": "completed"}
        output.append({**done, "content": [part]})
    for call in message.get("tool_calls", ()):
        called = {"type": "function_call", "id": f"fc_{call['id']}", "call_id": call["id"], "status": "completed"}
        output.append({**called, **call["function"]})
    usage = completion["usage"]
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": completion["created"],
        "model": "scripted",
        "status": "completed",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def main() -> None:
    script = load_script(sys.argv[1])
    server = ResponsesServer(script.as_steps(), ordered=script.ordered)
    await server.start()
    sys.stdout.write(f"{server.url}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
