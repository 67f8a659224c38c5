"""Cassettes of whole runs: several agents at once, and what they ask may be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from collegium.app import Collegium
from collegium.domain.chat import ToolCall
from collegium.domain.plan import Plan, Task
from collegium.runtime.comparison import compare
from collegium.testing.cassette import CassettePlayer, CassetteRecorder
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step

SAME = "Say a number."
PLAN = Plan(
    tasks=(
        *(Task(id=f"t{n}", title=f"T{n}", capability="operate", instructions=SAME) for n in range(4)),
        Task(
            id="sum",
            title="Sum",
            capability="operate",
            instructions="Add.",
            depends_on=tuple(f"t{n}" for n in range(4)),
        ),
    )
)


def steps() -> Sequence[Step]:
    """Each of the four asks the same and is told something else; who asked first is answered last."""
    call = ToolCall(id="c", name="calculate", arguments={"expression": "1+1"})
    return [
        *(Step(expect_last=(SAME,), reply=f"number {n}", delay_s=0.2 - n * 0.05) for n in range(4)),
        Step(expect=("Add.",), expect_last=("2",), reply="Together.", times=None),
        Step(expect=("Add.",), tool_calls=(call,), times=None),
    ]


async def answered(app: Collegium) -> tuple[object, ...]:
    run = await app.submit("All of it.", plan=PLAN)
    report = await asyncio.wait_for(run.result(), 20)
    assert report.status in ("succeeded", "partial")
    state = await run.state()
    texts = [t.result.text for t in state.planned if t.result is not None]
    return report.answer and msgspec.to_builtins(report.answer), texts, [e async for e in app.events(run.id)]


async def test_tasks_that_ask_the_same_at_once_get_their_own_replies_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    model = ScriptedModel(steps(), ordered=False)
    async with team(CassetteRecorder(model, path)) as app:
        first = await answered(app)
    assert first[1][:4] == [f"number {n} (unverified)" for n in range(4)]  # type: ignore[index]
    ended = [line for line in path.read_text().splitlines() if SAME in line and '"number' in line]
    assert "number 3" in ended[0]
    async with team(CassettePlayer(path)) as app:
        again = await answered(app)
    assert again[:2] == first[:2]
    assert compare(first[2], again[2]).differences == ()  # type: ignore[arg-type]
