"""Viewers come again at random while their server is killed: they see each event once, in order, and all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "viewers.py"
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked at in /proc")


def test_no_gap_and_no_double_though_the_server_is_killed() -> None:
    command = [
        sys.executable,
        str(BENCHMARK),
        "reconnects",
        "--rounds",
        "30",
        "--kills",
        "3",
        "--viewers",
        "6",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 3
    assert found["connections"] >= 30
    assert found["told"] == 6 * found["events"] > 0
    assert (found["missing"], found["twice"], found["out_of_order"]) == (0, 0, 0)
