"""``/v1/workers``, ``/v1/agents``, ``/v1/tools``, ``/v1/settings``: what the installation has."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.tool import ToolDefinition
from collegium.domain.worker import WorkerCard
from collegium.server.access.installation import AgentShown, SettingShown, WorkerOrdered
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1")
Name = Annotated[str, Path(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
After = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]


class DrainWanted(BaseModel):
    """Why an agent is to take nothing new."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=2_000)] = ""


@ROUTER.get(
    "/workers", tags=["workers"], responses=gives_page(WorkerCard, "A page of workers."), response_class=Response
)
async def list_workers(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
    """List workers: state, load, lag, what they take. Hosts and processes are shown to `host` alone."""
    return answer(await caller.installation.workers(after=after, limit=limit))


@ROUTER.post(
    "/workers/{worker}/drain",
    tags=["workers"],
    status_code=202,
    responses=gives(WorkerOrdered, "It was told.", status=202),
    response_class=Response,
)
async def drain_worker(worker: Name, caller: Caller) -> Response:
    """Tell a worker to end what it does and to exit; others go on with what it leaves. Needs `host`."""
    return answer(await caller.installation.drain_worker(worker), 202)


@ROUTER.get("/agents", tags=["agents"], responses=gives_page(AgentShown, "A page of agents."), response_class=Response)
async def list_agents(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
    """List agents by name: condition, health, load, declaration."""
    return answer(await caller.installation.agents(after=after, limit=limit))


@ROUTER.get("/agents/{agent}", tags=["agents"], responses=gives(AgentShown, "The agent."), response_class=Response)
async def show_agent(agent: Name, caller: Caller) -> Response:
    """Show an agent: what it may, how it stands and why, its instructions."""
    return answer(await caller.installation.agent(agent))


@ROUTER.post(
    "/agents/{agent}/drain", tags=["agents"], responses=gives(AgentShown, "It drains."), response_class=Response
)
async def drain_agent(agent: Name, caller: Caller, wanted: DrainWanted | None = None) -> Response:
    """Give an agent no new tasks, in any process; what it has it ends. Needs `host`."""
    return answer(await caller.installation.drain_agent(agent, reason="" if wanted is None else wanted.reason))


@ROUTER.post(
    "/agents/{agent}/resume", tags=["agents"], responses=gives(AgentShown, "It goes on."), response_class=Response
)
async def resume_agent(agent: Name, caller: Caller) -> Response:
    """Give an agent tasks again, whether it drains or is quarantined. Needs `host`."""
    return answer(await caller.installation.resume_agent(agent))


@ROUTER.get("/tools", tags=["tools"], responses=gives_page(ToolDefinition, "A page of tools."), response_class=Response)
async def list_tools(
    caller: Caller,
    query: Annotated[str, Query(max_length=200, description="Words that name or description have.")] = "",
    after: After = None,
    limit: Limit = 50,
) -> Response:
    """List tools by name, with their parameters and what calling them does to the world."""
    return answer(caller.installation.tools(text=query, after=after, limit=limit))


@ROUTER.get("/tools/{tool}", tags=["tools"], responses=gives(ToolDefinition, "The tool."), response_class=Response)
async def show_tool(tool: Name, caller: Caller) -> Response:
    """Show a tool and its parameters."""
    return answer(caller.installation.tool(tool))


@ROUTER.get(
    "/settings", tags=["settings"], responses=gives_page(SettingShown, "A page of settings."), response_class=Response
)
async def list_settings(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
    """List the settings in force with their sources; secrets are masked. Needs `host`."""
    return answer(caller.installation.settings(after=after, limit=limit))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (WorkerCard, WorkerOrdered, AgentShown, ToolDefinition, SettingShown)
