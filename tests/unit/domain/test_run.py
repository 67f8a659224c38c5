from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.domain import body as b
from collegium.domain.decide import decide, wake_at
from collegium.domain.errors import StoreCorrupt
from collegium.domain.event import decode_body, encode_body
from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task
from collegium.domain.report import report
from collegium.domain.result import TaskResult
from collegium.domain.run import apply, fold
from collegium.domain.usage import Allotment, Limits, Usage
from tests.unit.domain.history import START, History, play

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.booleans())
@settings(max_examples=150)
def test_every_run_ends_and_strands_nothing(seed: int, is_cancelled: bool) -> None:
    state = play(seed, is_cancelled=is_cancelled).state
    assert state is not None
    assert state.finished is not None
    assert all(t.is_settled for t in state.tasks.values())
    assert decide(state, START + timedelta(days=9)) == ()
    assert wake_at(state, START) is None


@given(SEEDS)
@settings(max_examples=100)
def test_nothing_is_decided_on_what_was_merely_recorded(seed: int) -> None:
    history = play(seed)
    seen = None
    for n, event in enumerate(history.events):
        if event.is_deciding:
            seen = apply(seen, event)
            whole = fold(history.events[: n + 1])
            assert whole is not None
            assert decide(seen, event.at) == decide(whole, event.at)


@given(SEEDS)
@settings(max_examples=100)
def test_a_state_is_the_same_whether_folded_at_once_or_in_pieces(seed: int) -> None:
    events = play(seed).events
    cut = len(events) // 2
    assert fold(events[cut:], fold(events[:cut])) == fold(events)


@given(SEEDS)
@settings(max_examples=100)
def test_attempts_count_up_and_one_is_open_at_a_time(seed: int) -> None:
    newest: dict[str, int] = {}
    open_: set[str] = set()
    for event in play(seed).events:
        if event.type == "task.ready":
            assert event.task is not None
            assert event.task not in open_
            assert event.attempt == newest.get(event.task, 0) + 1
            newest[event.task] = event.attempt
            open_.add(event.task)
        elif event.type in ("task.parked", "task.lapsed", "task.settled") and event.attempt is not None:
            assert event.task in open_
            open_.discard(event.task)


@given(SEEDS)
@settings(max_examples=100)
def test_a_task_begins_only_after_what_it_needs(seed: int) -> None:
    state = None
    for event in play(seed).events:
        if event.type == "task.ready" and state is not None and event.task != "plan":
            assert event.task is not None
            task = state.tasks[event.task]
            needed = [state.tasks[d] for d in task.task.depends_on]
            assert all(n.is_settled for n in needed)
            if task.task.needs == "all":
                assert all(n.status == "succeeded" for n in needed)
        state = apply(state, event)


@given(SEEDS)
@settings(max_examples=100)
def test_who_has_asked_goes_on_when_all_have_answered(seed: int) -> None:
    state = None
    for event in play(seed, limits=Limits(tokens=9_000)).events:
        if event.type == "task.ready" and state is not None and event.task is not None:
            assert all(t.is_settled for t in state.asked_by(event.task))
        state = apply(state, event)


def test_what_was_asked_is_no_part_of_the_answer_and_its_failure_none_of_the_run() -> None:
    history = History(Random(0), given=Plan(tasks=(Task(id="a", title="A", capability="research"),)))
    history.write(b.RunSubmitted(goal=Goal(text="do it", plan=history.given)))
    history.settle_decisions()
    history.write(b.TaskStarted(worker="w", agent="a", agent_version="1", model="m"), task="a", attempt=1)
    child = Task(id="a-ask-1-0", title="Asked", capability="research", instructions="Who?")
    history.write(b.TaskAsked(task=child, step=1, call=0), task="a", attempt=1)
    history.write(b.TaskParked(reason="ask"), task="a", attempt=1)
    history.settle_decisions()
    history.write(b.TaskStarted(worker="w", agent="b", agent_version="1", model="m"), task=child.id, attempt=1)
    assert history.state is not None
    assert (history.state.status, history.state.tasks["a"].status) == ("running", "parked")
    history.write(b.TaskSettled(outcome="failed", error="model", reason="no"), task=child.id, attempt=1)
    history.settle_decisions()
    assert history.state.tasks["a"].attempt == 2
    history.write(b.TaskStarted(worker="w", agent="a", agent_version="1", model="m"), task="a", attempt=2)
    history.write(b.TaskSettled(outcome="succeeded", result=TaskResult(text="A.")), task="a", attempt=2)
    history.settle_decisions()
    finished = history.state.finished
    assert finished is not None
    assert finished.answer is not None
    assert (finished.status, finished.answer.text, finished.missing) == ("succeeded", "A.", ())


