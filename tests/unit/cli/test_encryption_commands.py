"""``rotate-kek``, ``rotate-dek``, ``shred``, and the commands of every day over a store that encrypts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.cli.calling import collegium, document

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]
SAID = "owner of the payments service"


def configure(project: Path, *lines: str) -> None:
    text = 'model = "scripted:script.toml"\n[encryption]\nrefresh_s = 0.05\n'
    (project / "collegium.toml").write_text(text + "\n".join(lines))


@pytest.fixture
def sealed(project: Path) -> Path:
    """The project with a key; another one lies beside it."""
    (project / "kek").write_text("ab" * 32)
    (project / "kek-2").write_text("cd" * 32)
    configure(project, 'kek_file = "kek"')
    return project


def store_of(project: Path) -> Path:
    return next(project.parent.rglob("collegium.db"))


def bodies(project: Path) -> str:
    with closing(sqlite3.connect(store_of(project))) as file:
        rows = file.execute(
            "SELECT body FROM events UNION ALL SELECT data FROM blobs UNION ALL SELECT value FROM records"
        )
        return " ".join(str(value) for (value,) in rows)


def test_runs_are_kept_encrypted(sealed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = document(capsys, *ONE_RUN)
    assert done["status"] == "succeeded"
    assert SAID not in bodies(sealed)
    assert document(capsys, "runs", "show", "last")["run_id"] == done["run_id"]
    assert collegium(capsys, "audit", "verify")[0] == 0
    assert collegium(capsys, "runs", "check")[0] == 0
    out = sealed / "run.jsonl"
    assert collegium(capsys, "runs", "export", "last", "--out", str(out))[0] == 0
    assert SAID in out.read_text(), "an export is in plain"


def test_a_store_moves_with_its_keys(sealed: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = document(capsys, *ONE_RUN)
    code, out, err = collegium(capsys, "migrate", "--from", f"sqlite:///{store_of(sealed)}", "--to", postgres_url)
    assert code == 0, err
    assert "every chain and every blob was verified" in out
    moved = document(capsys, "runs", "show", "last", "--store", postgres_url)
    assert (moved["run_id"], moved["status"]) == (shown["run_id"], "succeeded")
    assert document(capsys, *ONE_RUN, "--store", postgres_url)["status"] == "succeeded"
    assert document(capsys, "rotate-dek", "--store", postgres_url)["rows"] > 0
    assert collegium(capsys, "audit", "verify", "--store", postgres_url)[0] == 0


def test_what_was_plain_is_sealed_by_rotation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    assert SAID in bodies(project)
    (project / "kek").write_text("ab" * 32)
    configure(project, 'kek_file = "kek"')
    code, out, err = collegium(capsys, "rotate-dek")
    assert code == 0, err
    assert "encrypted with new data keys" in out
    assert "events: " in err
    assert SAID not in bodies(project)
    assert document(capsys, "runs", "show", "last")["status"] == "succeeded"
    configure(project)
    code, _, err = collegium(capsys, "runs", "show", "last")
    assert code == 2
    assert "is encrypted, and no key is configured" in err


def test_the_key_of_keys_is_rotated(sealed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    configure(sealed, 'kek_file = "kek-2"')
    code, _, err = collegium(capsys, "runs", "show", "last")
    assert code == 2
    assert "it is the wrong key" in err
    configure(sealed, 'kek_file = "kek-2"', 'previous_kek_files = ["kek"]')
    assert document(capsys, "rotate-kek")["data_keys"] > 0
    assert collegium(capsys, "rotate-kek")[1].startswith("0 data keys")
    configure(sealed, 'kek_file = "kek-2"')
    assert document(capsys, "runs", "show", "last")["status"] == "succeeded"


def test_a_tenant_is_shredded(sealed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    code, _, err = collegium(capsys, "shred", "default")
    assert code == 2
    assert "say --yes" in err
    code, out, err = collegium(capsys, "shred", "default", "--yes")
    assert code == 0, err
    assert "1 data keys of default are destroyed" in out
    code, _, err = collegium(capsys, "runs", "show", "last")
    assert code == 1
    assert "it was erased: the data keys of tenant 'default' were destroyed" in err
    assert collegium(capsys, "audit", "verify")[0] == 0, "the chains hold"
    assert any(line["action"] == "encryption.shred" for line in document(capsys, "audit", "ls")["items"])
    assert document(capsys, *ONE_RUN)["status"] == "succeeded", "whoever goes on has new keys"


def test_what_a_shredded_tenant_would_go_on_with_ends(sealed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    document(capsys, "schedules", "add", "@daily", "Do it.")
    document(capsys, "keys", "create", "--role", "viewer", "--tenant", "default")
    shredded = document(capsys, "shred", "default", "--yes")
    assert (shredded["schedules"], shredded["keys"], shredded["webhooks"]) == (1, 1, 0)
    assert document(capsys, "schedules", "ls")["items"] == []
    (key,) = document(capsys, "keys", "ls")["items"]
    assert "revoked" in str(key.get("status", key)), key
    actions = [line["action"] for line in document(capsys, "audit", "ls")["items"]]
    assert {"encryption.shred", "schedules.added"} <= set(actions), "the log stays"


def test_what_is_plain_is_not_left_behind(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    (project / "kek").write_text("ab" * 32)
    configure(project, 'kek_file = "kek"')
    code, _, err = collegium(capsys, "shred", "default", "--yes")
    assert code == 2
    assert "rows of 'default' are not encrypted and would stay" in err
    assert document(capsys, "runs", "show", "last")["status"] == "succeeded", "nothing was done"


@pytest.mark.parametrize("tenant", ["~keys", "~", ""])
def test_what_belongs_to_the_installation_is_not_shredded(
    sealed: Path, capsys: pytest.CaptureFixture[str], tenant: str
) -> None:
    code, _, err = collegium(capsys, "shred", tenant, "--yes")
    assert code == 2
    assert "belongs to the installation" in err


def test_without_a_key_there_is_nothing_to_rotate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["rotate-dek"], ["rotate-kek"], ["shred", "default", "--yes"]):
        code, _, err = collegium(capsys, *argv)
        assert code == 2
        assert "nothing is encrypted" in err


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['kek_file = "none"'], "cannot be read"),
        (['kek_file = "docs/owners.md"'], "no key of 256 bits"),
        (['kek_variable = "NO_SUCH_VARIABLE"'], "is not set"),
        (['kms = "nonsense"'], "module:factory"),
        (['kek_file = "kek"', 'kms = "a:b"'], "give one of"),
        (['previous_kek_files = ["kek"]'], "none for now"),
    ],
)
def test_keys_that_will_not_do_are_named(
    sealed: Path, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    configure(sealed, *lines)
    code, _, err = collegium(capsys, "runs", "ls")
    assert code == 2
    assert said in err
