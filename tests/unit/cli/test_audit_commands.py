"""``collegium audit``, as a user calls it."""

from __future__ import annotations

import json
import sqlite3
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


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object]]:
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
