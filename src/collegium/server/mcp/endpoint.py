"""The endpoint of MCP: Streamable HTTP without sessions, for clients of the stateless era and of the one before it.

Every request stands alone, so that any process may answer it and none keeps anything of a client. That holds for
clients of the handshake era too: they are given no session id and need none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
import msgspec
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from collegium.domain.errors import CollegiumError, NotFound
from collegium.server.access.access import Access
from collegium.server.caller import access
from collegium.server.mcp.tools import TOOLS, Tool
from collegium.server.mcp.views import schema, shown
from collegium.server.problem import problem

MAX_BODY_BYTES: Final = 1024 * 1024
_INSTRUCTIONS: Final = (
    "A team of agents that does whole goals: submit_goal returns a run id at once, wait_for_run tells when it is over. "
    "A run may wait for a person: its questions are answered with answer_approval, never by guessing."
)
_RUN_URI: Final = "collegium://runs/"
_BY_NAME: Final = {tool.name: tool for tool in TOOLS}
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
_ALLOWED: Final = {"allow": "POST"}
_log = logging.getLogger("collegium.mcp")
logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)
Context = ServerRequestContext[Any, Any]


class McpEndpoint:
    """An ASGI application that answers requests of MCP; ``request.state.principal`` says for whom.

    Args:
        version: Of collegium, as clients are told.
    """

    def __init__(self, version: str) -> None:
        self._server: Server[Any] = Server(
            "collegium",
            version=version,
            title="collegium",
            instructions=_INSTRUCTIONS,
            cache_hints={
                "tools/list": CacheHint(ttl_ms=3_600_000, scope="public"),
                "resources/templates/list": CacheHint(ttl_ms=3_600_000, scope="public"),
                "server/discover": CacheHint(ttl_ms=3_600_000, scope="public"),
            },
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
            on_list_resources=_list_resources,
            on_list_resource_templates=_list_templates,
            on_read_resource=_read_resource,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. A manager for each, since none of them has anything to keep."""
        if scope["method"] != "POST":
            # There are no sessions: nothing to listen to with GET, nothing to end with DELETE.
            refused = problem(Request(scope), 405, "method_not_allowed", "MCP is asked by POST", headers=_ALLOWED)
            await refused(scope, receive, send)
            return
        manager = StreamableHTTPSessionManager(self._server, stateless=True, max_request_body_size=MAX_BODY_BYTES)
        async with manager.run():
            await manager.handle_request(scope, receive, send)


async def _list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS])


async def _call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = _BY_NAME.get(params.name)
    if tool is None:
        raise MCPError(
            types.INVALID_PARAMS, f"there is no tool {params.name[:100]!r}: it is one of {', '.join(_BY_NAME)}"
        )
    try:
        asked = tool.takes.model_validate(params.arguments or {})
        found = await tool.call(_access(context), asked)
    except ValidationError as error:
        return _refused("invalid_arguments", _told(error))
    except CollegiumError as error:
        return _refused(error.code, error.message)
    except Exception as error:
        if isinstance(error, asyncio.CancelledError | MCPError):
            raise
        _log.exception("the tool %s failed", tool.name)
        return _refused("internal", "something failed in a way nobody foresaw; the server's log says what")
    text = _ENCODER.encode(found).decode()
    document = msgspec.json.decode(text)
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=document)


async def _list_resources(context: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    try:
        page = await _access(context).runs.page(after=None if params is None else params.cursor, limit=50)
    except CollegiumError as error:
        raise MCPError(types.INVALID_PARAMS, error.message) from error
    found = [
        types.Resource(
            name=run.run_id,
            title=run.goal[:100],
            uri=_RUN_URI + run.run_id,
            description=f"A run, {run.status}.",
            mime_type="application/json",
        )
        for run in page.items
    ]
    return types.ListResourcesResult(resources=found, next_cursor=page.next)


async def _list_templates(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    run = types.ResourceTemplate(
        name="run",
        title="A run",
        uri_template=_RUN_URI + "{run_id}",
        description="A run as it stands: its answer, tasks and questions.",
        mime_type="application/json",
    )
    return types.ListResourceTemplatesResult(resource_templates=[run])


async def _read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    try:
        if not uri.startswith(_RUN_URI):
            raise NotFound(f"there is no resource {uri[:200]!r}")
        report = await _access(context).runs.report(uri.removeprefix(_RUN_URI))
    except CollegiumError as error:
        raise MCPError(types.INVALID_PARAMS, error.message, {"uri": uri[:500], "code": error.code}) from error
    text = _ENCODER.encode(shown(report)).decode()
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=uri, text=text, mime_type="application/json")]
    )


def _access(context: Context) -> Access:
    """What the caller of this request may do."""
    if not isinstance(context.request, Request):
        raise MCPError(types.INTERNAL_ERROR, "the request came without its caller")
    return access(context.request)


def _described(tool: Tool[Any]) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=_bare(tool.takes.model_json_schema()),
        output_schema=schema(tool.gives),
        annotations=types.ToolAnnotations(
            read_only_hint=tool.is_reading,
            destructive_hint=tool.is_final,
            idempotent_hint=tool.is_repeatable,
            open_world_hint=tool.name == "submit_goal",
        ),
    )


def _bare(given: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without titles that only repeat names."""
    properties = {
        name: {k: value for k, value in one.items() if k != "title"} for name, one in given["properties"].items()
    }
    return {**{k: value for k, value in given.items() if k not in ("title", "description")}, "properties": properties}


def _told(error: ValidationError) -> str:
    wrong = (f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}"[:300] for one in error.errors()[:5])
    return "the arguments do not fit: " + "; ".join(wrong)


def _refused(code: str, message: str) -> types.CallToolResult:
    """What the model is told: why it was not done, in words and by a stable code; nothing of the inside."""
    return types.CallToolResult(content=[types.TextContent(text=f"{code}: {message}")], is_error=True)
