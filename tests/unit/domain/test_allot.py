"""What attempts get of a run's limits: whole units, never too many, and nobody begins with nothing if it can wait."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.domain import body as b
from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task
from collegium.domain.run import RunState
from collegium.domain.usage import Allotment, Limits, Usage
from tests.unit.domain.history import History, random_plan

SEEDS = st.integers(0, 2**32)


def side_by_side(count: int) -> Plan:
    return Plan(tasks=tuple(Task(id=f"t{n}", title=f"T{n}", capability="research") for n in range(count)))


def begun(plan: Plan, limits: Limits) -> History:
    history = History(Random(0), given=plan, limits=limits)
    history.write(b.RunSubmitted(goal=Goal(text="do it", limits=limits, plan=plan)))
    history.settle_decisions()
    return history


def now(history: History) -> RunState:
    assert history.state is not None
    return history.state


def opened(history: History) -> dict[str, Allotment]:
    return {k: t.allotment for k, t in now(history).tasks.items() if t.is_open}


def end(history: History, task: str, usage: Usage, *, outcome: str = "succeeded") -> None:
    attempt = now(history).tasks[task].attempt
    if now(history).tasks[task].status == "ready":
        started = b.TaskStarted(worker="w", agent="a", agent_version="1", model="m")
        history.write(started, task=task, attempt=attempt)
    settled = (
        b.TaskSettled(outcome="succeeded", usage=usage)
        if outcome == "succeeded"
        else b.TaskSettled(outcome="failed", error="limited", reason="nothing is left", usage=usage)
    )
    history.write(settled, task=task, attempt=attempt)
    history.settle_decisions()


def test_three_calls_for_four_tasks_go_to_the_first_three_and_the_fourth_waits_for_what_comes_back() -> None:
    history = begun(side_by_side(4), Limits(tool_calls=3))
    assert {k: a.tool_calls for k, a in opened(history).items()} == {"t0": 1, "t1": 1, "t2": 1}
    end(history, "t1", Usage(tool_calls=1))
    assert now(history).tasks["t3"].status == "pending"
    end(history, "t0", Usage())
    assert now(history).tasks["t3"].allotment.tool_calls == 1


def test_what_does_not_divide_goes_to_the_first_ones() -> None:
    history = begun(side_by_side(4), Limits(tool_calls=10))
    assert [a.tool_calls for a in opened(history).values()] == [3, 3, 2, 2]


def test_the_last_one_goes_ahead_with_nothing_once_nothing_can_come_back() -> None:
    history = begun(side_by_side(2), Limits(tool_calls=1))
    end(history, "t0", Usage(tool_calls=1))
    assert opened(history) == {"t1": Allotment(tool_calls=0)}


def test_a_limit_of_nothing_holds_up_nobody() -> None:
    history = begun(side_by_side(3), Limits(tool_calls=0))
    assert len(opened(history)) == 3


def test_tokens_and_money_are_not_dealt_in_parts_that_are_too_small_for_a_call() -> None:
    history = begun(side_by_side(4), Limits(tokens=5_000))
    assert [a.tokens for a in opened(history).values()] == [2_048, 2_048]
    end(history, "t0", Usage(input_tokens=100))
    assert opened(history)["t2"].tokens == 2_048
    history = begun(side_by_side(3), Limits(cost_usd=Decimal("0.00025")))
    assert [a.cost_usd for a in opened(history).values()] == [Decimal("0.0001"), Decimal("0.0001")]


def test_a_task_that_is_alone_gets_all_there_is_however_little() -> None:
    history = begun(side_by_side(1), Limits(tokens=7))
    assert [a.tokens for a in opened(history).values()] == [7]


@given(SEEDS, st.integers(0, 12), st.integers(1, 40_000))
@settings(max_examples=100)
def test_open_parts_and_what_was_used_never_exceed_the_limit_and_every_run_ends(
    seed: int, calls: int, tokens: int
) -> None:
    random = Random(seed)
    history = begun(random_plan(random), Limits(tool_calls=calls, tokens=tokens, cost_usd=Decimal("0.01")))
    while now(history).finished is None:
        parts = opened(history)
        used = now(history).usage
        assert used.tool_calls + sum(p.tool_calls or 0 for p in parts.values()) <= calls
        assert used.tokens + sum(p.tokens or 0 for p in parts.values()) <= tokens
        assert used.cost_usd + sum(p.cost_usd or Decimal(0) for p in parts.values()) <= Decimal("0.01")
        assert parts, "nothing is open and nothing goes on"
        name = random.choice(sorted(parts))
        usage = Usage(
            tool_calls=random.randint(0, parts[name].tool_calls or 0),
            input_tokens=random.randint(0, parts[name].tokens or 0),
        )
        end(history, name, usage, outcome=random.choice(["succeeded", "succeeded", "limited"]))


@given(SEEDS, st.integers(0, 5))
@settings(max_examples=100)
def test_with_a_call_for_every_task_and_nobody_using_more_than_one_all_succeed(seed: int, spare: int) -> None:
    random = Random(seed)
    plan = random_plan(random)
    history = begun(plan, Limits(tool_calls=len(plan.tasks) + spare))
    while now(history).finished is None:
        name = random.choice(sorted(opened(history)))
        has_means = (opened(history)[name].tool_calls or 0) >= 1
        end(history, name, Usage(tool_calls=int(has_means)), outcome="succeeded" if has_means else "limited")
    assert {t.status for t in now(history).tasks.values()} == {"succeeded"}
