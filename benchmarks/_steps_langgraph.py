"""LangGraph with a saver: an agent is a graph of a model node and a tool node, a team a graph of agents."""

from __future__ import annotations

import json
import operator
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from _steps_child import ADDING, FOUND, GOAL, PLANNING, QUESTION, TOOL, TOOL_ABOUT, RunOnce, database
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send


@tool(TOOL, description=TOOL_ABOUT)
def stock(article: str) -> str:
    """Look up how many pieces of an article are in stock."""
    return FOUND


class TeamState(TypedDict):
    goal: str
    tasks: list[dict[str, Any]]
    results: Annotated[list[str], operator.add]
    answer: str


@asynccontextmanager
async def langgraph(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """With its SQLite saver."""
    async with _graphs(url, AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db"))) as run_once:
        yield run_once


@asynccontextmanager
async def langgraph_postgres(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """With its PostgreSQL saver over a pool of connections, as its documentation says for a server."""
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    @asynccontextmanager
    async def saver() -> AsyncIterator[AsyncPostgresSaver]:
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        async with AsyncConnectionPool(database(), max_size=20, kwargs=settings) as pool:
            made = AsyncPostgresSaver(pool)
            await made.setup()
            yield made

    async with _graphs(url, saver()) as run_once:
        yield run_once


@asynccontextmanager
async def _graphs(url: str, opened: AbstractAsyncContextManager[BaseCheckpointSaver]) -> AsyncIterator[RunOnce]:
    """The graph that its documentation builds for an agent with tools; checkpoints as by default (``async``)."""
    model = ChatOpenAI(model="scripted", base_url=url, api_key="none", max_retries=0).bind_tools([stock])

    async def ask(state: MessagesState) -> dict[str, object]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    agent = StateGraph(MessagesState)
    agent.add_node("model", ask)
    agent.add_node("tools", ToolNode([stock]))
    agent.add_edge(START, "model")
    agent.add_conditional_edges("model", tools_condition)
    agent.add_edge("tools", "model")
    clerk = agent.compile()  # keeps its steps with the saver of the graph it runs in

    async def plan(state: TeamState) -> dict[str, object]:
        reply = await model.ainvoke([("user", f"{PLANNING} {state['goal']}")])
        return {"tasks": json.loads(reply.content)["tasks"][:-1]}

    def assign(state: TeamState) -> list[Send]:
        return [Send("work", task) for task in state["tasks"]]

    async def work(task: dict[str, Any]) -> dict[str, object]:
        done = await clerk.ainvoke({"messages": [("user", task["instructions"])]})
        return {"results": [done["messages"][-1].content]}

    async def add_up(state: TeamState) -> dict[str, object]:
        reply = await model.ainvoke([("user", "\n".join([*state["results"], ADDING]))])
        return {"answer": reply.content}

    team = StateGraph(TeamState)
    team.add_node("plan", plan)
    team.add_node("work", work)
    team.add_node("add_up", add_up)
    team.add_edge(START, "plan")
    team.add_conditional_edges("plan", assign, ["work"])
    team.add_edge("work", "add_up")
    async with opened as saver:
        agent_graph, team_graph = agent.compile(checkpointer=saver), team.compile(checkpointer=saver)

        async def run_once(run: str, kind: str) -> str:
            config = {"configurable": {"thread_id": run}}
            if kind == "team":
                return str((await team_graph.ainvoke({"goal": GOAL, "results": []}, config))["answer"])
            state = await agent_graph.ainvoke({"messages": [("user", QUESTION)]}, config)
            return str(state["messages"][-1].content)

        yield run_once
