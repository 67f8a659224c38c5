from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.errors import InvalidPlan
from collegium.domain.plan import Plan, Task, validate

CAPABILITIES = ("research", "write")


def task(name: str, *after: str, capability: str = "research") -> Task:
    return Task(id=name, title=f"Do {name}", capability=capability, depends_on=after)


@st.composite
def graphs(draw: st.DrawFn) -> Plan:
    """Plans whose edges point anywhere: forwards, backwards, to themselves."""
    n = draw(st.integers(1, 8))
    names = [f"t{i}" for i in range(n)]
    return Plan(tasks=tuple(task(i, *draw(st.lists(st.sampled_from(names), max_size=3, unique=True))) for i in names))


def has_cycle(plan: Plan) -> bool:
    """Whether some task can reach itself: the definition, by walking."""
    after = {t.id: set(t.depends_on) for t in plan.tasks}
    for start, needed in after.items():
        reached, todo = set(), list(needed)
        while todo:
            at = todo.pop()
            if at == start:
                return True
            if at not in reached:
                reached.add(at)
                todo += after[at]
    return False


@given(graphs())
def test_a_plan_is_refused_exactly_when_tasks_wait_for_each_other(plan: Plan) -> None:
    if has_cycle(plan):
        with pytest.raises(InvalidPlan, match="wait for each other"):
            validate(plan, capabilities=CAPABILITIES)
    else:
        validate(plan, capabilities=CAPABILITIES)
        order = plan.order()
        for t in plan.tasks:
            assert all(order.index(d) < order.index(t.id) for d in t.depends_on)


@given(graphs())
def test_sinks_are_the_tasks_nobody_waits_for(plan: Plan) -> None:
    sinks = {t.id for t in plan.sinks()}
    assert sinks == {t.id for t in plan.tasks} - {d for t in plan.tasks for d in t.depends_on}


def test_every_problem_is_named() -> None:
    plan = Plan(tasks=(task("a", "nowhere"), task("a"), task("plan"), task("b", capability="fly")))
    with pytest.raises(InvalidPlan) as caught:
        validate(plan, capabilities=CAPABILITIES, limit_tasks=3)
    text = " ".join(caught.value.problems)
    for part in ("'nowhere'", "used 2 times", "reserved", "'fly'", "research, write", "4 tasks", "limit is 3"):
        assert part in text


def test_an_empty_plan_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="no tasks"):
        validate(Plan(tasks=()), capabilities=CAPABILITIES)
