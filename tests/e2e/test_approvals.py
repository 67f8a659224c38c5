"""A question to a person: everything is stopped, it is answered twice at once, and it goes on once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collegium.config import Settings
from collegium.domain.event import Event
from collegium.wiring import open_collegium

WORKER = Path(__file__).with_name("approval_worker.py")


class Place:
    """A data folder, a scripted model, and processes that work there."""

    def __init__(self, folder: Path, tool: str) -> None:
        self.data, self.outside = folder / "data", folder / "paid"
        replies = folder / "replies.json"
        called = {"expect_last": "Pay.", "tool_calls": [{"name": tool, "arguments": {"amount": 5}}]}
        replies.write_text(json.dumps({"ordered": False, "step": [called, {"reply": "Done.", "times": "any"}]}))
        self.model = f"scripted:{replies}"

    def worker(self, *words: str) -> subprocess.Popen[str]:
        return self._start(str(WORKER), str(self.data), self.model, *words)

    def cli(self, *words: str) -> subprocess.Popen[str]:
        return self._start("-m", "collegium.cli", *words, "--json", "--data-dir", str(self.data))

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, *arguments], stdout=pipe, stderr=pipe, text=True)

    def paid(self) -> list[str]:
        return [line.split()[0] for line in self.outside.read_text().splitlines()] if self.outside.exists() else []

    async def events(self, run: str) -> list[Event]:
        async with open_collegium(Settings(data_dir=self.data), scope="none", model="scripted:none") as app:
            assert await app.stores.journal.verify(run) is None  # type: ignore[attr-defined]
            return [e async for e in app.events(run)]


async def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=90)
    return process.returncode, out, err


async def document(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    code, out, err = await said(process)
    found: dict[str, Any] = json.loads(out or err)
    return code, found


async def waiting(place: Place) -> str:
    code, out, err = await said(place.worker("submit"))
    assert code == 0, err
    run, status = out.split()
    assert status == "waiting"
    return run


@pytest.mark.parametrize("trial", range(2))
async def test_answered_by_two_processes_at_once_it_goes_on_once(tmp_path: Path, trial: int) -> None:
    place = Place(tmp_path, "pay")
    run = await waiting(place)
    assert place.paid() == []

    _, listed = await document(place.cli("approvals", "ls"))
    (question,) = listed["items"]
    assert (question["tool"], question["arguments"]) == ("pay", {"amount": 5})
    approving = [place.cli("approvals", "approve", question["approval"], "--as-user", u) for u in ("ada", "bo")]
    answers = await asyncio.gather(*map(document, approving))
    assert sorted(code for code, _ in answers) == [0, 1]
    (refused,) = [a["error"] for code, a in answers if code]
    assert refused["code"] == "already_decided"
    assert "was answered with 'approve' by" in refused["message"]

    heirs = await asyncio.gather(*(said(place.worker("resume", run)) for _ in range(2)))
    assert [(code, out.split()) for code, out, _ in heirs] == [(0, [run, "succeeded"])] * 2
    assert len(place.paid()) == 1
    events = await place.events(run)
    types = [e.type for e in events]
    assert types.count("approval.requested") == types.count("approval.answered") == types.count("tool.intended") == 1
    assert [e.attempt for e in events if e.type == "task.ready"] == [1, 2]
    assert [e.attempt for e in events if e.type == "task.started"] == [1, 2]


@pytest.mark.parametrize(("word", "times"), [("done", 1), ("not-done", 1), ("retry", 2)])
async def test_what_became_of_a_call_is_said_on_the_command_line(tmp_path: Path, word: str, times: int) -> None:
    place = Place(tmp_path, "break_off")
    run = await waiting(place)
    assert len(place.paid()) == 1
    # The command line does not have the tool: it takes the answer and leaves the work to who has.
    answers = await asyncio.gather(*(document(place.cli("runs", "resume", run, "--as", word)) for _ in range(2)))
    assert all(code in (0, 2, 3) for code, _ in answers), answers
    code, out, err = await said(place.worker("resume", run))
    assert (code, out.split()) == (0, [run, "succeeded"]), err
    assert len(place.paid()) == times
    assert len(set(place.paid())) == 1
    assert [e.type for e in await place.events(run)].count("approval.answered") == 1


async def test_a_plan_is_reviewed_edited_and_followed_by_another_process(tmp_path: Path) -> None:
    place = Place(tmp_path, "pay")
    code, report = await document(place.cli("run", "Say hello.", "--review-plan", "--model", place.model))
    assert (code, report["status"]) == (3, "waiting")
    (question,) = report["questions"]
    plan = question["arguments"]
    plan["tasks"] = [{"id": "hello", "title": "Hello", "capability": "operate", "instructions": "Say it."}]
    edited = tmp_path / "plan.json"
    edited.write_text(json.dumps(plan))
    code, error = await document(place.cli("approvals", "approve", "last", "--plan", str(tmp_path / "none.json")))
    assert (code, error["error"]["code"]) == (2, "usage")
    code, report = await document(place.cli("approvals", "approve", "last", "--plan", str(edited), "--resume"))
    assert (code, report["status"]) == (0, "succeeded")
    assert [t["id"] for t in report["plan"]["tasks"]] == ["hello"]


async def test_a_person_reads_what_to_type_next(tmp_path: Path) -> None:
    place = Place(tmp_path, "write_file")
    (tmp_path / "collegium.toml").write_text('[approvals]\ntools = ["write_*"]\nexpires_s = 7200.0\n')
    plan = {"tasks": [{"id": "do", "title": "Do", "capability": "operate", "instructions": "Write."}]}
    call = {"expect_last": "Write.", "tool_calls": [{"name": "write_file", "arguments": {"path": "a", "text": "b"}}]}
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps({"step": [{"reply": plan}, call, {"expect_last": "a", "reply": "Done."}]}))
    words = ["-m", "collegium.cli", "--config", str(tmp_path / "collegium.toml"), "--data-dir", str(place.data)]
    code, out, _ = await said(place._start(*words, "run", "Write it.", "--model", place.model))
    assert code == 3
    assert 'write_file {"path":"a","text":"b"}' in out
    (line,) = [x.strip() for x in out.splitlines() if x.strip().startswith("collegium approvals approve")]
    _, listed, _ = await said(place._start(*words, "approvals", "ls"))
    assert "reject in 1:59" in listed
    replies.write_text(json.dumps({"step": [{"expect_last": "a", "reply": "Done."}]}))
    code, out, err = await said(place._start(*words, *line.split()[1:]))
    assert code == 0, err
    assert "succeeded" in out
