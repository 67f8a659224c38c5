"""Waits of the runtime, shortened where a test waits for several of them and means none."""

import pytest

from collegium.runtime import agenda, attempt, duty, failure


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried after a twentieth of a second, and what is due is found in a fifth."""
    monkeypatch.setattr(duty, "SWEEP_S", 0.2)
    monkeypatch.setattr(failure, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(agenda, "WAIT_S", 0.05)
    monkeypatch.setattr(attempt, "WAIT_S", 0.05)
