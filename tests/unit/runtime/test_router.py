"""Routing as a pure function: the same figures give the same agent and the same words, and better never loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collegium.domain.agent import Agent
from collegium.domain.errors import UnknownName
from collegium.runtime.router import Figures, Route, Wanted, rating, route

DIG = Wanted(capability="dig")


def agent(name: str, **fields: object) -> Agent:
    declared = {"kind": "operator", "description": name, "capabilities": ("dig",), "prompt": "Work.", **fields}
    return msgspec.convert({"name": name, **declared}, Agent)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Agent], dict[str, Figures]]:
    """Two to five agents with anything that may be known of them."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=5, unique=True))
    share = st.floats(0, 1, allow_nan=False)
    agents = [
        agent(n, rating=draw(share), max_concurrent=draw(st.integers(1, 8)), tools=draw(st.sampled_from([[], ["t"]])))
        for n in names
    ]
    figures = {n: draw(_figures()) for n in names}
    return agents, figures


@st.composite
def _figures(draw: st.DrawFn) -> Figures:
    attempts = draw(st.integers(0, 30))
    fleet_max = draw(st.integers(0, 20))
    return Figures(
        attempts=attempts,
        failures=draw(st.integers(0, attempts)),
        load=draw(st.integers(0, 8)),
        fleet_load=draw(st.integers(0, fleet_max)),
        fleet_max=fleet_max,
        waiting=draw(st.integers(0, 20)),
        seconds=draw(st.sampled_from([0.0, 0.5, 3.0, 60.0])),
        is_at_hand=draw(st.sampled_from([None, True, False])),
        condition=draw(st.sampled_from(["active", "active", "draining", "quarantined"])),
    )


wishes = st.builds(
    Wanted,
    capability=st.just("dig"),
    tools=st.sampled_from([(), ("t",)]),
    avoided=st.frozensets(st.sampled_from("abcdefgh"), max_size=2),
)


def chosen(wanted: Wanted, agents: Sequence[Agent], figures: Mapping[str, Figures]) -> Route:
    found = route(wanted, agents, figures)
    assert found is not None
    return found


def supposed(wanted: Wanted, agents: Sequence[Agent], figures: Mapping[str, Figures]) -> Route:
    assume(route(wanted, agents, figures) is not None)
    return chosen(wanted, agents, figures)


@given(scenes(), wishes, st.booleans())
def test_the_order_of_the_agents_changes_nothing(
    scene: tuple[list[Agent], dict[str, Figures]], wanted: Wanted, is_on_trial: bool
) -> None:
    agents, figures = scene
    figures = {n: msgspec.structs.replace(f, is_on_trial=is_on_trial) for n, f in figures.items()}
    assert route(wanted, agents, figures) == route(wanted, agents[::-1], figures)


@given(scenes(), wishes)
def test_it_explains_itself(scene: tuple[list[Agent], dict[str, Figures]], wanted: Wanted) -> None:
    agents, figures = scene
    found = supposed(wanted, agents, figures)
    assert {c.agent for c in found.candidates} == {a.name for a in agents}
    best = found.candidates[0]
    assert best.agent == found.agent.name
    assert not best.held
    others = [c for c in found.candidates[1:] if not c.held and c.agent not in wanted.avoided]
    if best.agent not in wanted.avoided and not best.lacks:
        assert all(c.score <= best.score for c in others if not c.lacks)
    assert f"{best.score:.2f}" in found.reason
    assert f"{best.load} of {best.max_concurrent} tasks" in found.reason
    assert "\n" not in found.reason


@given(scenes(), wishes)
def test_nobody_gets_a_task_that_takes_none(scene: tuple[list[Agent], dict[str, Figures]], wanted: Wanted) -> None:
    agents, figures = scene
    found = route(wanted, agents, figures)
    free = [a for a in agents if figures[a.name].condition == "active" and figures[a.name].load < a.max_concurrent]
    if found is None:
        assert not [a for a in free if a.name not in wanted.avoided and set(wanted.tools) <= set(a.tools)]
    else:
        assert found.agent in free