@given(SEEDS, st.integers(1, 5_000))
@settings(max_examples=100)
def test_what_is_allotted_never_exceeds_the_limit(seed: int, tokens: int) -> None:
    limit = Limits(tokens=tokens, cost_usd=Decimal("0.01"))
    state = None
    for event in play(seed, limits=limit).events:
        state = apply(state, event)
        held = [t.allotment for t in state.tasks.values() if t.is_open]
        assert sum(a.tokens or 0 for a in held) <= max(0, tokens - state.usage.tokens)
        assert sum(a.cost_usd or Decimal(0) for a in held) <= Decimal("0.01")


@given(SEEDS)
@settings(max_examples=50)
def test_bodies_survive_the_store(seed: int) -> None:
    for event in play(seed).events:
        assert decode_body(event.type, event.v, encode_body(event.body)) == event.body


@given(SEEDS)
@settings(max_examples=50)
def test_a_report_can_be_made_at_every_moment(seed: int) -> None:
    state = None
    for event in play(seed).events:
        state = apply(state, event)
        made = msgspec.json.decode(msgspec.json.encode(report(state, event.at)))
        assert made["run_id"] == event.run
        assert set(made["usage"]) == {
            "input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "model_calls", "tool_calls",
        }  # fmt: skip


def played(plan: Plan, limits: Limits | None = None) -> History:
    history = History(Random(0), given=plan, limits=limits or Limits())
    history.submit()
    history.settle_decisions()
    return history


def start(history: History, task: str, attempt: int = 1) -> None:
    history.write(b.TaskStarted(worker="w", agent="a", agent_version="1", model="m"), task=task, attempt=attempt)


def settle(history: History, task: str, outcome: str = "succeeded", **fields: object) -> None:
    body = msgspec.convert({"outcome": outcome, **fields}, b.TaskSettled)
    history.write(body, task=task, attempt=1)
    history.settle_decisions()


TWO_SOURCES = Plan(
    tasks=(
        Task(id="a", title="A", capability="research"),
        Task(id="b", title="B", capability="research"),
        Task(id="w", title="Write", capability="write", depends_on=("a", "b"), needs="any"),
    )
)


def test_a_failed_branch_does_not_strand_the_rest() -> None:
    history = played(TWO_SOURCES)
    start(history, "a")
    start(history, "b")
    settle(history, "a", "failed", error="tool", reason="the server is gone")
    settle(history, "b", result={"text": "b"})
    start(history, "w")
    settle(history, "w", result={"text": "what there is"})
    assert history.state is not None
    assert history.state.finished is not None
    finished = history.state.finished
    assert finished.status == "partial"
    assert finished.answer is not None
    assert finished.answer.text == "what there is"
    assert finished.missing == ("A: the server is gone",)


def test_a_run_whose_last_task_failed_has_failed() -> None:
    history = played(Plan(tasks=(Task(id="w", title="Write", capability="write"),)))
    start(history, "w")
    settle(history, "w", "failed", error="model", reason="it said nothing")
    assert history.state is not None
    assert history.state.finished is not None
    assert (history.state.status, history.state.finished.error) == ("failed", "model")


def test_the_deadline_ends_a_run_with_what_there_is() -> None:
    history = played(TWO_SOURCES, Limits(deadline_s=10))
    start(history, "a")
    settle(history, "a", result={"text": "a"})
    history.now += timedelta(seconds=11)
    history.settle_decisions()
    assert history.state is not None
    assert history.state.status == "limited"
    assert history.state.finished is not None
    assert "10 s" in history.state.finished.reason


def test_a_cancelled_run_waits_for_the_attempt_that_is_open() -> None:
    history = played(TWO_SOURCES)
    start(history, "a")
    history.write(b.RunCancelRequested(principal="me"))
    history.settle_decisions()
    assert history.state is not None
    assert (history.state.status, history.state.tasks["b"].status) == ("cancelling", "skipped")
    settle(history, "a", "failed", error="cancelled", usage=Usage(input_tokens=3))
    assert history.state.status == "cancelled"
    assert history.state.usage.input_tokens == 3


def test_the_third_barren_lapse_quarantines_and_the_second_isolates() -> None:
    history = played(Plan(tasks=(Task(id="w", title="Write", capability="write"),)))
    for attempt in (1, 2, 3):
        assert history.state is not None
        assert history.state.tasks["w"].is_alone == (attempt == 3)
        start(history, "w", attempt)
        history.write(b.TaskLapsed(worker="w", has_progressed=False), task="w", attempt=attempt)
        history.settle_decisions()
    assert history.state is not None
    assert history.state.tasks["w"].status == "quarantined"
    assert history.state.status == "failed"


