"""Events as they were stored by every version so far: all of them load, and mean what they meant."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from collegium.domain.event import BODIES, decode_body, encode_body

JOURNALS = sorted(Path(__file__).parent.glob("journals/*.jsonl"))


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda p: p.stem)
def test_every_stored_event_loads_and_is_written_the_same(journal: Path) -> None:
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert {line["type"] for line in lines} == set(BODIES)
    for line in lines:
        stored = msgspec.json.encode(line["body"])
        body = decode_body(line["type"], line["v"], stored)
        assert json.loads(encode_body(body)) == line["body"], line["type"]


def test_unknown_fields_are_refused_at_every_depth() -> None:
    lines = [json.loads(line) for line in JOURNALS[-1].read_text("utf-8").splitlines()]
    planned = next(line for line in lines if line["type"] == "run.planned")
    planned["body"]["plan"]["tasks"][0]["needs_approval"] = True
    with pytest.raises(Exception, match="needs_approval"):
        decode_body("run.planned", 1, msgspec.json.encode(planned["body"]))


def test_what_may_be_tuned_is_written_out() -> None:
    submitted = next(json.loads(x) for x in JOURNALS[0].read_text("utf-8").splitlines() if "run.submitted" in x)
    assert {"steps_per_task", "tasks"} <= set(submitted["body"]["goal"]["limits"])
    assert "priority" in submitted["body"]["goal"]
