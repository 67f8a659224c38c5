"""LangGraph: a graph of a model node and a tool node, kept by its SQLite saver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from _steps_child import FOUND, QUESTION, TOOL, TOOL_ABOUT, RunOnce
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


@tool(TOOL, description=TOOL_ABOUT)
def stock(article: str) -> str:
    """Look up how many pieces of an article are in stock."""
    return FOUND


@asynccontextmanager
async def langgraph(url: str, folder: Path, at_once: int) -> AsyncIterator[RunOnce]:
    """The graph that its documentation builds for an agent with tools; checkpoints as by default (``async``)."""
    model = ChatOpenAI(model="scripted", base_url=url, api_key="none", max_retries=0).bind_tools([stock])

    async def ask(state: MessagesState) -> dict[str, object]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", ask)
    builder.add_node("tools", ToolNode([stock]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:
        graph = builder.compile(checkpointer=saver)

        async def run_once(run: str) -> str:
            config = {"configurable": {"thread_id": run}}
            state = await graph.ainvoke({"messages": [("user", QUESTION)]}, config)
            return str(state["messages"][-1].content)

        yield run_once
