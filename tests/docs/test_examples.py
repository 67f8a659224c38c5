"""The examples run, and every snippet in the documents is a slice of one of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
_SNIPPET = re.compile(r"# snippet: (\S+)\n(.*?)# end snippet", re.DOTALL)


def flat(code: str) -> str:
    """Code without indentation and blank lines, so that a slice of a function counts as the same."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def snippets() -> list[str]:
    return [flat(m[2]) for p in (ROOT / "examples").glob("*.py") for m in _SNIPPET.finditer(p.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_in_the_documents_is_a_slice_of_an_example(page: Path) -> None:
    known = snippets()
    for match in _FENCE.finditer(page.read_text("utf-8")):
        body = flat(re.sub(r"(?m)^(import|from) .*$", "", match[1]))
        assert any(body in s or s in body for s in known), f"{page.name}: this code is in no example:\n{match[1]}"


def run_example(name: str, tmp_path: Path, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        env={**os.environ, "COLLEGIUM_DATA_DIR": str(tmp_path), **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_answers_with_its_source(tmp_path: Path) -> None:
    script = tmp_path / "weak.json"
    script.write_text(
        json.dumps({"profile": {"tool_mode": "schema", "can_plan": False, "can_write": False}, "step": []})
    )
    out = run_example("ask_handbook.py", tmp_path, COLLEGIUM_MODEL=f"scripted:{script}")
    assert "35 days" in out
    assert "policies/backup-policy.md" in out


def test_the_tool_example_intends_calls_and_finishes_once(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    call = {"name": "open_ticket", "arguments": {"title": "Label printer in Oslo is down", "severity": 2}}
    steps = [{"tool_calls": [call]}, {"reply": "I opened a ticket with severity 2."}]
    script.write_text(json.dumps({"step": steps}))
    out = run_example("own_tool.py", tmp_path, COLLEGIUM_MODEL=f"scripted:{script}")
    assert out.count("tool.intended") == 1
    assert out.count("tool.finished") == 1
    assert out.startswith("succeeded")


def test_the_approval_example_asks_before_it_calls(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    call = {"name": "refund", "arguments": {"order": "4711", "amount": 12.5}}
    script.write_text(json.dumps({"step": [{"tool_calls": [call]}, {"reply": "I refunded order 4711."}]}))
    out = run_example("ask_first.py", tmp_path, COLLEGIUM_MODEL=f"scripted:{script}").splitlines()
    assert out[0] == "waiting"
    assert "refund asks before every call {'amount': 12.5, 'order': '4711'}" in out[1]
    assert out[2].startswith(("succeeded", "partial"))


def test_the_schedule_example_adds_one_and_pauses_it(tmp_path: Path) -> None:
    out = run_example("schedule.py", tmp_path, COLLEGIUM_MODEL="scripted:none.toml").splitlines()
    assert out[0].endswith((" 05:30:00+00:00", " 06:30:00+00:00"))
    assert out[1] == "holidays"


def test_the_example_of_messages_answers_an_order(tmp_path: Path) -> None:
    out = run_example("messages.py", tmp_path).splitlines()
    assert "{'stored': 19}" in out


def test_the_receiver_of_webhooks_takes_a_message_once_and_no_forgery(tmp_path: Path) -> None:
    assert run_example("webhook_receiver.py", tmp_path).splitlines() == ["run.finished", "204 204 401"]
