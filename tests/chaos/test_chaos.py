"""The quick tier: one small trial of each kind. ``python -m tests.chaos --long`` has the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.testing.servers import Server
from tests.chaos.__main__ import TRIALS, Servers, run_trial
from tests.chaos.outcome import Outcome, load, table
from tests.chaos.recorded_disk import NoRecorder, RecordedDisk


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [kind for kind in TRIALS if kind != "hosts"])  # tests/e2e/test_hosts.py
async def test_nothing_is_lost_repeated_or_done_twice(kind: str, tmp_path: Path) -> None:
    if kind.startswith("power"):
        try:
            RecordedDisk(tmp_path)
        except NoRecorder as error:
            pytest.skip(str(error))
    outcome = await run_trial(kind, 1, tmp_path, TRIALS[kind].quick)
    print(table([outcome]))
    assert outcome.wrongs == {}
    if any(note.startswith("trials left out") for note in outcome.notes):
        pytest.skip("mounting a small disk needs root")
    assert outcome.runs or outcome.acknowledged


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["aimed", "pause"])
async def test_nothing_is_over_postgresql_and_redis(kind: str, tmp_path: Path, postgres: Server, redis: Server) -> None:
    servers = Servers(postgres.url, redis.url)
    outcome = await run_trial(kind, 1, tmp_path, TRIALS[kind].quick, servers=servers)
    print(table([outcome]))
    assert outcome.wrongs == {}
    assert outcome.runs


def test_finished_trials_are_read_back_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    one = Outcome("kill", 7, kills=3, recovery_s=[0.2, 1.4])
    one.wrong("lost", "run_1 is gone")
    file = tmp_path / "trials.jsonl"
    file.write_text(one.to_line() + "\n" + one.to_line()[:40])
    assert load(file) == [one]
    assert not load(file)[0].is_right
    lines = table(load(file)).splitlines()
    assert lines[1].split()[:3] == ["kill", "1", "3"]
