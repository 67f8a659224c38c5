"""Limits and kill switches on the command line: real processes, a real store, a real model server on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from collegium.adapters.models.script import Step
from collegium.domain.chat import ToolCall
from collegium.testing.model_server import ModelServer

PLANNED = json.dumps({"tasks": [{"id": "do", "title": "Do it", "capability": "operate", "instructions": "Do it."}]})
SUM = ToolCall(id="", name="calculate", arguments={"expression": "1+1"})


class Shell:
    """Runs ``collegium`` in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM_") and "_API_KEY" not in k}
        self.environment = kept | {
            "COLLEGIUM_DATA_DIR": str(folder / "data"),
            "HOME": str(folder),
            "COLLEGIUM_MODEL": f"openai-compatible:any@{url}/v1",
            "COLLEGIUM_MODELS__PROFILES": json.dumps(
                {"openai-compatible:*": {"tool_mode": "native", "can_plan": True, "can_write": True}}
            ),
        }

    async def start(self, *argv: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "collegium.cli", *argv),
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *argv: str) -> tuple[int, str, str]:
        process = await self.start(*argv)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert b"Traceback" not in out + err
        return process.returncode or 0, out.decode(), err.decode()


STEPS = [
    Step(when=lambda r: r.output_schema is not None, reply=PLANNED, times=None),
    Step(when=lambda r: r.messages[-1].role == "user" and bool(r.tools), tool_calls=(SUM, SUM), times=None),
    Step(reply="It is two.", times=None),
]
SLOW = [STEPS[0], Step(delay_s=3_600, times=None)]


async def test_a_capped_run_ends_with_exit_code_4_and_its_answer(tmp_path: Path) -> None:
    async with ModelServer(STEPS, ordered=False) as server:
        shell = Shell(tmp_path, server.url)
        code, out, _ = await shell("run", "Sum it up", "--limit-tool-calls", "1", "--json")
        assert code == 4
        report = json.loads(out)
        assert report["status"] == "limited"
        assert "It is two." in report["answer"]["text"]
        assert "raise --limit-tool-calls" in report["reason"]
        code, out, _ = await shell("run", "Sum it up", "--parallel", "1", "--json")
        assert (code, json.loads(out)["status"]) == (0, "succeeded")


async def test_a_day_that_is_used_up_ends_runs_of_other_processes_and_shows_in_no_listing(tmp_path: Path) -> None:
    async with ModelServer(STEPS, ordered=False) as server:
        shell = Shell(tmp_path, server.url)
        shell.environment["COLLEGIUM_LIMITS__TENANT__DAY_TOOL_CALLS"] = "3"
        ends = [await shell("run", "Sum it up", "--json") for _ in range(3)]
        _, listed, _ = await shell("runs", "ls", "--json")
    assert [code for code, _, _ in ends][-1] == 4
    assert "the tenant 'default' on" in json.loads(ends[-1][1])["reason"]
    assert "may use 3 tool calls and has used 3" in json.loads(ends[-1][1])["reason"]
    assert len(json.loads(listed)["items"]) == 3


@pytest.mark.parametrize("how", ["cancel", "stop"])
async def test_another_process_ends_a_call_that_is_under_way(how: str, tmp_path: Path) -> None:
    async with ModelServer(SLOW, ordered=False) as server:
        shell = Shell(tmp_path, server.url)
        working = await shell.start("run", "Sum it up", "--json")
        async with asyncio.timeout(30):
            while len(server.script.requests) < 2:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)
        if how == "cancel":
            assert (await shell("runs", "cancel", "last"))[0] == 0
        else:
            assert (await shell("stop", "run", "last", "--reason", "too dear"))[0] == 0
        async with asyncio.timeout(30):
            while server.connections:  # noqa: ASYNC110 - closed by another process, not left to end by itself
                await asyncio.sleep(0.02)
            out, _ = await working.communicate()
        report = json.loads(out)
        assert (working.returncode, report["status"]) == {"cancel": (130, "cancelled"), "stop": (3, "waiting")}[how]
        if how == "stop":
            code, _, told = await shell("runs", "resume", "last")
            assert code == 2
            assert "too dear" in told
            listed = await shell("stop")
            assert "too dear" in listed[1]


async def test_what_was_stopped_goes_on_once_it_is_started(tmp_path: Path) -> None:
    async with ModelServer(STEPS, ordered=False) as server:
        shell = Shell(tmp_path, server.url)
        await shell("stop", "agent", "operator")
        code, out, _ = await shell("run", "Sum it up", "--json")
        assert (code, json.loads(out)["status"]) == (3, "waiting")
        assert "1 run with it" in (await shell("start", "agent", "operator"))[1]
        code, out, _ = await shell("runs", "resume", "last", "--json")
        assert (code, json.loads(out)["status"]) == (0, "succeeded")
