"""Builds a store of waiting runs, or measures one: ``python benchmarks/_waiting_child.py build|hold|live < plan.json``.

Reads one JSON object on stdin, writes one JSON line on stdout.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collegium import Agent, Collegium, Plan, Task, load_settings, open_collegium, tool
from collegium.adapters.entropy import PooledEntropy
from collegium.domain import body as b
from collegium.domain.asking import approval_id
from collegium.domain.decide import decide, wake_at
from collegium.domain.decision import Decision
from collegium.domain.event import Draft, Event, type_of
from collegium.domain.goal import Goal
from collegium.domain.head import HeadChange, HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.run import RunState, apply
from collegium.ports import Receipt

AGENT = Agent(
    name="clerk",
    kind="operator",
    description="Pays bills.",
    capabilities=("pay",),
    prompt="Answer with the tools you have.",
    tools=("pay",),
    max_concurrent=1_000,
)
PLAN = Plan(tasks=(Task(id="pay", title="Pay it", capability="pay", instructions="Pay the bill of 12 EUR."),))
ASKING = Plan(tasks=(Task(id="pay", title="Pay it", capability="pay", instructions="Ask first."),))
SCRIPT = {
    "ordered": False,
    "step": [
        {"expect_last": ["paid"], "reply": "The bill is paid.", "times": "any"},
        {"expect": ["Ask first."], "tool_calls": [{"name": "pay", "arguments": {"bill": "12"}}], "times": "any"},
        {"reply": "There is nothing left to pay.", "times": "any"},
    ],
}
WAITS = 100
"""Answers and moments whose effect is timed."""


@tool(effect="write", name="pay")
async def pay(bill: str) -> str:
    """Pay a bill."""
    return "paid"


class Parked:
    """Runs that were planned, begun and parked, as the events that a worker would have left."""

    def __init__(self) -> None:
        self._ids = Ids(lambda: time.time_ns() // 1_000_000, PooledEntropy())

    def drafts(self, now: datetime, *, until: datetime | None) -> tuple[str, list[Draft], HeadChange]:
        """One run that waits until a moment, or (None) for a person: its id, events and head."""
        run = self._ids.run()
        goal = Goal(text="Pay the bill.", principal="ada", model="scripted", plan=PLAN)
        decisions = [Decision(body=b.RunSubmitted(goal=goal))]
        state = self._after(None, run, decisions, now)
        while more := decide(state, now):
            decisions += more
            state = self._after(state, run, more, now)
        begun = b.TaskStarted(worker="wrk_before", agent="clerk", agent_version="1", model="scripted")
        held: list[b.Body] = [b.TaskRouted(agent="clerk", reason="the only one"), begun]
        if until is None:
            asked = b.ApprovalRequested(
                approval=approval_id(state), kind="tool", question="Pay 12 EUR?", tool="pay", arguments={"bill": "12"}
            )
            held += [asked, b.TaskParked(reason="approval")]
        else:
            held.append(b.TaskParked(reason="delay", wake_at=until))
        rest = [Decision(body=body, task="pay", attempt=1) for body in held]
        state = self._after(state, run, rest, now)
        if state.status != "waiting":
            raise RuntimeError(f"the run was to wait and is {state.status}")
        drafts = [
            Draft(id=self._ids.new("evt"), tenant="default", at=now, body=d.body, task=d.task, attempt=d.attempt)
            for d in (*decisions, *rest)
        ]
        return run, drafts, HeadChange(status=state.status, wake_at=wake_at(state, now))

    def _after(self, state: RunState | None, run: str, decisions: Sequence[Decision], now: datetime) -> RunState:
        for d in decisions:
            seq = 1 if state is None else state.seq + 1
            event = Event(
                id="", tenant="default", run=run, seq=seq, type=type_of(d.body), v=1, at=now, body=d.body, mac="",
                task=d.task, attempt=d.attempt,
            )  # fmt: skip
            state = apply(state, event)
        if state is None:
            raise RuntimeError("there was nothing to apply")
        return state


def opened(folder: Path, scope: Any) -> AbstractAsyncContextManager[Collegium]:
    folder.mkdir(exist_ok=True)
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    wanted = {"data_dir": folder, "worker.concurrency": 256, "approvals.tools": ["pay"]}
    settings = load_settings(None, {}, wanted)
    return open_collegium(settings, tools=[pay], agents=[AGENT], scope=scope, model=f"scripted:{script}")


async def build(plan: dict[str, Any]) -> dict[str, Any]:
    """A store with the wanted number of waiting runs: half of them for a person, half for tomorrow."""
    parked, begun = Parked(), time.perf_counter()
    async with opened(Path(plan["folder"]), "none") as collegium:
        journal = collegium.stores.journal
        receipts: list[Receipt] = []
        for number in range(plan["runs"]):
            now = datetime.now(UTC)
            run, drafts, head = parked.drafts(now, until=now + timedelta(days=1) if number % 2 else None)
            receipts.append(journal.append(run, drafts, expected=0, head=head))
            if len(receipts) == 1_000:
                await asyncio.gather(*(receipt.durable() for receipt in receipts))
                receipts.clear()
        await asyncio.gather(*(receipt.durable() for receipt in receipts))
    return {"build_s": time.perf_counter() - begun}


async def hold(plan: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process that works on all of the store has to carry, and how soon it takes up what may go on."""
    async with opened(Path(plan["empty"]), "all"):
        before_bytes, before_cpu_s = await idle(plan["idle_s"])
    begun = time.perf_counter()
    async with opened(Path(plan["folder"]), "all") as collegium:
        opened_s = time.perf_counter() - begun
        after_bytes, after_cpu_s = await idle(plan["idle_s"])
        journal = collegium.stores.journal
        now = datetime.now(UTC)
        waiting = HeadQuery(tenant="default", statuses=frozenset({"waiting"}), limit=100)
        reads = {
            "due_ms": await timed(lambda: journal.heads(HeadQuery(due_before=now))),
            "page_ms": await timed(lambda: collegium.runs(HeadQuery(tenant="default", limit=100))),
            "waiting_page_ms": await timed(lambda: collegium.runs(waiting)),
            "inbox_ms": await timed(collegium.approvals, times=3),
        }
        questions = (await collegium.approvals())[:WAITS]
        asked_bytes = rss_bytes()
        answers = [await answered(collegium, q.run, q.approval.id) for q in questions]
        timers = await due(collegium)
        woken_bytes = rss_bytes()
    return {
        "opened_s": opened_s,
        "before_bytes": before_bytes,
        "after_bytes": after_bytes,
        "asked_bytes": asked_bytes,
        "woken_bytes": woken_bytes,
        "idle_cpu_empty": before_cpu_s,
        "idle_cpu": after_cpu_s,
        **reads,
        "answer_ms": answers,
        "timer_ms": timers,
    }