def test_an_attempt_begins_with_what_was_said_before_it_and_not_with_what_came_together_with_its_start() -> None:
    history = played(TWO_SOURCES)
    history.write(b.RunSaid(principal="ann", text="Before."))
    start(history, "a")
    history.write(b.RunSaid(principal="ann", text="After."))
    assert history.state is not None
    assert (history.state.said, history.state.tasks["a"].heard) == (("Before.", "After."), 1)


def test_events_that_cannot_follow_are_refused() -> None:
    history = played(TWO_SOURCES)
    with pytest.raises(StoreCorrupt, match="unknown task"):
        history.write(b.TaskSettled(outcome="succeeded", result=TaskResult()), task="zzz", attempt=1)
    again = Task(id=TWO_SOURCES.tasks[0].id, title="Asked", capability="research")
    for name, says in (("zzz", "unknown task"), (again.id, "a second time")):
        with pytest.raises(StoreCorrupt, match=says):
            history.write(b.TaskAsked(task=again, step=1, call=0), task=name, attempt=1)
    with pytest.raises(StoreCorrupt, match="begins with"):
        apply(None, history.events[-1])
    with pytest.raises(StoreCorrupt, match="follows"):
        apply(history.state, history.events[0])


def test_a_body_of_a_newer_version_says_to_upgrade() -> None:
    with pytest.raises(StoreCorrupt, match="newer collegium"):
        decode_body("run.submitted", 99, encode_body(b.RunSubmitted(goal=Goal(text="x"))))
    with pytest.raises(StoreCorrupt, match="newer collegium"):
        decode_body("run.teleported", 1, b"{}")


@given(SEEDS)
@settings(max_examples=100)
def test_a_finished_result_never_changes_whatever_is_planned_again(seed: int) -> None:
    state = None
    results: dict[str, TaskResult | None] = {}
    for event in play(seed).events:
        state = apply(state, event)
        for name, result in results.items():
            assert state.tasks[name].result == result
        results = {k: t.result for k, t in state.tasks.items() if t.status == "succeeded"}


@given(SEEDS, st.floats(0, 1))
@settings(max_examples=100)
def test_a_fork_at_any_event_ends_by_itself_and_keeps_what_was_finished(seed: int, where: float) -> None:
    parent = play(seed)
    at = int(where * (len(parent.events) - 1)) + 1
    prefix = fold(parent.events[:at])
    assert prefix is not None
    fork = History(Random(seed), plan=parent.plan, state=prefix, now=parent.now)
    fork.write(b.RunForked(parent=prefix.id, at_event=parent.events[at - 1].id))
    assert fork.state is not None
    done = {k: t.result for k, t in prefix.tasks.items() if t.is_settled}
    assert {k: t.result for k, t in fork.state.tasks.items() if t.is_settled} == done
    assert fork.state.usage == Usage()
    fork.play_on()
    assert fork.state.finished is not None
    assert all(fork.state.tasks[k].result == result for k, result in done.items())


@given(SEEDS, st.integers(1, 3))
@settings(max_examples=60)
def test_never_more_tasks_at_once_than_the_limit(seed: int, parallel: int) -> None:
    state = None
    for event in play(seed, limits=Limits(parallel=parallel)).events:
        state = apply(state, event)
        assert sum(t.is_open for t in state.tasks.values()) <= parallel


def test_what_was_drawn_bounds_the_attempts_and_goes_back_when_a_person_is_waited_for() -> None:
    history = History(Random(0), given=TWO_SOURCES)
    history.submit()
    history.write(b.RunAllotted(draw="d", accounts=("acct_x",), allotment=Allotment(tokens=9_000)))
    history.settle_decisions()
    assert history.state is not None
    assert history.state.tasks["a"].allotment.tokens == 3_000
    start(history, "a")
    start(history, "b")
    for name in ("a", "b"):
        approval = f"apr_{name}"
        asked = b.ApprovalRequested(approval=approval, kind="tool", question="?")
        history.write(asked, task=name, attempt=1)
        history.write(b.TaskParked(reason="approval", usage=Usage(input_tokens=10)), task=name, attempt=1)
    history.settle_decisions()
    assert history.state.draws["d"].usage == Usage(input_tokens=20)
    assert history.state.draw is None
    assert history.state.status == "waiting"
