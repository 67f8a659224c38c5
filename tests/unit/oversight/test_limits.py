from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.chat import ChatMessage, ModelRequest, upper_bound_tokens
from collegium.domain.errors import LimitReached
from collegium.domain.usage import Allotment, Price, Usage
from collegium.oversight.limits import AttemptLimits, Reservation
from collegium.testing.scripted import SCRIPTED_PROFILE

PRICED = msgspec.structs.replace(SCRIPTED_PROFILE, price=Price(input_usd=Decimal(2), output_usd=Decimal(8)))
UNPRICED = msgspec.structs.replace(SCRIPTED_PROFILE, price=None)


def request(chars: int, output: int = 100) -> ModelRequest:
    return ModelRequest(messages=(ChatMessage(role="user", text="x" * chars),), max_output_tokens=output)


@given(
    st.integers(0, 5_000),
    st.lists(st.tuples(st.integers(0, 800), st.integers(1, 300), st.floats(0, 1), st.booleans()), max_size=20),
)
def test_what_is_spent_never_exceeds_the_allotment(cap: int, calls: list[tuple[int, int, float, bool]]) -> None:
    """Calls overlap: some are settled late, each taking any part of its upper bound."""
    limits = AttemptLimits(Allotment(tokens=cap, cost_usd=Decimal("0.01")))
    held: list[tuple[Reservation, Usage]] = []
    for chars, output, part, is_late in calls:
        asked = limits.fit(request(chars, output), PRICED)
        try:
            reservation = limits.reserve(asked, PRICED)
        except LimitReached:
            continue
        tokens = int(part * reservation.tokens)
        held.append((reservation, Usage(input_tokens=tokens, cost_usd=reservation.cost_usd * Decimal(str(part)))))
        if not is_late:
            limits.settle(*held.pop())
    for reservation, usage in held:
        limits.settle(reservation, usage)
    assert limits.spent.tokens <= cap
    assert limits.spent.cost_usd <= Decimal("0.01")


def test_a_call_that_does_not_fit_says_what_is_needed_and_left() -> None:
    limits = AttemptLimits(Allotment(tokens=150))
    with pytest.raises(LimitReached, match=r"150 of the task's 150 are left: raise --limit-tokens"):
        limits.reserve(request(100), PRICED)


def test_the_output_cap_is_lowered_to_what_is_left() -> None:
    asked = request(10, output=5_000)
    fitted = AttemptLimits(Allotment(tokens=upper_bound_tokens(asked) + 200)).fit(asked, PRICED)
    assert fitted.max_output_tokens == 200


def test_an_unknown_price_is_an_error_only_under_a_money_limit() -> None:
    AttemptLimits(Allotment()).reserve(request(10), UNPRICED)
    AttemptLimits(Allotment(tokens=10_000)).reserve(request(10), UNPRICED)
    with pytest.raises(LimitReached, match="price"):
        AttemptLimits(Allotment(cost_usd=Decimal(1))).reserve(request(10), UNPRICED)


def test_a_call_whose_outcome_nobody_knows_is_charged_in_full_under_a_limit() -> None:
    limits = AttemptLimits(Allotment(tokens=1_000))
    reservation = limits.reserve(request(10), PRICED)
    limits.settle(reservation, None)
    assert limits.spent.tokens == reservation.tokens
    free = AttemptLimits(Allotment())
    free.settle(free.reserve(request(10), PRICED), None)
    assert free.spent.tokens == 0


def test_most_of_an_allotment_spent_is_noticed() -> None:
    limits = AttemptLimits(Allotment(tokens=100))
    assert not limits.is_nearly_spent
    limits.charge(Usage(input_tokens=80))
    assert limits.is_nearly_spent


def test_every_cap_holds_by_itself_and_says_what_to_do() -> None:
    asked = request(100, output=300)
    need = upper_bound_tokens(asked)
    for allotment, cap, advice in (
        (Allotment(input_tokens=need - 1), "input_tokens", "limits.run.input_tokens"),
        (Allotment(output_tokens=299), "output_tokens", "limits.run.output_tokens"),
        (Allotment(cost_usd=Decimal("0.002")), "cost_usd", "--limit-usd"),
    ):
        with pytest.raises(LimitReached, match=f"are left: raise {advice}") as refused:
            AttemptLimits(allotment).reserve(asked, PRICED)
        assert refused.value.fields["limit"] == cap
    AttemptLimits(Allotment(input_tokens=need, output_tokens=300)).reserve(asked, PRICED)


def test_the_output_cap_is_lowered_to_what_output_tokens_and_money_leave() -> None:
    asked = request(10, output=5_000)
    assert AttemptLimits(Allotment(output_tokens=120)).fit(asked, PRICED).max_output_tokens == 120
    assert AttemptLimits(Allotment(output_tokens=60)).fit(asked, PRICED).max_output_tokens == 5_000
    limits = AttemptLimits(Allotment(cost_usd=Decimal("0.004")))
    fitted = limits.fit(asked, PRICED)
    assert 64 <= fitted.max_output_tokens < 500
    assert limits.reserve(fitted, PRICED).cost_usd <= Decimal("0.004")


def test_calls_of_tools_are_counted_before_they_are_made() -> None:
    limits = AttemptLimits(Allotment(tool_calls=5))
    told = []
    for _ in range(5):
        limits.take_call("look")
        told.append(limits.is_nearly_spent)
    assert told == [False, False, False, True, True]
    with pytest.raises(LimitReached, match="look was not called, the task's 5 calls of tools are made"):
        limits.take_call("look")
    assert limits.refused is not None
    assert limits.spent.tool_calls == 5


def test_late_is_as_good_as_nearly_spent() -> None:
    assert AttemptLimits(Allotment(), is_late=lambda: True).is_nearly_spent
    assert not AttemptLimits(Allotment(), is_late=lambda: False).is_nearly_spent


def test_who_can_raise_the_cap_is_named() -> None:
    limits = AttemptLimits(Allotment(tokens=10), advice={"tokens": "raise the limit of agent 'writer'"})
    with pytest.raises(LimitReached, match="raise the limit of agent 'writer'"):
        limits.reserve(request(1), PRICED)