async def live(plan: dict[str, Any]) -> dict[str, Any]:
    """The same of a process that has taken its own runs up to their question, and goes on with them."""
    async with opened(Path(plan["folder"]) / "live", "own") as collegium:
        await asyncio.gather(*(asked(collegium) for _ in range(256)))
        before_bytes, _ = await idle(plan["idle_s"])
        begun = time.perf_counter()
        for _ in range(0, plan["live"], 256):
            await asyncio.gather(*(asked(collegium) for _ in range(256)))
        seconds = time.perf_counter() - begun
        after_bytes, cpu = await idle(plan["idle_s"])
        tasks = len(asyncio.all_tasks())
        questions = (await collegium.approvals())[:WAITS]
        answers = [await answered(collegium, q.run, q.approval.id) for q in questions]
    runs = 256 * len(range(0, plan["live"], 256))
    return {
        "live": runs,
        "live_s": seconds,
        "live_bytes": (after_bytes - before_bytes) / runs,
        "live_coroutines": tasks,
        "live_idle_cpu": cpu,
        "live_answer_ms": answers,
    }


async def asked(collegium: Collegium) -> None:
    """Submits a run and waits until it asks."""
    run = await collegium.submit("Pay the bill.", plan=ASKING)
    report = await run.result()
    if report.status != "waiting":
        raise RuntimeError(f"the run was to ask and {report.status}: {report.reason}")


async def answered(collegium: Collegium, run: str, approval: str) -> float:
    """Milliseconds from an answer to the start of the attempt that goes on, and waits for the run's end."""
    head = await collegium.stores.journal.head(run)
    begun, started = time.perf_counter(), 0.0
    await collegium.answer(approval, "approve", principal="grace")
    async for event in collegium.run(run).events(after=head.seq if head else 0):
        if isinstance(event.body, b.TaskStarted) and not started:
            started = time.perf_counter() - begun
    if not started:
        raise RuntimeError(f"{run} did not go on")
    return 1_000 * started


async def due(collegium: Collegium) -> list[float]:
    """Milliseconds from the moment a run was waiting for to the start of its next attempt."""
    parked, waits = Parked(), {}
    now = datetime.now(UTC)
    for number in range(WAITS):
        until = now + timedelta(seconds=1 + 5 * number / WAITS)
        run, drafts, head = parked.drafts(now, until=until)
        await collegium.stores.journal.append(run, drafts, expected=0, head=head).durable()
        waits[run] = (until, len(drafts))
    found: list[float] = []
    for run, (until, after) in waits.items():
        events = collegium.run(run).events(after=after)
        found += [1_000 * (e.at - until).total_seconds() async for e in events if isinstance(e.body, b.TaskStarted)]
    return found


async def idle(seconds: float) -> tuple[int, float]:
    """Lets the process be, after a first second; returns its memory and the share of a core that it used."""
    await asyncio.sleep(1)
    cpu, begun = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    gc.collect()
    return rss_bytes(), share


async def timed(call: Callable[[], Awaitable[object]], times: int = 20) -> float:
    """Median of what a call takes, in ms."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await call()
        taken.append(1_000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    work = {"build": build, "hold": hold, "live": live}[sys.argv[1]]
    json.dump(asyncio.run(work(json.load(sys.stdin))), sys.stdout)
    sys.stdout.write("\n")
