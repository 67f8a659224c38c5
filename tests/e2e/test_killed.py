"""A process that is killed, and another that goes on: real processes, a real store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collegium.config import Settings
from collegium.domain.event import Event
from collegium.wiring import open_collegium

PLAN = {
    "tasks": [
        {"id": "do", "title": "Do it", "capability": "operate", "instructions": "Write a note.", "depends_on": []}
    ]
}
WRITE = {"name": "write_file", "arguments": {"path": "note.txt", "text": "hello"}}


def script(path: Path, *steps: dict[str, Any]) -> str:
    path.write_text(json.dumps({"step": steps}))
    return f"scripted:{path}"


def start(data: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "collegium.cli", *arguments, "--data-dir", str(data), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )


async def events_when(data: Path, wanted: Sequence[str]) -> tuple[str, list[Event]]:
    """The only run's id and its events, once it has left events of all ``wanted`` types."""
    async with asyncio.timeout(60):
        while True:
            if (data / "collegium.db").exists():
                async with open_collegium(Settings(data_dir=data), scope="none", model="scripted:none") as app:
                    for head in await app.runs():
                        events = [e async for e in app.events(head.run)]
                        types = [e.type for e in events]
                        if all(types.count(t) >= wanted.count(t) for t in wanted):
                            return head.run, events
            await asyncio.sleep(0.05)


async def killed(
    data: Path, replies: Path, *steps: dict[str, Any], when: Sequence[str] = ("task.started", "task.started")
) -> tuple[str, str]:
    """The model and the id of a run whose process was killed after ``steps`` of its task, in a reply without end."""
    model = script(replies, {"reply": PLAN}, *steps, {"delay_s": 120, "reply": "never said"})
    process = start(data, "run", "Write a note.", "--model", model)
    try:
        run, _ = await events_when(data, when)
    finally:
        process.kill()
        process.communicate()
    return model, run


async def test_a_killed_run_is_resumed_by_its_id_without_repeating_a_step_or_a_write(tmp_path: Path) -> None:
    data, replies = tmp_path / "data", tmp_path / "replies.json"
    _, run = await killed(data, replies, {"tool_calls": [WRITE]}, when=["tool.intended", "tool.finished"])
    script(replies, {"expect_last": "note.txt", "reply": "I wrote note.txt."})
    heir = start(data, "runs", "resume", run)
    out, err = await asyncio.to_thread(heir.communicate, timeout=60)
    assert heir.returncode == 0, err
    report = json.loads(out)
    assert report["status"] == "succeeded"
    assert report["usage"]["model_calls"] == 3
    assert [a["path"] for a in report["artifacts"]] == ["note.txt"]

    _, events = await events_when(data, ["run.finished"])
    types = [e.type for e in events]
    assert types.count("task.lapsed") == 1
    assert types.count("tool.intended") == types.count("tool.finished") == 1
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    async with open_collegium(Settings(data_dir=data), scope="none", model="scripted:none") as app:
        assert await app.stores.journal.verify(run) is None  # type: ignore[attr-defined]


async def test_two_processes_resume_one_run_and_one_of_them_does_the_work(tmp_path: Path) -> None:
    data, replies = tmp_path / "data", tmp_path / "replies.json"
    _, run = await killed(data, replies)
    script(replies, {"reply": "Done."})
    heirs = [start(data, "runs", "resume", run) for _ in range(2)]
    for heir in heirs:
        out, err = await asyncio.to_thread(heir.communicate, timeout=60)
        assert heir.returncode == 0, err
        assert json.loads(out)["status"] == "succeeded"
    _, events = await events_when(data, ["run.finished"])
    steps = [e for e in events if e.type == "step.proposed" and e.task == "do"]
    assert len(steps) == 1


async def test_the_same_goal_again_goes_on_where_it_was_killed_unless_it_is_to_begin_anew(tmp_path: Path) -> None:
    data, replies = tmp_path / "data", tmp_path / "replies.json"
    model, run = await killed(data, replies)
    script(replies, {"reply": "Done."})
    again = start(data, "run", "Write a note.", "--model", model)
    out, err = await asyncio.to_thread(again.communicate, timeout=60)
    assert again.returncode == 0, err
    assert json.loads(out)["run_id"] == run
    assert "goes on" in err
    # What has ended is never gone on with, and another goal is another run.
    script(replies, {"reply": PLAN}, {"reply": "Done."})
    third = start(data, "run", "Write a note.", "--model", model)
    out, err = await asyncio.to_thread(third.communicate, timeout=60)
    assert third.returncode == 0, err
    assert json.loads(out)["run_id"] != run
