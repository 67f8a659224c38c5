"""One long conversation in one system, in a process of its own: ``python benchmarks/_history_child.py SYSTEM < plan``.

Reads one JSON object on stdin, writes one JSON line on stdout: the bytes that each tool call's step has added to the
rows of the store, and the size of the store's file before these steps and at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

TOOL = "fetch"
TOOL_ABOUT = "Fetch the next page."
START_BYTES = 80_000
"""Of a result in the conversation that is there already when the counting starts."""
BYTES_PER_TOKEN = 4


class Pages:
    """The results of the tool, no two alike and none compressible by half: first the start, then the counted calls."""

    def __init__(self, plan: dict[str, Any], size: Callable[[], int]) -> None:
        self.before = round(plan["start_tokens"] * BYTES_PER_TOKEN / START_BYTES)
        self.calls = self.before + plan["calls"]
        self.size_before = 0
        self._plan = plan
        self._size = size
        self._count = 0

    def next(self) -> str:
        """The next result; notes how large the store is before the first that is counted."""
        if self._count == self.before:
            self.size_before = self._size()
        self._count += 1
        size = START_BYTES if self._count <= self.before else self._plan["result_bytes"]
        digests = (hashlib.sha256(f"{self._count}/{n}".encode()).hexdigest() for n in range(size // 64 + 1))
        return " ".join(digests)[:size]


def stored_bytes(path: Path) -> int:
    """Pages of the store in use, those in its log included."""
    with closing(sqlite3.connect(path)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        return int(pages * connection.execute("PRAGMA page_size").fetchone()[0])


async def ours(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Through the public API of collegium; a row belongs to the step that its body names."""
    from collegium import Agent, Limits, Plan, Task, load_settings, open_collegium, tool

    path = folder / "store.db"
    pages = Pages(plan, lambda: stored_bytes(path))

    @tool(effect="read", name=TOOL)
    def fetch() -> str:
        """Fetch the next page."""
        return pages.next()

    call = {"tool_calls": [{"name": TOOL, "arguments": {}}], "times": pages.calls}
    script = {"profile": {"context_tokens": plan["context_tokens"]}, "step": [call, {"reply": "Done."}]}
    (folder / "script.json").write_text(json.dumps(script))
    clerk = Agent(
        name="clerk", kind="operator", description=TOOL_ABOUT, capabilities=("fetch",), prompt="Fetch all pages.",
        tools=(TOOL,), max_steps=pages.calls + 2,
    )  # fmt: skip
    task = Task(id="fetch", title="Fetch", capability="fetch", instructions="Fetch all pages.")
    settings = load_settings(None, {}, {"data_dir": folder, "store": f"sqlite:///{path}"})
    model = f"scripted:{folder / 'script.json'}"
    async with open_collegium(settings, tools=[fetch], agents=[clerk], model=model) as collegium:
        limits = Limits(steps_per_task=pages.calls + 2)
        run = await collegium.submit("Fetch all pages.", plan=Plan(tasks=(task,)), limits=limits)
        report = await run.result()
        if report.status != "succeeded":
            raise RuntimeError(report)
    rows: Counter[int] = Counter()
    compactions = step = 0
    with closing(sqlite3.connect(path)) as connection:
        columns = [c[1] for c in connection.execute("PRAGMA table_info(events)")]
        size = " + ".join(f"coalesce(length(CAST(events.{c} AS BLOB)), 0)" for c in columns)
        joined = "LEFT JOIN blobs ON events.blob = blobs.sha256"
        fields = f"type, coalesce(body, data), {size} + coalesce(length(data), 0)"
        query = f"SELECT {fields} FROM events {joined} ORDER BY pos"
        for type_, body, length in connection.execute(query):
            if type_ == "context.compacted":
                compactions += 1
                rows[step + 1] += length  # made for the step that follows
            elif type_ in ("step.proposed", "tool.finished", "tool.intended"):
                step = json.loads(body)["step"]
                rows[step] += length
    counted = [rows[step] for step in range(pages.before + 1, pages.calls + 1)]
    return {"rows": counted, "file_before": pages.size_before, "file": path.stat().st_size, "compactions": compactions}


async def langgraph(plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """LangGraph's loop of a model node and a tool node with ``SqliteSaver``; a row belongs to its superstep's step."""
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    path = folder / "langgraph.db"
    pages = Pages(plan, lambda: stored_bytes(path))

    @tool(TOOL, description=TOOL_ABOUT)
    def fetch() -> str:
        return pages.next()

    asked = 0

    def ask(state: MessagesState) -> dict[str, object]:
        nonlocal asked
        asked += 1
        if asked > pages.calls:
            return {"messages": [AIMessage("Done.")]}
        return {"messages": [AIMessage("", tool_calls=[{"name": TOOL, "args": {}, "id": f"call_{asked}"}])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode([fetch]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    config = {"configurable": {"thread_id": "1"}, "recursion_limit": 2 * pages.calls + 10}
    with SqliteSaver.from_conn_string(str(path)) as saver:
        agent = graph.compile(checkpointer=saver)
        agent.invoke({"messages": [("system", "Fetch all pages."), ("user", "Fetch all pages.")]}, config)
    rows: Counter[int] = Counter()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("checkpoints", "writes"):
            columns = [c[1] for c in connection.execute(f"PRAGMA table_info({table})")]
            size = " + ".join(f"coalesce(length(CAST({table}.{c} AS BLOB)), 0)" for c in columns)
            joined = (
                "" if table == "checkpoints" else "JOIN checkpoints USING (thread_id, checkpoint_ns, checkpoint_id)"
            )
            query = f"SELECT checkpoints.metadata, {size} FROM {table} {joined}"
            for metadata, length in connection.execute(query):
                # Supersteps: -1 input, 0 start, then the model and the tools in turn.
                rows[(json.loads(metadata)["step"] + 1) // 2] += length
    counted = [rows[step] for step in range(pages.before + 1, pages.calls + 1)]
    return {"rows": counted, "file_before": pages.size_before, "file": path.stat().st_size, "compactions": 0}


async def main() -> None:
    plan = json.load(sys.stdin)
    system = {"ours": ours, "langgraph": langgraph}[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="history-", dir=plan["folder"]) as folder:
        json.dump(await system(plan, Path(folder)), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    asyncio.run(main())
