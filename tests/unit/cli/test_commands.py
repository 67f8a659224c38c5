"""Every command, in this process: output, exit codes, and one JSON document whatever happens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from collegium.cli import entry
from collegium.cli.entry import root
from collegium.cli.lazy import LazyGroup
from tests.unit.cli.calling import collegium

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    """The exit code and the one document on standard output."""
    code, out, _ = collegium(capsys, *argv, "--json")
    assert out.endswith("\n")
    return code, json.loads(out)


def leaves(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.lazy:
        command = group.get_command(click.Context(group), name)
        if isinstance(command, LazyGroup):
            yield from leaves(command, (*path, name))
        else:
            assert command is not None
            yield (*path, name), command


ALL = dict(leaves(root))
# How each command is called where a run is there; and in a way that has to fail, with the exit code.
GOOD: dict[tuple[str, ...], list[str]] = {
    ("run",): ONE_RUN[1:],
    ("runs", "ls"): [],
    ("runs", "show"): ["last"],
    ("runs", "events"): ["last", "--follow"],
    ("runs", "files"): ["last"],
    ("runs", "cancel"): ["last"],
    ("runs", "resume"): ["last"],
    ("runs", "say"): ["last", "Hurry."],
    ("runs", "fork"): ["last", "--at", "2"],
    ("runs", "replay"): ["last"],
    ("runs", "export"): ["last", "--out", "run.jsonl"],
    ("runs", "prune"): ["--keep", "0"],
    ("runs", "check"): [],
    ("migrate",): [],
    ("schedules", "add"): ["0 7 * * *", "What is new?", "--files", "docs", "--tz", "Europe/Berlin"],
    ("schedules", "ls"): [],
    ("schedules", "show"): ["nightly"],
    ("schedules", "pause"): ["nightly", "--reason", "holidays"],
    ("schedules", "resume"): ["nightly"],
    ("schedules", "rm"): ["nightly"],
    ("topics", "ls"): [],
    ("topics", "read"): ["orders.new"],
    ("topics", "publish"): ["orders.new", '{"order": 17}', "--priority", "high"],
    ("topics", "dead"): ["orders.new"],
    ("topics", "requeue"): ["orders.new"],
    ("keys", "create"): ["--role", "admin"],
    ("keys", "ls"): [],
    ("keys", "rotate"): ["KEY"],
    ("keys", "revoke"): ["KEY"],
    ("stop",): [],
    ("start",): ["tool", "send_mail"],
    ("approvals", "ls"): [],
    ("approvals", "approve"): ["last"],
    ("approvals", "reject"): ["last"],
    ("agents", "ls"): [],
    ("agents", "show"): ["writer"],
    ("agents", "check"): ["agents.toml"],
    ("agents", "drain"): ["operator", "--reason", "a new prompt"],
    ("agents", "resume"): ["operator"],
    ("audit", "ls"): [],
    ("audit", "verify"): [],
    ("audit", "export"): ["kept.json"],
    ("privacy", "export"): ["local"],
    ("privacy", "erase"): ["user:nobody", "--yes"],
    ("tools", "ls"): [],
    ("tools", "show"): ["calculate"],
    ("tools", "call"): ["calculate", "--args", '{"expression": "6*7"}'],
    ("workers", "ls"): [],
    ("models", "ls"): [],
    ("models", "test"): ["scripted:script.toml"],
    ("config", "show"): [],
    ("doctor",): [],
    ("init",): ["new"],
    ("version",): [],
}
BAD: dict[tuple[str, ...], tuple[list[str], int]] = {
    ("run",): ([""], 2),
    ("runs", "ls"): (["--status", "nice"], 2),
    ("runs", "show"): (["abcdef"], 2),
    ("runs", "events"): (["abcdef"], 2),
    ("runs", "files"): (["abcdef"], 2),
    ("runs", "cancel"): (["abcdef"], 2),
    ("runs", "resume"): (["abcdef"], 2),
    ("runs", "say"): (["abcdef", "Hurry."], 2),
    ("runs", "fork"): (["abcdef", "--at", "1"], 2),
    ("runs", "replay"): (["abcdef"], 2),
    ("runs", "export"): (["abcdef"], 2),
    ("runs", "prune"): (["--older-than", "long"], 2),
    ("runs", "check"): (["--agents", "none.toml"], 2),
    ("migrate",): (["--from", "sqlite:///nowhere.db"], 2),
    ("schedules", "add"): (["61 * * * *", "What is new?"], 2),
    ("schedules", "ls"): (["more"], 2),
    ("schedules", "show"): (["weekly"], 2),
    ("schedules", "pause"): (["weekly"], 2),
    ("schedules", "resume"): (["weekly"], 2),
    ("schedules", "rm"): (["weekly"], 2),
    ("topics", "ls"): (["--limit", "0"], 2),
    ("topics", "read"): (["tasks.research"], 2),
    ("topics", "publish"): (["orders.new", "{so}"], 2),
    ("topics", "dead"): (["a topic"], 2),
    ("topics", "requeue"): (["orders.new", "17"], 2),
    ("keys", "create"): (["--role", "king"], 2),
    ("keys", "ls"): (["more"], 2),
    ("keys", "rotate"): (["aaaaaaaaaaaa"], 2),
    ("keys", "revoke"): (["aaaaaaaaaaaa"], 2),
    ("stop",): (["run"], 2),
    ("start",): (["agent", "writr"], 2),
    ("approvals", "ls"): (["more"], 2),
    ("approvals", "approve"): (["abcdef"], 2),
    ("approvals", "reject"): (["abcdef_1"], 2),
    ("agents", "ls"): (["--config", "none.toml"], 2),
    ("agents", "show"): (["writr"], 2),
    ("agents", "check"): (["script.toml"], 2),
    ("agents", "drain"): (["writr"], 2),
    ("agents", "resume"): (["writr"], 2),
    ("audit", "ls"): (["--since", "long ago"], 2),
    ("privacy", "export"): (["local", "--out", "nowhere/x.jsonl"], 2),
    ("privacy", "erase"): (["local"], 2),
    ("audit", "verify"): (["--against", "none.json"], 2),
    ("audit", "export"): (["nowhere/kept.json"], 2),
    ("tools", "ls"): (["more"], 2),
    ("tools", "show"): (["calculat"], 2),
    ("tools", "call"): (["calculate", "--args", "[1"], 2),
    ("serve",): (["--host", "0.0.0.0"], 2),
    ("worker",): (["--capabilities", "resarch"], 2),
    ("workers", "ls"): (["--config", "none.toml"], 2),
    ("workers", "drain"): (["wrk_none"], 2),
    ("rotate-kek",): ([], 2),
    ("rotate-dek",): ([], 2),
    ("shred",): (["acme"], 2),
    ("models", "ls"): (["--config", "none.toml"], 2),
    ("models", "pull"): (["nothing-like-it"], 2),
    ("models", "test"): (["opnai:x"], 2),
    ("config", "show"): (["--config", "none.toml"], 2),
    ("init",): (["script.toml"], 2),
    ("version",): (["--nothing"], 2),
}


STAYING = {("serve",), ("worker",), ("workers", "drain")}
"""Tried in tests/e2e/test_serve.py: they end when they are told to."""

ENCRYPTING = {("rotate-kek",), ("rotate-dek",), ("shred",)}
"""Tried in test_encryption_commands.py: they need a key."""


def test_every_command_is_tried():
    assert set(ALL) == set(GOOD) | STAYING | ENCRYPTING | {("models", "pull")}
    assert set(ALL) == set(BAD) | {("doctor",)}


@pytest.mark.parametrize("path", GOOD, ids=" ".join)
def test_json_is_one_document(path: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "agents.toml").write_bytes((Path(entry.__file__).parent / "starter/agents/example.toml").read_bytes())
    if path[0] == "approvals" or path == ("runs", "say"):
        assert entry.run([*ONE_RUN, "--review-plan"]) == 3
    elif path[0] in ("runs", "audit"):
        entry.run(ONE_RUN)
    elif path[0] == "schedules":
        assert entry.run(["schedules", "add", "@daily", "What is new?", "--name", "nightly"]) == 0
    words = GOOD[path]
    if words == ["KEY"]:
        words = [document(capsys, "keys", "create", "--role", "viewer")[1]["key_id"]]
    code, found = document(capsys, *path, *words)
    assert "error" not in found or path[0] in ("run", "runs")
    assert code == 0


@pytest.mark.parametrize("path", BAD, ids=" ".join)
def test_errors_are_one_document_too(path: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]):
    words, expected = BAD[path]
    code, found = document(capsys, *path, *words)
    assert code == expected
    assert set(found) == {"error"}
    assert set(found["error"]) == {"code", "message", "fields"}
    # The same in words: one line, on standard error only.
    code, out, err = collegium(capsys, *path, *words)
    assert (code, out) == (expected, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str], place: Path):
    code, out, err = collegium(capsys, "runs")
    assert code == 2
    assert "resume  Go on with a run" in out + err
    assert document(capsys, "runs")[1]["error"]["code"] == "usage"


def test_options_of_all_commands_stand_on_both_sides(capsys: pytest.CaptureFixture[str], place: Path):
    for words in (["--json", "config", "show", "--data-dir", "x"], ["--data-dir", "x", "config", "show", "--json"]):
        _, out, _ = collegium(capsys, *words)
        rows = {row["key"]: row for row in json.loads(out)["settings"]}
        assert rows["data_dir"]["value"] == str(place / "x")
        assert rows["data_dir"]["source"] == "the command line"


def test_help_lines_are_those_of_the_commands():
    for path, command in ALL.items():
        group: click.Command | None = root
        for name in path[:-1]:
            assert isinstance(group, LazyGroup)
            group = group.get_command(click.Context(group), name)
        assert isinstance(group, LazyGroup)
        assert group.lazy[path[-1]].summary.endswith(".")
        assert command.help, path


def test_a_run_answers_with_sources(project: Path, capsys: pytest.CaptureFixture[str]):
    code, out, err = collegium(capsys, *ONE_RUN)
    assert code == 0
    assert "Ann owns the payments service. [1]" in out
    assert re.search(r"\[1\] owners\.md:\d+-\d+", out)
    assert "photo.bin: " in out
    assert "succeeded" in out
    assert "planned 2 tasks" in err
    code, found = document(capsys, "runs", "show", "last")
    place = found["answer"]["citations"][0]
    text = (project / "docs" / place["document"]).read_text()
    assert text[place["start"] : place["end"]] == place["quote"]


def test_runs_are_found_by_a_part_of_their_id(project: Path, capsys: pytest.CaptureFixture[str]):
    run = document(capsys, *ONE_RUN)[1]["run_id"]
    for name in (run, run[-10:], run[-10:-2], "last"):
        assert document(capsys, "runs", "show", name)[1]["run_id"] == run
    code, _, err = collegium(capsys, "runs", "show", "run")
    assert code == 2
    assert "too short" in err


def test_part_of_many_ids_is_refused(project: Path, capsys: pytest.CaptureFixture[str]):
    first = document(capsys, *ONE_RUN)[1]["run_id"]
    document(capsys, *ONE_RUN)
    code, found = document(capsys, "runs", "show", first[:8])
    assert code == 2
    assert len(found["error"]["fields"]["runs"]) == 2


def test_listing_goes_on_behind_a_run(project: Path, capsys: pytest.CaptureFixture[str]):
    made = [document(capsys, *ONE_RUN, "--project", name)[1]["run_id"] for name in ("hr", "", "hr")]
    of_one = document(capsys, "runs", "ls", "--project", "hr", "--limit", "1")[1]
    assert ([i["run_id"] for i in of_one["items"]], of_one["items"][0]["project"]) == (made[2:], "hr")
    assert (
        document(capsys, "runs", "ls", "--project", "hr", "--after", of_one["next"])[1]["items"][0]["run_id"] == made[0]
    )
    page = document(capsys, "runs", "ls", "--limit", "2")[1]
    assert [i["run_id"] for i in page["items"]] == made[:0:-1]
    rest = document(capsys, "runs", "ls", "--after", page["next"])[1]
    assert [i["run_id"] for i in rest["items"]] == made[:1]
    assert rest["next"] is None
    assert document(capsys, "runs", "ls", "--status", "failed")[1]["items"] == []


def test_a_plan_is_shown_and_not_followed(project: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = collegium(capsys, *ONE_RUN, "--plan-only")
    assert code == 0
    assert "Write the answer" in out
    assert "about" in out
    code, found = document(capsys, *ONE_RUN, "--plan-only")
    assert code == 0
    assert found["answer"] is None
    assert {t["status"] for t in found["plan"]["tasks"]} == {"pending"}
    assert found["estimate"]["input_tokens"] > 0


def test_files_a_run_writes_are_copied(project: Path, capsys: pytest.CaptureFixture[str]):
    goal = ["run", "Who owns the payments service? Write it to notes/owner.md", "--files", "docs"]
    code, _, err = collegium(capsys, *goal, "--out", "results")
    assert code == 0
    assert "Ann" in (project / "results/notes/owner.md").read_text()
    assert "wrote results/notes/owner.md" in err
    assert document(capsys, "runs", "files", "last", "--out", "again")[1]["written"] == ["again/notes/owner.md"]


def test_a_cassette_is_written_and_played(project: Path, capsys: pytest.CaptureFixture[str]):
    first = document(capsys, *ONE_RUN, "--record", "tape.jsonl")[1]
    (project / "script.toml").unlink()
    second = document(capsys, *ONE_RUN, "--replay", "tape.jsonl")[1]
    assert second["answer"]["text"] == first["answer"]["text"]


def test_a_run_goes_on_from_another(project: Path, capsys: pytest.CaptureFixture[str]):
    document(capsys, *ONE_RUN, "--project", "hr")
    code, found = document(capsys, "run", "And since when?", "--continue", "last")
    assert code == 0
    assert found["files"]["given"] == 2
    assert document(capsys, "runs", "ls", "--project", "hr")[1]["items"][0]["run_id"] == found["run_id"]


def test_own_agents_come_with_an_option(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "bad.toml").write_text("[agent.x]\nkind = 'writer'\n")
    code, found = document(capsys, *ONE_RUN, "--agents", "bad.toml")
    assert code == 2
    assert "bad.toml" in found["error"]["message"]


def test_init_overwrites_nothing(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "README.md").write_text("mine")
    code, found = document(capsys, "init")
    assert code == 0
    assert sorted(found["made"]) == ["agents/example.toml", "collegium.toml"]
    assert found["kept"] == ["README.md"]
    assert (place / "README.md").read_text() == "mine"
    assert collegium(capsys, "agents", "check", "agents/example.toml")[0] == 0
    assert "auditor" in [a["name"] for a in document(capsys, "agents", "ls")[1]["items"]]


def test_the_starter_shows_true_defaults(place: Path, capsys: pytest.CaptureFixture[str]):
    """Every commented line that says a default says the one that holds; and every key exists."""
    document(capsys, "init")
    text = (place / "collegium.toml").read_text()
    keys = {"data_dir", "store", "model", "chain_key_file", "expires_s", "assignee"}  # examples, not defaults
    lines = [re.sub(r"^# (?=[\w\"]+ = |\[)", "", line) for line in text.splitlines()]
    (place / "collegium.toml").write_text("\n".join(lines))
    told = {row["key"]: row for row in document(capsys, "config", "show")[1]["settings"]}
    (place / "collegium.toml").unlink()
    real = {row["key"]: row for row in document(capsys, "config", "show")[1]["settings"]}
    for key, row in real.items():
        if (
            row["value"] is None
            or key.rpartition(".")[2] in keys
            or key in ("config", "models.context_tokens", "agents.files")
        ):
            continue
        if key in ("models.prices", "models.profiles", "models.rates", "limits.tasks_of"):
            assert told[key]["value"]
        else:
            assert (told[key]["value"], told[key]["source"]) == (row["value"], "collegium.toml"), key


def test_a_doctor_says_what_fails(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "broken.db").write_bytes(b"this is no database" * 100)
    code, found = document(capsys, "doctor", "--store", f"sqlite:///{place}/broken.db")
    assert code == 1
    assert [c["name"] for c in found["checks"] if c["level"] == "fail"] == ["store"]
    (place / "collegium.toml").write_text("modl = 1")
    code, found = document(capsys, "doctor")
    assert code == 1
    assert [c["name"] for c in found["checks"] if c["level"] == "fail"] == ["settings"]


def test_an_unexpected_error_is_logged_not_shown(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(context: click.Context) -> None:
        raise RuntimeError("a fault")

    command = root.get_command(click.Context(root), "version")
    assert command is not None
    monkeypatch.setattr(command, "invoke", broken)
    code, found = document(capsys, "version")
    assert code == 1
    assert found["error"]["code"] == "internal"
    assert "RuntimeError: a fault" in Path(found["error"]["fields"]["log"]).read_text()
