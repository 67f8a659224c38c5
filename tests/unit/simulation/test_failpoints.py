"""A process dies at every durable boundary, early and late: the team ends its work all the same."""

from __future__ import annotations

import pytest

from collegium.domain.event import BODIES
from tests.simulation.failpoints import NOT_WRITTEN_YET, OUT_OF_REACH, all_failpoints
from tests.simulation.scenario import directed
from tests.simulation.world import Result, World

SEED = 0


@pytest.fixture(scope="module")
def undisturbed() -> Result:
    return World(directed(SEED), SEED).run()


def test_every_failpoint_is_reached_and_every_type_is_written_that_is_not_excepted(undisturbed: Result) -> None:
    assert undisturbed.violation is None, f"{undisturbed.violation}\n" + "\n".join(undisturbed.trace[-30:])
    assert [n for n in all_failpoints() if not undisturbed.failpoints.hits[n]] == []
    assert set(undisturbed.types) & NOT_WRITTEN_YET == set(), "these are written now: take them off the list"
    assert set(undisturbed.types) == set(BODIES) - NOT_WRITTEN_YET - OUT_OF_REACH


@pytest.mark.parametrize("name", all_failpoints())
def test_a_death_at_any_failpoint_costs_nothing_that_was_promised(name: str, undisturbed: Result) -> None:
    hits = undisturbed.failpoints.hits[name]
    armed = frozenset({1, max(3, hits // 2)})
    result = World(directed(SEED, {name: armed}), SEED).run()
    assert result.violation is None, f"{name} at {armed}: {result.violation}\n" + "\n".join(result.trace[-40:])
    assert result.failpoints.fired[name] >= 1
