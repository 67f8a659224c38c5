"""``collegium migrate --from --to``: what is said, what is printed, how it exits."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.unit.cli.calling import collegium

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    code, out, _ = collegium(capsys, *argv, "--json")
    return code, json.loads(out)


@pytest.fixture
def source(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    code, found = document(capsys, *ONE_RUN)
    assert code == 0
    path = next(project.parent.rglob("collegium.db"))
    assert found["run_id"]
    return f"sqlite:///{path}"


def test_a_store_goes_to_postgresql_and_is_worked_with_there(
    source: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
):
    shown = document(capsys, "runs", "show", "last")[1]
    code, planned = document(capsys, "migrate", "--from", source, "--to", postgres_url, "--dry-run")
    assert (code, planned["dry_run"], planned["counts"]["runs"], planned["written"]["runs"]) == (0, True, 1, 0)
    code, out, err = collegium(capsys, "migrate", "--from", source, "--to", postgres_url)
    assert code == 0
    assert "every chain and every blob was verified; 1 run" in out
    assert "index.db: search index: made again" in out
    assert "runs: 1 of 1" in err
    code, again = document(capsys, "migrate", "--from", source, "--to", postgres_url)
    assert (code, again["was_done"], again["counts"]) == (0, True, planned["counts"])
    assert postgres_url.partition("@")[0] not in json.dumps(again), "no password is shown"
    assert document(capsys, "runs", "show", "last", "--store", postgres_url)[1] == shown
    assert document(capsys, "audit", "verify", "--store", postgres_url)[0] == 0
    code, new = document(capsys, *ONE_RUN, "--store", postgres_url)
    assert (code, new["status"]) == (0, "succeeded")


def test_a_damaged_run_is_named(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = document(capsys, "runs", "show", "last")[1]["run_id"]
    with sqlite3.connect(source.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE events SET type = 'run.planned' WHERE run = ? AND seq = 1", (run,))
    connection.close()
    target = f"sqlite:///{tmp_path / 'new' / 'store.db'}"
    code, out, _ = collegium(capsys, "migrate", "--from", source, "--to", target)
    assert code == 1
    assert f"not as it was written: run {run}, from event 1 on" in out
    code, found = document(capsys, "migrate", "--from", source, "--to", target)
    assert (code, found["damaged"]["run"], found["is_verified"]) == (1, run, False)
    code, found = document(capsys, "runs", "ls", "--store", target)
    assert code == 5
    assert "is not whole" in found["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--from", "SOURCE"], 2, "--from and --to go together"),
        (["--from", "SOURCE", "--to", "SOURCE"], 2, "are the same store"),
        (["--from", "sqlite:///nowhere.db", "--to", "sqlite:///new.db"], 2, "there is no store nowhere.db"),
        (["--from", "mysql://x", "--to", "sqlite:///new.db"], 2, "this version knows sqlite:///PATH"),
        (["--from", "SOURCE", "--to", "postgresql://127.0.0.1:1/x"], 5, "cannot be used now"),
    ],
)
def test_what_cannot_be(source: str, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str):
    given = [source if word == "SOURCE" else word for word in words]
    found, out, err = collegium(capsys, "migrate", *given)
    assert (found, out) == (code, "")
    assert said in err
