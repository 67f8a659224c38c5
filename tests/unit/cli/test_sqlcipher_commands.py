"""The commands over stores that are encrypted as a whole: what a thief finds, keys that will not do, moving."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collegium.adapters.encryption.file_key import key_place
from collegium.config import load_settings
from collegium.wiring.file_keys import store_damage
from tests.unit.cli.calling import collegium, document

ONE_RUN = ["run", "Who owns the payments service?", "--files", "docs"]
ENVELOPES = ('kek_file = "kek"',)
WHOLE = (*ENVELOPES, "sqlcipher = true")


def configure(project: Path, *lines: str, store: Path | None = None) -> None:
    text = 'model = "scripted:script.toml"\n' + (f'store = "sqlite:///{store}"\n' if store else "")
    (project / "collegium.toml").write_text(text + "[encryption]\nrefresh_s = 0.05\n" + "\n".join(lines))


@pytest.fixture
def keyed(project: Path) -> Path:
    """The project with two keys beside it, and the first of them configured for whole files."""
    (project / "kek").write_text("ab" * 32)
    (project / "kek-2").write_text("cd" * 32)
    configure(project, *WHOLE)
    return project


def store_of(project: Path) -> Path:
    return next(project.parent.rglob("collegium.db"))


def found_in(folder: Path, *words: str) -> set[str]:
    """Which words the SQLite files of a data folder show to somebody without keys."""
    files = [path for path in folder.iterdir() if path.is_file() and ".db" in path.name]
    assert files
    return {word for word in words for path in files if word.encode() in path.read_bytes()}


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    code, _, err = collegium(capsys, *argv)
    assert code == 2, err
    return err


def test_a_thief_finds_not_even_names(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(keyed, *ENVELOPES)
    id_ = document(capsys, *ONE_RUN)["run_id"]
    folder = store_of(keyed).parent
    words = (id_, "default", "run.submitted", "succeeded", "payments", "SQLite format 3")
    assert {id_, "default", "run.submitted"} <= found_in(folder, *words), "envelopes leave them in plain"
    folder.rename(folder.with_name("old"))
    configure(keyed, *WHOLE)
    done = document(capsys, *ONE_RUN)
    assert done["status"] == "succeeded"
    assert {path.name for path in folder.glob("*.db")} >= {"collegium.db", "index.db"}
    assert found_in(folder, done["run_id"], *words) == set()
    assert document(capsys, "runs", "show", "last")["run_id"] == done["run_id"]
    for command in (["audit", "verify"], ["runs", "check"], ["rotate-dek"], ["migrate"]):
        assert collegium(capsys, *command)[0] == 0, command
    store = store_of(keyed)
    assert store_damage(load_settings(None, {}, {}), store) == "", "as the doctor looks at it"


def test_a_new_key_of_keys_wraps_the_file_keys_anew(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    before = store_of(keyed).stat().st_size
    new = ('kek_file = "kek-2"', "sqlcipher = true")
    configure(keyed, *new)
    assert "configure the one it was encrypted with" in refused(capsys, "runs", "show", "last")
    configure(keyed, *new, 'previous_kek_files = ["kek"]')
    assert document(capsys, "rotate-kek")["data_keys"] >= 4, "those of two tenants, of the store and of the index"
    assert document(capsys, "rotate-kek")["data_keys"] == 0
    configure(keyed, *new)
    assert document(capsys, *ONE_RUN)["status"] == "succeeded"
    assert store_of(keyed).stat().st_size >= before


def test_a_store_is_not_opened_as_what_it_is_not(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, *ONE_RUN)
    store = store_of(keyed)
    configure(keyed, *ENVELOPES)
    assert "set [encryption] sqlcipher = true" in refused(capsys, "runs", "ls")
    configure(keyed)
    assert "set [encryption] sqlcipher = true" in refused(capsys, "runs", "ls")
    configure(keyed, *WHOLE)
    kept = key_place(store).read_bytes()
    key_place(store).unlink()
    said = refused(capsys, "runs", "ls")
    assert "restore its key file from a backup" in said
    assert "collegium migrate --from" in said
    key_place(store).write_bytes(key_place(store.with_name("index.db")).read_bytes())
    code, _, err = collegium(capsys, "runs", "ls")
    assert (code, "does not open with the key in" in err) == (5, True)
    key_place(store).write_text("{}")
    code, _, err = collegium(capsys, "runs", "ls")
    assert (code, "is damaged: restore it from a backup" in err) == (5, True)
    key_place(store).write_bytes(kept)
    assert document(capsys, "runs", "show", "last")["status"] == "succeeded"


def test_it_moves_from_plain_to_encrypted_and_back(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(keyed, *ENVELOPES)
    id_ = document(capsys, *ONE_RUN)["run_id"]
    plain = store_of(keyed)
    whole, again = plain.with_name("whole.db"), plain.with_name("again.db")
    configure(keyed, *WHOLE)
    assert "collegium migrate --from" in refused(capsys, "runs", "ls"), "a file in plain is named"
    for source, target in ((plain, whole), (whole, again)):
        configure(keyed, *(WHOLE if target == whole else ENVELOPES), store=target)
        ends = ("--from", f"sqlite:///{source}", "--to", f"sqlite:///{target}")
        assert collegium(capsys, "migrate", *ends, "--dry-run")[0] == 0
        assert not target.exists()
        code, out, err = collegium(capsys, "migrate", *ends)
        assert (code, "every chain and every blob was verified" in out) == (0, True), err
        shown = document(capsys, "runs", "show", "last")
        assert (shown["run_id"], shown["status"]) == (id_, "succeeded")
        assert collegium(capsys, "audit", "verify")[0] == 0
        assert target.read_bytes().startswith(b"SQLite format 3") == (target == again)
    assert key_place(whole).exists()
    assert not key_place(again).exists()
    assert document(capsys, *ONE_RUN)["status"] == "succeeded", "an index that was encrypted is made anew"


def test_a_key_without_its_file_is_no_reason_to_take_a_plain_one_for_encrypted(
    keyed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document(capsys, "runs", "ls")
    store = store_of(keyed)
    other = store.with_name("other.db")
    key_place(other).write_bytes(key_place(store).read_bytes())
    ends = ("--from", f"sqlite:///{store}", "--to", f"sqlite:///{other}")
    configure(keyed, *ENVELOPES)
    assert "is not there: restore it, or remove the key" in refused(capsys, "migrate", *ends)
    store.unlink()
    assert "is not there: restore it, or remove the key" in refused(capsys, "runs", "ls")
    key_place(store).unlink()
    assert collegium(capsys, "runs", "ls")[0] == 0
    assert store.read_bytes().startswith(b"SQLite format 3")


def test_whole_files_need_a_key_and_the_extra(
    keyed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sqlcipher3", None)
        assert "pip install 'collegium[sqlcipher]'" in refused(capsys, "runs", "ls")
    configure(keyed, "sqlcipher = true")
    assert "sqlcipher needs a key" in refused(capsys, "runs", "ls")
