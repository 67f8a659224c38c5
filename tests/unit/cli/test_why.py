"""Why each task went to its agent, as ``runs show`` says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.cli import entry


def test_runs_show_says_why_each_task_went_to_its_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.toml").write_text('ordered = false\n[[step]]\nreply = "Ann."\ntimes = "any"\n')
    Path("own.toml").write_text(
        '[agent.poet]\nkind = "writer"\ndescription = "d"\ncapabilities = ["write"]\nprompt = "Rhyme."\nrating = 0.9\n'
    )
    assert entry.run(["run", "Who?", "--model", "scripted:script.toml", "--agents", "own.toml"]) == 0
    capsys.readouterr()
    assert entry.run(["runs", "show", "last"]) == 0
    told = capsys.readouterr().out
    assert "write  poet: the best of 2 agents for 'write' with 0." in told
    assert "before writer 0." in told
    assert entry.run(["runs", "show", "last", "--json"]) == 0
    shown = capsys.readouterr().out
    assert '"candidates":[{"agent":"poet","score":0.' in shown