@given(scenes(), wishes, st.floats(0.01, 1))
def test_a_better_rating_never_loses_a_task(
    scene: tuple[list[Agent], dict[str, Figures]], wanted: Wanted, more: float
) -> None:
    agents, figures = scene
    name = supposed(wanted, agents, figures).agent.name
    better = [msgspec.structs.replace(a, rating=min(1.0, a.rating + more)) if a.name == name else a for a in agents]
    assert chosen(wanted, better, figures).agent.name == name


@given(scenes(), wishes, st.sampled_from(["load", "fleet_load", "waiting", "failures", "seconds"]))
def test_more_room_less_time_and_fewer_failures_never_lose_a_task(
    scene: tuple[list[Agent], dict[str, Figures]], wanted: Wanted, field: str
) -> None:
    agents, figures = scene
    name = supposed(wanted, agents, figures).agent.name
    before = getattr(figures[name], field)
    assume(before > 0)
    less = {field: before / 2 if field == "seconds" else before - 1}
    better = {**figures, name: msgspec.structs.replace(figures[name], **less)}
    assert chosen(wanted, agents, better).agent.name == name


def test_the_only_one_is_told_in_short_and_without_figures_of_others() -> None:
    found = chosen(DIG, [agent("ann")], {})
    assert (found.agent.name, found.candidates) == ("ann", ())
    assert found.reason == "the only agent for 'dig'; 0 of 8 tasks, rating 0.50"


def test_who_had_the_attempt_before_goes_on_even_while_it_drains_but_not_in_quarantine() -> None:
    agents, again = [agent("ann"), agent("bob", rating=1.0)], msgspec.structs.replace(DIG, before="ann")
    assert chosen(again, agents, {}).agent.name == "ann"
    assert chosen(again, agents, {"ann": Figures(condition="draining")}).agent.name == "ann"
    assert chosen(again, agents, {"ann": Figures(condition="quarantined")}).agent.name == "bob"
    assert route(again, agents, {"ann": Figures(load=8)}) is None, "it is waited for"
    assert route(again, agents, {"ann": Figures(load=8, condition="draining")}) is None
    assert chosen(DIG, agents, {"bob": Figures(condition="draining")}).agent.name == "ann"


def test_what_a_task_names_weighs_more_than_any_rating() -> None:
    weak = agent("weak", rating=0.0, tools=["send_*"], accepts=["*.csv"])
    strong = agent("strong", rating=1.0, accepts=["*.pdf"])
    sending = Wanted(capability="dig", tools=("send_mail",))
    found = chosen(sending, [weak, strong], {})
    assert found.agent.name == "weak"
    assert "strong (lacks the tool send_mail)" in found.reason
    reading = Wanted(capability="dig", documents=("q1.csv", "notes.txt"))
    assert chosen(reading, [weak, strong], {}).agent.name == "weak"
    assert chosen(sending, [strong], {}).agent.name == "strong", "somebody has to"
    run_wide = Wanted(capability="dig", tools=("send_mail",), run_tools=("send_mail",))
    assert chosen(run_wide, [weak, strong], {}).agent.name == "strong"


def test_one_that_was_quarantined_is_tried_with_the_next_task() -> None:
    agents = [agent("ann", rating=1.0), agent("bob", rating=0.0)]
    found = chosen(DIG, agents, {"bob": Figures(is_on_trial=True, failures=9, attempts=9)})
    assert found.agent.name == "bob"
    assert "tried again" in found.reason


def test_a_near_one_says_that_nobody_declares_it() -> None:
    found = chosen(Wanted(capability="delve", likeness={"ann": 0.62}), [agent("ann")], {})
    assert found.reason.startswith("nobody declares 'delve', ann is the nearest (0.62)")
    assert found.candidates[0].likeness == 0.62


def test_nobody_at_all() -> None:
    with pytest.raises(UnknownName, match="'dig'"):
        route(DIG, [], {})


def test_a_rating_moves_with_what_was_seen() -> None:
    assert rating(0.5, attempts=0, failures=0) == 0.5
    assert rating(0.5, attempts=8, failures=0) == 0.75
    assert rating(0.5, attempts=8, failures=8) == 0.25
    assert rating(2.0, attempts=0, failures=0) == 1.0
