"""Events as they were stored by every version so far: all of them load, and mean what they meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collegium.domain.event import BODIES, VERSIONS, decode_body, encode_body

JOURNALS = sorted(Path(__file__).parent.glob("journals/*.jsonl"))


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda p: p.stem)
def test_every_stored_event_loads_and_means_what_it_meant(journal: Path) -> None:
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    for line in lines:
        stored = msgspec.json.encode(line["body"])
        written = json.loads(encode_body(decode_body(line["type"], line["v"], stored)))
        if line["v"] == VERSIONS[line["type"]]:
            assert written == line["body"], line["type"]
        else:
            assert_within(line["body"], written, line["type"])


def assert_within(old: Any, new: Any, where: str) -> None:
    """Everything that was stored is still there; a newer version may only have more beside it."""
    if isinstance(old, dict):
        for key, value in old.items():
            assert_within(value, new[key], f"{where}.{key}")
    elif isinstance(old, list):
        assert len(old) == len(new), where
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_within(one, other, f"{where}[{i}]")
    else:
        assert old == new, where


def test_the_newest_journal_has_every_type_in_its_newest_version() -> None:
    lines = [json.loads(line) for line in JOURNALS[-1].read_text("utf-8").splitlines()]
    assert {line["type"] for line in lines} == set(BODIES)
    assert all(line["v"] == VERSIONS[line["type"]] for line in lines)


def test_unknown_fields_are_refused_at_every_depth() -> None:
    lines = [json.loads(line) for line in JOURNALS[-1].read_text("utf-8").splitlines()]
    planned = next(line for line in lines if line["type"] == "run.planned")
    planned["body"]["plan"]["tasks"][0]["needs_approval"] = True
    with pytest.raises(Exception, match="needs_approval"):
        decode_body("run.planned", planned["v"], msgspec.json.encode(planned["body"]))


def test_what_may_be_tuned_is_written_out() -> None:
    submitted = next(json.loads(x) for x in JOURNALS[0].read_text("utf-8").splitlines() if "run.submitted" in x)
    assert {"steps_per_task", "tasks"} <= set(submitted["body"]["goal"]["limits"])
    assert "priority" in submitted["body"]["goal"]
