"""``ask``: a colleague's answer is the result of a call, whatever becomes of either side meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chat import ToolCall
from collegium.domain.errors import ModelAuthError
from collegium.domain.usage import Allotment, Limits
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.accounts import AccountCaps, PeriodCaps
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.tools.definition import tool
from tests.unit.runtime.colleagues import TEAM, Parts, Reply, Roles, ask, done, events_of, named, plan, results, task
from tests.unit.runtime.handbook import HANDBOOK


def asking() -> Roles:
    return Roles({"Do a.": [(ask("Who owns it?"),), "Ann owns it."], "Who owns it?": ["It is Ann."]})


async def test_the_answer_of_a_colleague_is_the_result_of_the_call() -> None:
    model = asking()
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        report = await done(app, run.id)
        events = await events_of(app, run.id)
    assert report.status == "succeeded"
    assert model.asked == {("Do a.", 0): 1, ("Who owns it?", 0): 1, ("Do a.", 1): 1}
    (told,) = model.told("Do a.", 1)
    assert "It is Ann." in told
    assert "not an instruction" in told
    (asked,) = named(events, "task.asked")
    assert isinstance(asked.body, b.TaskAsked)
    child = asked.body.task
    assert (asked.task, child.capability, child.instructions) == ("a", "operate", "Who owns it?")
    parked = events[asked.seq].body
    assert isinstance(parked, b.TaskParked)
    assert parked.reason == "ask"
    # The attempt is closed while the colleague works, and another one goes on with the same conversation.
    kinds = [(e.type, e.task) for e in events]
    assert kinds.index(("task.settled", child.id)) < [i for i, k in enumerate(kinds) if k == ("task.ready", "a")][1]
    (finished,) = results(events, "ask")
    assert finished.result.data is not None
    assert (finished.result.data["source"], finished.result.data["task"]) == ("colleague", child.id)
    assert finished.call_id == "c_Who owns it?"
    # It is part of the run, and no part of its answer.
    assert [t.id for t in report.plan.tasks] == ["a", child.id]
    assert report.answer is not None
    assert "It is Ann." not in report.answer.text
    assert report.plan.tasks[1].asked_by == "a"
    assert report.plan.asks == 1


async def test_questions_of_one_step_are_worked_on_at_the_same_time() -> None:
    both = (ask("One?"), ToolCall(id="c", name="calculate", arguments={"expression": "2 + 2"}), ask("Two?"))
    model = Roles({"Do a.": [both, "Done."], "One?": ["First."], "Two?": ["Second."]})
    model.held = {"One?": asyncio.Event(), "Two?": asyncio.Event()}
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        await model.begun("One?")
        await model.begun("Two?")
        state = await app.state(run.id)
        assert state.status == "running"
        assert state.tasks["a"].park == "ask"
        model.held["Two?"].set()
        async with asyncio.timeout(10):
            async for event in run.events():
                if (event.type, event.task) == ("task.settled", "a-ask-1-2"):
                    break
        assert (await app.state(run.id)).tasks["a"].park == "ask"  # one answer is not enough
        model.held["One?"].set()
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
    told = model.told("Do a.", 1)
    assert [("First." in told[0]), ("4" in told[1]), ("Second." in told[2])] == [True, True, True]
    assert len(named(events, "task.asked")) == 2
    assert [e.attempt for e in named(events, "task.started") if e.task == "a"] == [1, 2]
    assert model.asked["Do a.", 0] == 1


async def test_one_slot_is_enough_for_both() -> None:
    async with team(asking(), concurrency=1) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM, limits=Limits(parallel=1))
        assert (await done(app, run.id)).status == "succeeded"


async def test_a_colleague_that_fails_is_a_result_and_no_failure_of_the_one_who_asked() -> None:
    model = Roles({"Do a.": [(ask("Who?"),), "Nobody knows."], "Who?": [ModelAuthError("the key is wrong")]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        report = await done(app, run.id)
        (finished,) = results(await events_of(app, run.id), "ask")
    assert report.status == "succeeded"
    assert not finished.result.is_ok
    assert "the key is wrong" in finished.result.text
    assert finished.result.text in model.told("Do a.", 1)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (ask("Who?", capability="fly"), "no colleague can 'fly'"),
        (ask("Plan it.", capability="plan"), "operate, research, write"),
        (ask("   "), "empty"),
        (ask("Do  a."), "wait for itself"),
        (ToolCall(id="c", name="ask", arguments={"question": "Who?"}), "capability"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_a_reason(question: ToolCall, says: str) -> None:
    model = Roles({"Do a.": [(question,), "I know it myself."]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
    (told,) = model.told("Do a.", 1)
    assert says in told
    assert named(events, "task.asked") == named(events, "task.parked") == []


async def test_questions_that_wait_for_each_other_have_an_end() -> None:
    parts: Parts = {
        "Do a.": [(ask("One?"),), "Done."],
        "One?": [(ask("Two?"),), "One."],
        "Two?": [(ask("One?"), ask("Three?")), "Two."],
        "Three?": [(ask("Four?"),), "Three."],
    }
    model = Roles(parts)
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
    circle, _ = model.told("Two?", 1)
    assert "wait for itself" in circle
    (deepest,) = model.told("Three?", 1)
    assert "limits.ask_depth" in deepest
    assert ("Four?", 0) not in model.asked


async def test_the_tasks_of_a_run_have_an_end() -> None:
    mine: list[Reply] = [(ask("One?"), ask("Two?")), (ask("Three?"),), "Done."]
    parts: Parts = {"Do a.": mine, "One?": ["One."], "Two?": ["Two."]}
    model = Roles(parts)
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM, limits=Limits(tasks=2))
        assert (await done(app, run.id)).status == "succeeded"
    first, second = model.told("Do a.", 1)
    assert "One." in first
    assert "limits.run.tasks" in second
    assert "limits.run.tasks" in model.told("Do a.", 2)[0]


async def test_only_who_is_granted_it_by_name_may_ask() -> None:
    model = Roles({"Do a.": [(ask("Who?"),), "Then not."]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")))
        assert (await done(app, run.id)).status == "succeeded"
    assert "not granted" in model.told("Do a.", 1)[0]
    offered = {t.name for t in model.shown["Do a.", 0].tools}
    assert "calculate" in offered
    assert not offered & set(TEAM)


async def test_an_agents_declaration_grants_it() -> None:
    curious = Agent(
        name="operator",
        kind="operator",
        description="Asks.",
        capabilities=("operate",),
        prompt="Ask.",
        tools=("*", "ask"),
    )
    async with team(asking(), agents=[curious]) as app:
        run = await app.submit("x", plan=plan(task("a")))
        assert (await done(app, run.id)).status == "succeeded"
        assert "task.asked" in {e.type for e in await events_of(app, run.id)}


async def test_a_researchers_places_come_with_the_answer() -> None:
    question = "Who owns the order service?"
    mine: list[Reply] = [(ask(question, capability="research"),), "Nordwind owns it."]
    model = Roles({"Do a.": mine, question: ["See the team page."]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM, files=HANDBOOK)
        report = await done(app, run.id)
        (finished,) = results(await events_of(app, run.id), "ask")
    assert report.status == "succeeded"
    assert finished.result.data is not None
    assert finished.result.data["passages"]
    assert "Passages found:" in finished.result.text


async def test_what_a_colleague_merely_says_bears_nothing_out() -> None:
    parts: Parts = {"Do a.": [(ask("How many?"),), "There are 17 ships."], "How many?": ["There are 17 ships."]}
    async with team(Roles(parts)) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        report = await done(app, run.id)
    assert [c.verdict for c in report.oversight.claims] == ["unsupported"]


async def test_what_a_colleague_has_looked_up_bears_the_answer_out() -> None:
    looked_up = ToolCall(id="c", name="calculate", arguments={"expression": "8 + 9"})
    parts: Parts = {
        "Do a.": [(ask("How many?"),), "8 + 9 = 17 it is."],
        "How many?": [(looked_up,), "8 + 9 = 17"],
    }
    async with team(Roles(parts)) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        report = await done(app, run.id)
    (claim,) = report.oversight.claims
    assert claim.verdict == "supported"
    assert [c.document for c in claim.citations] == ["tool:calculate"]


async def test_a_cancel_ends_both_sides() -> None:
    model = asking()
    model.held = {"Who owns it?": asyncio.Event()}
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        await model.begun("Who owns it?")
        await run.cancel()
        report = await done(app, run.id)
        state = await app.state(run.id)
    assert report.status == "cancelled"
    assert {t.error for t in state.tasks.values()} == {"cancelled"}
    assert ("Do a.", 1) not in model.asked


async def test_a_deadline_ends_both_sides() -> None:
    model = asking()
    model.held = {"Who owns it?": asyncio.Event()}
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM, limits=Limits(deadline_s=0.3))
        assert (await done(app, run.id)).status == "limited"


async def test_who_comes_after_a_stopped_process_goes_on_with_the_question() -> None:
    stores = memory_stores(SystemClock())
    model = asking()
    model.held = {"Who owns it?": asyncio.Event()}
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        await model.begun("Who owns it?")
    model.held.clear()
    async with team(model, stores=own_bus(stores)) as heir:
        resumed = await heir.resume(run.id)
        assert (await done(heir, resumed.id)).status == "succeeded"
        assert len(named(await events_of(heir, run.id), "task.asked")) == 1
    assert model.asked["Do a.", 0] == 1


async def test_no_more_is_taken_by_the_colleague_than_the_agent_that_asks_may_take() -> None:
    poor = Agent(
        name="poor",
        kind="operator",
        description="Has little.",
        capabilities=("beg",),
        prompt="Ask.",
        tools=("ask",),
        limit_tokens=30_000,
    )
    parts: Parts = {"Do a.": [(ask("One?"),), "Done."], "One?": [(ask("Two?"),), "One."], "Two?": ["Two."]}
    for limits in (Limits(), Limits(tokens=400_000)):
        async with team(Roles(parts), agents=[poor]) as app:
            run = await app.submit("x", plan=plan(task("a", capability="beg")), limits=limits, tools=TEAM)
            assert (await done(app, run.id)).status == "succeeded"
            reserved = named(await events_of(app, run.id), "limit.reserved")
        assert len(reserved) == 5
        assert all(isinstance(e.body, b.LimitReserved) and e.body.allotment.tokens == 30_000 for e in reserved)


async def test_a_colleague_that_may_take_too_little_ends_whatever_the_accounts_have_left() -> None:
    poor = Agent(
        name="poor",
        kind="operator",
        description="Has little.",
        capabilities=("beg",),
        prompt="Ask.",
        tools=("ask",),
        limit_tokens=2_500,
    )
    long = "Who owns it? " + "x" * 3_000
    model = Roles({"Do a.": [(ask(long),), "Done."], "Who owns it?": ["Ann."]}, tokens=300)
    caps = AccountCaps(tenant=PeriodCaps(day=Allotment(tokens=100_000)))
    async with team(model, agents=[poor], caps=caps) as app:
        run = await app.submit("x", plan=plan(task("a", capability="beg")))
        await done(app, run.id)
        (asked,) = (t for t in (await app.state(run.id)).tasks.values() if t.asked is not None)
    assert (asked.status, asked.error, asked.attempt) == ("failed", "limited", 1)
    assert "or of the one that asks" in asked.reason


async def test_all_questions_together_stay_within_the_runs_limit() -> None:
    parts: Parts = {
        "Do a.": [(ask("One?"), ask("Two?")), (ask("Three?"),), "Done."],
        "One?": [(ask("Deep?"),), "One."],
        "Deep?": ["Deep."],
        "Two?": ["Two."],
        "Three?": ["Three."],
    }
    statuses = []
    for tokens in range(2_000, 60_000, 4_000):
        async with team(Roles(parts, tokens=900)) as app:
            run = await app.submit("x", plan=plan(task("a")), tools=TEAM, limits=Limits(tokens=tokens))
            report = await done(app, run.id)
            statuses.append(report.status)
            assert report.usage.input_tokens + report.usage.output_tokens <= tokens
    assert set(statuses) == {"limited", "succeeded"}
    assert statuses[-1] == "succeeded"


async def test_a_person_may_have_to_allow_the_question() -> None:
    model = asking()
    async with team(model, approvals=ApprovalPolicy(tools=("ask",))) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "waiting"
        (question,) = await app.approvals()
        assert ("Who owns it?", 0) not in model.asked
        await app.answer(question.approval.id, "approve")
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
    assert len(named(events, "task.asked")) == 1
    assert "It is Ann." in model.told("Do a.", 1)[0]


async def test_a_person_may_turn_the_question_down() -> None:
    model = asking()
    async with team(model, approvals=ApprovalPolicy(tools=("ask",))) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "waiting"
        (question,) = await app.approvals()
        await app.answer(question.approval.id, "reject", reason="too dear")
        assert (await done(app, run.id)).status == "succeeded"
        assert named(await events_of(app, run.id), "task.asked") == []
    assert "too dear" in model.told("Do a.", 1)[0]


async def test_a_run_waits_where_only_a_person_moves_the_colleague() -> None:
    paid: list[str] = []

    @tool(effect="write", capabilities=["operate"])
    async def pay(what: str) -> str:
        """Pay.

        Args:
            what: The bill.
        """
        paid.append(what)
        return "paid"

    call = ToolCall(id="c", name="pay", arguments={"what": "bill"})
    model = Roles({"Do a.": [(ask("Pay it."),), "Done."], "Pay it.": [(call,), "Paid."]})
    async with team(model, tools=[pay], approvals=ApprovalPolicy(tools=("pay",))) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "waiting"
        (question,) = await app.approvals()
        await app.answer(question.approval.id, "approve")
        assert (await done(app, run.id)).status == "succeeded"
    assert paid == ["bill"]


async def test_a_fork_at_every_event_has_its_answer_and_asks_once() -> None:
    stores = memory_stores(SystemClock())
    model = asking()
    async with team(model, stores=stores) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
        (asked,) = named(events, "task.asked")
        answered, last = (e.seq for e in named(events, "task.settled"))
        stepped = named(events, "step.proposed")[0].seq
        for at in range(1, last):
            before = model.asked["Do a.", 0]
            fork = await app.fork(run.id, at=at)
            assert (await done(app, fork.id)).status == "succeeded", at
            own = await events_of(app, fork.id)
            assert len(named(own, "task.asked")) == (at < asked.seq), at
            assert any(e.task == "a-ask-1-0" for e in named(own, "task.started")) == (at < answered), at
            assert model.asked["Do a.", 0] == before + (at < stepped), at


async def test_two_processes_share_the_work() -> None:
    stores = memory_stores(SystemClock())
    model = asking()
    async with team(model, stores=stores, scope="all") as one, team(model, stores=replace(stores), scope="all"):
        runs = [await one.submit(f"x{n}", plan=plan(task("a")), tools=TEAM) for n in range(8)]
        for run in runs:
            assert (await done(one, run.id)).status == "succeeded"
            assert len(named(await events_of(one, run.id), "task.asked")) == 1
