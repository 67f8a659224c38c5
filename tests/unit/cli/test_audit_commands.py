"""``collegium audit``, as a user calls it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from collegium.cli import entry
from collegium.cli.deeds import note
from collegium.cli.person import user
from collegium.config import load_settings
from collegium.wiring import open_collegium

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = entry.run(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = entry.run([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def store(project: Path, tmp_path: Path) -> Path:
    """A store with two runs and a chain key."""
    (project / "chain.key").write_text("k" * 40)
    (project / "collegium.toml").write_text(
        'model = "scripted:script.toml"\nstore = "sqlite:///store.db"\n[journal]\nchain_key_file = "chain.key"\n'
    )
    assert entry.run(ONE_RUN) == 0
    assert entry.run(ONE_RUN) == 0
    return project / "store.db"


def tamper(store: Path, *statements: str) -> None:
    connection = sqlite3.connect(store)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


FIRST = "(SELECT min(run) FROM heads)"
REMOVED = tuple(f"DELETE FROM {table} WHERE run = {FIRST}" for table in ("events", "fences", "heads"))


def test_a_store_as_it_was_written(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = call(capsys, "audit", "verify")
    assert (code, "2 journals verified against" in told, "nothing was changed" in told) == (0, True, True)
    assert "accidents" not in told
    code, found = document(capsys, "audit", "verify")
    assert (code, found["ok"], found["verified"], found["open"], found["damaged"]) == (0, True, 2, 0, [])
    assert found["has_chain_key"] is True
    assert int(str(found["checkpoints"])) >= 2


def test_a_run_that_is_gone_with_head_and_tombstone_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(store, *REMOVED)
    code, told = call(capsys, "audit", "verify")
    assert code == 1
    assert "was changed: event 1 is not as it was written (its head is gone" in told
    code, found = document(capsys, "audit", "verify")
    assert (code, found["ok"], found["verified"]) == (1, False, 1)
    code, told = call(capsys, "runs", "check")
    assert (code, "its head is gone" in told) == (1, True)


def test_a_checkpoint_that_is_gone_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(store, "DELETE FROM checkpoints WHERE number = 1")
    code, told = call(capsys, "audit", "verify")
    assert (code, "checkpoint 1 is missing" in told) == (1, True)
    code, told = call(capsys, "audit", "export")
    assert (code, "an export would vouch for what is left" in told) == (2, True)


def test_what_was_exported_shows_what_the_store_alone_cannot(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = call(capsys, "audit", "export", "kept.json")
    assert (code, "exported to kept.json" in told) == (0, True)
    code, told = call(capsys, "audit", "verify", "--against", "kept.json")
    assert (code, "the chain goes on from kept.json" in told) == (0, True)
    tamper(store, *(statement.replace(FIRST, "(SELECT max(run) FROM heads)") for statement in REMOVED))
    tamper(store, "DELETE FROM checkpoints WHERE number > 1")
    assert call(capsys, "audit", "verify")[0] == 0, "this is what a store alone cannot show"
    code, told = call(capsys, "audit", "verify", "--against", "kept.json")
    assert (code, "the chain ends at 1" in told) == (1, True)


def test_an_export_without_a_path_names_its_number(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, made = document(capsys, "audit", "export")
    assert (code, made["path"]) == (0, f"checkpoint-{made['number']}.json")
    kept = json.loads(Path(str(made["path"])).read_text())
    assert (kept["number"], kept["signature"]) == (made["number"], made["signature"])


@pytest.mark.parametrize(
    ("argv", "text", "problem"),
    [
        (("verify", "--against", "none.json"), None, "none.json cannot be read"),
        (("verify", "--against", "other.json"), '{"a": 1}', "is no exported checkpoint"),
        (("export", "nowhere/x.json"), None, "cannot be written"),
    ],
)
def test_what_cannot_be_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], text: str | None, problem: str
) -> None:
    if text is not None:
        Path("other.json").write_text(text)
    code, told = call(capsys, "audit", *argv)
    assert (code, problem in told) == (2, True)


def test_an_export_that_was_edited_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "audit", "export", "kept.json")[0] == 0
    kept = Path("kept.json")
    kept.write_text(kept.read_text().replace('"number":', '"number":1'))
    code, told = call(capsys, "audit", "verify", "--against", "kept.json")
    assert (code, "was changed, or signed with another chain key" in told) == (1, True)


def test_without_runs_and_without_a_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = call(capsys, "audit", "export")
    assert (code, "nothing was signed yet" in told) == (2, True)
    code, told = call(capsys, "audit", "verify")
    assert code == 0
    assert "0 journals verified, nothing signed yet" in told
    assert "shows accidents, not forgery" in told


async def _log(*objects: str) -> None:
    async with open_collegium(load_settings(None, os.environ), scope="none", model="none:needed") as app:
        for name in objects:
            await note(app, "keys.created", name, reason="a test")


def test_the_log_is_listed_exported_line_by_line_and_verified_against_that(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_log("key:1", "key:2", "key:3"))
    code, told = call(capsys, "audit", "ls", "--action", "keys.*")
    assert (code, "key:3" in told, user(None) in told) == (0, True, True)
    code, found = document(capsys, "audit", "ls", "--limit", "2")
    assert [one["object"] for one in found["items"]] == ["key:3", "key:2"]
    assert call(capsys, "audit", "ls", "--since", "2126-01-01")[1].startswith("There is no such line")
    assert document(capsys, "audit", "export", "log.jsonl", "--log")[1]["deeds"] == 3
    asyncio.run(_log("key:4"))
    assert document(capsys, "audit", "export", "log.jsonl", "--log")[1]["deeds"] == 1
    assert document(capsys, "audit", "export", "log.jsonl", "--log")[1]["deeds"] == 0
    lines = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["deed", "deed", "deed", "checkpoint", "deed", "checkpoint"]
    code, told = call(capsys, "audit", "verify", "--against", "log.jsonl")
    assert (code, "administrative log: 1 month verified" in told) == (0, True)
    # Whoever has the store removes the whole log with its checkpoints: only what was exported shows it.
    for table in ("events", "heads"):
        tamper(store, f"DELETE FROM {table} WHERE run LIKE 'log_%'")
    tamper(store, "DELETE FROM checkpoints WHERE tenant LIKE '~log%'")
    assert call(capsys, "audit", "verify")[0] == 0
    code, found = document(capsys, "audit", "verify", "--against", "log.jsonl")
    assert (code, found["ok"], found["log"]["damaged"][0]["checkpoint"] is not None) == (1, False, True)


def test_a_changed_line_of_the_log_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_log("key:1", "key:2"))
    tamper(store, "UPDATE events SET body = replace(body, 'key:2', 'key:9') WHERE run LIKE 'log_%'")
    code, told = call(capsys, "audit", "verify")
    assert (code, "event 3 is not as it was written" in told) == (1, True)
    code, found = document(capsys, "audit", "verify")
    assert [bad["seq"] for bad in found["log"]["damaged"]] == [3]


def test_what_is_no_exported_log_is_not_written_behind(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.txt").write_text('{"a": 1}')
    code, told = call(capsys, "audit", "export", "other.txt", "--log")
    assert (code, "is no exported log" in told, Path("other.txt").read_text()) == (2, True, '{"a": 1}')
