"""New runs are placed by weight, and nothing moves that need not."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.sharded.placement import Placement
from collegium.domain.errors import UsageError
from collegium.domain.ids import Ids, shard_of

DIGITS = [f"{n:032x}" for n in range(20_000)]
WEIGHTS = st.dictionaries(st.integers(0, 255), st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]), min_size=1, max_size=6)


def test_each_shard_gets_its_share() -> None:
    weights = {0: 1.0, 1: 2.0, 7: 0.5, 9: 0.0}
    counts = Counter(map(Placement(weights), DIGITS))
    for shard, weight in weights.items():
        assert counts[shard] / len(DIGITS) == pytest.approx(weight / 3.5, abs=0.015)


@given(weights=WEIGHTS, new=st.integers(0, 255), weight=st.sampled_from([0.5, 1.0, 4.0]))
def test_a_new_shard_only_takes(weights: dict[int, float], new: int, weight: float) -> None:
    weights.pop(new, None)
    if not any(weights.values()):
        return
    before, after = Placement(weights), Placement({**weights, new: weight})
    assert {after(d) for d in DIGITS[:300] if after(d) != before(d)} <= {new}


@given(weights=WEIGHTS, drained=st.integers(0, 5))
def test_a_drained_shard_only_gives(weights: dict[int, float], drained: int) -> None:
    number = sorted(weights)[drained % len(weights)]
    left = {**weights, number: 0.0}
    if not any(left.values()):
        return
    before, after = Placement(weights), Placement(left)
    assert all(after(d) == before(d) for d in DIGITS[:300] if before(d) != number)
    assert number not in {after(d) for d in DIGITS[:300]}


def test_shards_that_are_away_are_passed_over_while_others_are_there() -> None:
    away = {1}
    place = Placement({0: 1.0, 1: 1.0}, is_away=away.__contains__)
    assert {place(d) for d in DIGITS[:100]} == {0}
    away.add(0)
    assert {place(d) for d in DIGITS[:100]} == {0, 1}


def test_without_a_shard_that_takes_runs_there_is_no_placement() -> None:
    with pytest.raises(UsageError, match="weight above 0"):
        Placement({0: 0.0, 3: 0.0})


def test_ids_say_where_their_runs_are() -> None:
    ids = Ids(lambda: 1, place=Placement({0: 1.0, 200: 1.0}))
    assert {shard_of(ids.run()) for _ in range(50)} == {0, 200}
    assert shard_of(ids.run(7)) == 7
