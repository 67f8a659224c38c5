"""Forks, replays, exports, pruning and checks, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collegium.cli import entry

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = entry.run(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def test_a_run_replays_from_the_store_and_from_a_file_elsewhere(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert entry.run(ONE_RUN) == 0
    (project / "script.toml").unlink()  # nobody could ask the model any more
    code, told = call(capsys, "runs", "replay", "last")
    assert code == 0
    assert "differences       0" in told
    assert "models asked      0" in told
    assert call(capsys, "runs", "export", "last", "--out", "run.jsonl")[0] == 0
    code, told = call(capsys, "runs", "replay", "run.jsonl", "--data-dir", str(tmp_path / "elsewhere"), "--json")
    document = json.loads(told)
    assert (code, document["is_same"], document["chain"]["chain"]) == (0, True, "intact")
    assert (document["model_calls"], document["tool_calls"]) == (0, 0)
    assert not (tmp_path / "elsewhere" / "collegium.db").exists()


def test_a_changed_prompt_is_shown_and_the_exit_code_is_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(ONE_RUN) == 0
    (project / "own.toml").write_text(
        '[agent.writer]\nkind = "writer"\ndescription = "d"\ncapabilities = ["write"]\nprompt = "Be brief, be bold."\n'
    )
    code, told = call(capsys, "runs", "replay", "last", "--agents", "own.toml")
    assert code == 1
    assert "is not what is recorded" in told
    assert "+Be brief, be bold." in told.replace("+system: ", "+")
    assert call(capsys, "runs", "replay", "last", "--agents", "own.toml", "--pinned")[0] == 0


def test_a_file_that_was_edited_is_found_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(ONE_RUN) == 0
    assert call(capsys, "runs", "export", "last", "--out", "run.jsonl")[0] == 0
    text = (project / "run.jsonl").read_text()
    (project / "run.jsonl").write_text(text.replace("the only agent for", "the best agent for", 1))
    code, told = call(capsys, "runs", "replay", "run.jsonl")
    assert code == 1
    assert "BROKEN at event" in told
    (project / "run.jsonl").write_text(text[: len(text) // 2])
    assert call(capsys, "runs", "replay", "run.jsonl")[0] == 2


def test_a_fork_says_where_it_comes_from(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(ONE_RUN) == 0
    capsys.readouterr()
    code = entry.run(["runs", "fork", "last", "--at", "3", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["forked_from"]["seq"]) == (0, 3)
    code, told = call(capsys, "runs", "show", "last")
    assert code == 0
    assert "Ann" in told
    code, told = call(capsys, "runs", "events", "last")
    assert "run.forked" in told
    code, told = call(capsys, "runs", "fork", document["forked_from"]["run_id"], "--at", "999")
    assert code == 2
    assert "has the events 1 to" in told


def test_what_was_pruned_is_explained(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(ONE_RUN) == 0
    assert entry.run(ONE_RUN) == 0
    assert call(capsys, "runs", "prune")[0] == 2
    code, told = call(capsys, "runs", "prune", "--keep", "1", "--dry-run")
    assert (code, "1 run would go" in told) == (0, True)
    code, told = call(capsys, "runs", "prune", "--keep", "1")
    assert (code, "1 run gone" in told) == (0, True)
    code, told = call(capsys, "runs", "ls", "--json")
    new, old = json.loads(told)["items"]
    assert "pruned" in old
    assert "pruned" not in new
    assert "(pruned)" in call(capsys, "runs", "ls")[1]
    for command in ("show", "events", "files", "export", "replay"):
        _, told = call(capsys, "runs", command, old["run_id"])
        assert f"{old['run_id']} was pruned at" in told, command
        assert "run run_" not in told, command
    assert "2 journals verified, 0 changed" in call(capsys, "runs", "check")[1]
    code, told = call(capsys, "doctor")
    assert "fail" not in told.split("store")[1].split("\n")[0]
