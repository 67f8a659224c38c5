"""``collegium --server URL``: the command line against a server, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from collegium.oversight.approvals import ApprovalPolicy
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


async def call(url: str, *words: str, cwd: Path) -> tuple[int, Any, str]:
    """Exit code, document and messages of a command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM")} | {
        "COLLEGIUM_URL": url, "COLLEGIUM_DATA_DIR": str(cwd / "data"), "HOME": str(cwd),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collegium.cli", *words, "--json",
        cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await process.communicate()
    return process.returncode or 0, json.loads(out or b"null"), said.decode()


async def test_a_goal_over_a_server(serve: Serve, tmp_path: Path):
    (tmp_path / "a.txt").write_text("Six times seven is 42.")
    async with team(working()) as app:
        url = (await serve(app)).url
        code, report, said = await call(url, "run", "What is six times seven?", "--files", "a.txt", cwd=tmp_path)
        assert code == 0, said
        run = report["run_id"]
        assert [f.path for f in (await app.state(run)).goal.files] == ["a.txt"]
        (listed, shown, events, cancelled) = await asyncio.gather(
            call(url, "runs", "ls", cwd=tmp_path),
            call(url, "runs", "show", "last", cwd=tmp_path),
            call(url, "runs", "events", run[-8:], cwd=tmp_path),
            call(url, "runs", "cancel", run, cwd=tmp_path),
        )
        assert [one["run_id"] for one in listed[1]["items"]] == [run]
        assert shown[1]["answer"] == report["answer"]
        assert events[1]["events"][-1]["type"] == "run.finished"
        assert cancelled[1]["status"] == report["status"]
        assert not (tmp_path / "data").exists()


async def test_what_cannot_be_over_a_server_is_said(serve: Serve, tmp_path: Path):
    async with team(working()) as app:
        url = (await serve(app)).url
        asked = (("runs", "files", "last"), ("schedules", "ls"), ("run", "x", "--record", "c.json"))
        (code, document, _), *refused = await asyncio.gather(
            # This one asks more than once, and waits before it does again.
            call("http://127.0.0.1:9", "runs", "show", "run_" + "0" * 34, cwd=tmp_path),
            *(call(url, *words, cwd=tmp_path) for words in asked),
        )
        assert code == 5
        assert "collegium serve" in document["error"]["message"]
        assert len(refused) == len(asked)
        for code, document, _ in refused:
            assert code == 2
            assert "--server" in document["error"]["message"]


async def test_questions_are_answered_over_a_server(serve: Serve, tmp_path: Path):
    async with team(working(), approvals=ApprovalPolicy(tools=("calculate",))) as app:
        url = (await serve(app)).url
        plan = {"tasks": [{"id": "one", "title": "One", "capability": "operate", "instructions": "Do one."}]}
        async with httpx.AsyncClient(base_url=url) as http:
            run = (await http.post("/v1/runs", json={"goal": "Do one.", "plan": plan})).json()["run_id"]
        assert (await app.result(run)).status == "waiting"
        code, document, said = await call(url, "approvals", "ls", cwd=tmp_path)
        assert code == 0, said
        (question,) = document["items"]
        assert question["run_id"] == run
        code, answered, said = await call(url, "approvals", "approve", run, "--reason", "fine", cwd=tmp_path)
        assert code == 0, said
        assert answered["approval"] == question["approval"]
        assert (await app.result(run)).status == "succeeded"
