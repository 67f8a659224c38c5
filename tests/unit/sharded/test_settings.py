"""Shards as they are named in settings: by number, for ever, and found out when they are not what they were."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from collegium.cli import entry
from collegium.config import Settings, explain, load_settings
from collegium.domain.errors import UsageError
from collegium.domain.ids import shard_of
from collegium.wiring import open_collegium
from collegium.wiring.migrate import migrate
from tests.unit.runtime.plans import ONE

Shard = str | dict[str, Any]


def given(folder: Path, shards: Sequence[Shard], **postgres: Any) -> Settings:
    """Settings with files as shards."""
    named = [{"url": url(folder, one)} if isinstance(one, str) else one for one in shards]
    return load_settings(
        None, {}, {"data_dir": str(folder), "store": url(folder, "0"), "postgres": {"shards": named, **postgres}}
    )


def url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder}/{name}.db"


async def submit(settings: Settings, count: int) -> list[str]:
    async with open_collegium(settings, scope="none", model="scripted:x") as app:
        return [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(count)]


async def listed(settings: Settings) -> list[str]:
    async with open_collegium(settings, scope="none", model="scripted:x") as app:
        return [head.run for head in await app.runs()]


async def test_runs_are_spread_over_the_shards_that_are_named_and_all_are_listed(tmp_path: Path) -> None:
    settings = given(tmp_path, ["1", {"url": url(tmp_path, "9"), "number": 9, "weight": 3.0}])
    runs = await submit(settings, 40)
    assert {shard_of(run) for run in runs} == {0, 1, 9}
    assert await listed(settings) == sorted(runs, reverse=True)
    more = given(tmp_path, ["1", {"url": url(tmp_path, "9"), "number": 9, "weight": 0}, "3"], weight=0)
    assert {shard_of(run) for run in await submit(more, 20)} == {1, 3}
    assert set(runs) < set(await listed(more))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: given(f, []), r"shard 1 \(sqlite.*/1\.db\) holds runs.*postgres\.shards"),
        (lambda f: given(f, ["1"]), r"shard 2 \(sqlite.*/2\.db\) holds runs"),
        (lambda f: given(f, ["2", "1"]), r"is shard [12], and postgres\.shards gives it the number [12]"),
        (lambda f: given(f, ["1", "other"]), r"shard 2 is another database \(sqlite.*/2\.db\)"),
        (lambda f: given(f, ["1", "2", "0"]), "shard 3 .* is the store itself"),
        (lambda f: given(f, ["1", "2", "2"]), "is shard 2, and .* the number 3"),
        (lambda f: given(f, ["1", "2", "busy"]), "cannot become shard 3: it holds runs already"),
        (
            lambda f: given(f, [{"url": url(f, n), "weight": 0} for n in ("1", "2")], weight=0),
            "weight above 0",
        ),
    ],
    ids=["none named", "one missing", "exchanged", "replaced", "the store", "named twice", "used", "no weight"],
)
async def test_shards_that_are_not_what_they_were_are_refused(
    tmp_path: Path, change: Callable[[Path], Settings], told: str
) -> None:
    await submit(given(tmp_path, ["1", "2"]), 8)
    alone = load_settings(None, {}, {"data_dir": str(tmp_path), "store": url(tmp_path, "busy")})
    await submit(alone, 1)
    with pytest.raises(UsageError, match=told):
        await submit(change(tmp_path), 1)
    assert len(await listed(given(tmp_path, ["1", "2"]))) == 8


@pytest.mark.parametrize(
    ("shards", "told"),
    [
        ([{"url": "x", "number": 1}, {"url": "y", "number": 1}], "the number 1 to two shards"),
        ([{"url": "x", "number": 0}], "greater than or equal to 1"),
        ([{"url": "x", "number": 256}], "less than or equal to 255"),
        ([{"url": "x", "weight": -1}], "greater than or equal to 0"),
        ([{"number": 1}], "required"),
        ([{"url": "postgresql://u:secretsecret@h/d", "wait": 1}], "wait"),
    ],
)
def test_wrong_shards_are_told_without_their_passwords(tmp_path: Path, shards: Sequence[Shard], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        given(tmp_path, shards)
    assert "secretsecret" not in str(caught.value)


def test_settings_are_shown_without_passwords(tmp_path: Path) -> None:
    settings = given(
        tmp_path,
        [{"url": "postgresql://u:secret1@h/d", "replica": "postgresql://u:secret2@r/d"}],
        replica="postgresql://u:secret3@r/c",
    )
    shown = str(explain(settings))
    assert not re.search(r"secret\d", shown)
    assert "postgresql://u:****@h/d" in shown


async def test_every_store_is_brought_up_to_date(tmp_path: Path) -> None:
    settings = given(tmp_path, ["1", "2"])
    places = [one.place for one in await migrate(settings, is_dry=True)]
    assert places == [f"{tmp_path}/{n}.db" for n in range(3)]


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = entry.run(argv)
    out, err = capsys.readouterr()
    return code, out + err


def test_audit_goes_over_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.toml").write_text('ordered = false\n[[step]]\ntimes = "any"\nreply = "Ann owns it."\n')
    (tmp_path / "docs.md").write_text("# Owners\n\nThe owner of the payments service is Ann.\n")
    (tmp_path / "collegium.toml").write_text(
        'model = "scripted:script.toml"\nstore = "sqlite:///0.db"\n'
        '[postgres]\nweight = 0\nshards = ["sqlite:///1.db", "sqlite:///2.db"]\n'
    )
    while not {"1", "2"} <= {run[-1] for run in runs_in(tmp_path, capsys)}:
        assert call(capsys, "run", "Who owns the payments service?", "--files", "docs.md")[0] in (0, 3)
    code, told = call(capsys, "audit", "verify")
    assert (code, "shard 1: " in told, "shard 2: " in told, "nothing was changed" in told) == (0, True, True, True)
    code, told = call(capsys, "audit", "export", "kept.json")
    assert (code, "checkpoints of 2 shards exported to kept.json" in told) == (0, True)
    assert sorted(json.loads((tmp_path / "kept.json").read_text())["shards"]) == ["1", "2"]
    code, told = call(capsys, "audit", "verify", "--against", "kept.json")
    assert (code, "the chains go on from kept.json" in told) == (0, True)
    code, told = call(capsys, "audit", "verify", "--json", "--against", "kept.json")
    document = json.loads(told)
    assert document["verified"] == sum(part["verified"] for part in document["shards"])
    assert [part["shard"] for part in document["shards"]] == [0, 1, 2]
    for name in ("2.db", "2.db-wal", "2.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert call(capsys, "audit", "verify")[0] == 2, "it is another store now"


def runs_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code, told = call(capsys, "runs", "ls", "--json")
    assert code == 0
    return [item["run_id"] for item in json.loads(told)["items"]]
