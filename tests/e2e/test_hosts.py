"""Three workers on three hosts: one is cut off, one is killed, both servers fail meanwhile, and nothing is lost.

Hosts are network namespaces; where none can be made, the same is tried with processes of one host, cables apart.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import run_trial


@pytest.mark.timeout(240)
async def test_hosts_that_are_cut_off_and_servers_that_fail(tmp_path: Path) -> None:
    outcome = await run_trial("hosts", 1, tmp_path, 2)
    if not outcome.runs:
        outcome = await run_trial("servers", 1, tmp_path, 4)
    assert outcome.is_right, outcome.wrongs
    assert outcome.runs >= 20
    assert outcome.kills >= 2
