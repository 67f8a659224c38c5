"""Replays: a recorded run goes the same way again, without a model, a tool or a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.replay import replay
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import builtin_agents
from collegium.app import Collegium
from collegium.domain.agent import Agent
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.chat import ModelRequest
from collegium.domain.errors import ModelAuthError, ModelUnavailable, UnreadableInput
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Limits
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.export import Export, export, parse
from collegium.runtime.replay import Replayed
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import Tool, tool
from tests.unit.runtime.bills import PAY_AND_TELL, call, paid_once_looked_up, paying
from tests.unit.runtime.handbook import HANDBOOK, WEAK, sent_back
from tests.unit.runtime.plans import ONE

pytestmark = pytest.mark.usefixtures("short_waits")

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAYING = Plan(
    tasks=(
        *PAY_AND_TELL.tasks,
        Task(id="also", title="Also", capability="operate", instructions="Tell Bo."),
    )
)


async def exported(app: Collegium, run: str) -> Export:
    lines = export(run, app.stores, tenant="default", now=NOW, key=PUBLIC_KEY)
    return parse([line async for line in lines])


async def replayed(
    made: Export,
    *,
    tools: Sequence[Tool] = (),
    agents: Sequence[Agent] | None = None,
    is_pinned: bool = False,
) -> Replayed:
    return await asyncio.wait_for(
        replay(
            made,
            agents=builtin_agents() if agents is None else agents,
            tools=(*builtin_tools(), *tools),
            scorer=LexicalScorer(),
            index=MemoryIndex(),
            embedder=None,
            is_pinned=is_pinned,
        ),
        30,
    )


def assert_same(result: Replayed, *, events: int) -> None:
    assert result.miss is None
    assert result.comparison.differences == ()
    assert result.is_answer_identical
    assert result.is_same
    assert result.comparison.events >= events
    assert (result.model_calls, result.tool_calls) == (0, 0)


def payer(*before: Step) -> ScriptedModel:
    return ScriptedModel(
        [
            *before,
            *paid_once_looked_up(call("look", what="bill"), call("look", what="bill"), call("look", what="cat")),
            Step(expect=("Tell Ann",), expect_last=("nonsense",), reply="Ann knows.", times=None),
            Step(expect=("Tell Ann",), tool_calls=(call("list_files"), call("nonsense", x=1)), times=None),
            Step(expect=("Tell Bo",), error=ModelUnavailable("away")),
            Step(expect=("Tell Bo",), reply="Bo knows.", times=None),
        ],
        ordered=False,
    )


async def done(app: Collegium, run: str) -> str:
    return (await asyncio.wait_for(app.result(run), 20)).status


async def test_a_weak_models_run_over_documents() -> None:
    async with team(ScriptedModel([], profile=WEAK)) as app:
        run = await app.submit("Who owns the order service?", files=HANDBOOK)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    assert_same(await replayed(made), events=10)


async def test_a_run_that_plans_searches_writes_and_is_sent_back() -> None:
    async with team(sent_back()) as app:
        run = await app.submit("Who owns the order service?", files=HANDBOOK)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    result = await replayed(made)
    assert_same(result, events=15)
    assert (result.replies, result.results) == (5, 1)


async def test_a_run_with_tools_writes_refused_calls_and_a_retry() -> None:
    pay, look, written = paying()
    async with team(payer(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await app.submit("Pay the bill and tell all.", plan=PAYING)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    before = list(written)
    # Once with the tools at hand and once where nobody has ever heard of them.
    for tools in ((pay, look), ()):
        result = await replayed(made, tools=tools)
        assert_same(result, events=25)
        assert written == before
        assert result.results == 6


async def test_a_schema_models_tools() -> None:
    profile = msgspec.structs.replace(SCRIPTED_PROFILE, tool_mode="schema")
    _, look, _ = paying()
    steps = [
        Step(reply='{"tool": "look", "arguments": {"what": "bill"}}'),
        Step(reply='{"tool": "look", "arguments": {"wrong": 1}}'),
        Step(reply='{"answer": "It is 5."}'),
    ]
    async with team(ScriptedModel(steps, profile=profile), tools=[look]) as app:
        run = await app.submit("Look.", plan=ONE)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    for tools in ((look,), ()):
        assert_same(await replayed(made, tools=tools), events=8)


async def test_a_run_that_failed_fails_the_same_way() -> None:
    async with team(ScriptedModel([Step(error=ModelAuthError("the key is refused"))])) as app:
        run = await app.submit("Do it.", plan=ONE)
        assert await done(app, run.id) == "failed"
        made = await exported(app, run.id)
    result = await replayed(made)
    assert_same(result, events=4)
    assert result.status == "failed"


@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_a_run_in_which_people_were_asked_and_said_something(answer: str) -> None:
    pay, look, written = paying()
    async with team(
        payer(), tools=[pay, look], stores=memory_stores(FakeClock()), approvals=ApprovalPolicy(tools=("pay",))
    ) as app:
        run = await app.submit("Pay the bill and tell all.", plan=PAYING)
        assert await done(app, run.id) == "waiting"
        (question,) = (await run.state()).open_approvals
        await app.answer(question.id, answer, principal="bo")
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    before = list(written)
    assert_same(await replayed(made), events=25)
    assert written == before


async def test_a_run_that_was_cancelled_half_way() -> None:
    pay, look, _ = paying()
    model = ScriptedModel(
        [Step(expect=("Tell Bo",), reply="Bo knows."), Step(expect=("Pay",), delay_s=60, reply="late")], ordered=False
    )
    plan = Plan(
        tasks=tuple(msgspec.structs.replace(t, depends_on=("also",) if t.id == "pay" else ()) for t in PAYING.tasks)
    )
    async with team(model, tools=[pay, look]) as app:
        run = await app.submit("Pay the bill and tell all.", plan=Plan(tasks=(plan.tasks[0], plan.tasks[2])))
        async for event in run.events():
            if event.type == "task.started" and event.task == "pay":
                await run.cancel("enough")
        made = await exported(app, run.id)
    result = await replayed(made)
    assert_same(result, events=8)
    assert result.status == "cancelled"


async def test_forks_replay_with_what_they_share() -> None:
    pay, look, written = paying()
    async with team(payer(), tools=[pay, look], stores=memory_stores(FakeClock())) as app:
        run = await app.submit("Pay the bill and tell all.", plan=PAYING)
        assert await done(app, run.id) == "succeeded"
        last = (await app.stores.journal.head(run.id)).seq  # type: ignore[union-attr]
        ends = set()
        for at in range(1, last, 3):
            fork = await app.fork(run.id, at=at)
            ends.add(await done(app, fork.id))
            before = list(written)
            result = await replayed(await exported(app, fork.id))
            assert written == before
            assert_same(result, events=2)
        assert ends == {"succeeded", "waiting"}


async def test_an_attempt_that_was_drained_leaves_no_difference() -> None:
    pay, look, _ = paying()
    stores = memory_stores(FakeClock())
    slow = ScriptedModel(
        [Step(expect=("Pay the bill",), expect_last=("is 5",), delay_s=60, reply="late")], ordered=False
    )
    steps = payer().script._steps
    slow.script._steps += [s for s in steps if s.tool_calls and s.tool_calls[0].name == "look"]
    slow.script._used += [0]
    async with team(slow, tools=[pay, look], stores=stores) as app:
        run = await app.submit("Pay the bill and tell all.", plan=PAY_AND_TELL)
        async for event in run.events():
            if event.type == "tool.finished" and event.body.call == 2:  # type: ignore[attr-defined]
                break
    async with team(payer(), tools=[pay, look], stores=stores) as app:
        await app.resume(run.id)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    events = [e.type for e in await made.read(run.id)]
    assert events.count("task.started") == 3
    assert_same(await replayed(made), events=15)


async def test_a_changed_prompt_is_a_miss_with_a_diff_and_pinned_is_none() -> None:
    async with team(ScriptedModel([Step(reply="Done.")])) as app:
        run = await app.submit("Do it.", plan=ONE)
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    changed = [
        msgspec.structs.replace(a, prompt="Be quick and\nrude.") if a.kind == "operator" else a
        for a in builtin_agents()
    ]
    result = await replayed(made, agents=changed)
    assert not result.is_same
    assert result.miss is not None
    assert "step 1 of task 'do' is not what is recorded" in result.miss
    assert "+rude." in result.miss
    assert_same(await replayed(made, agents=changed, is_pinned=True), events=5)


async def test_exports_that_were_changed_or_cut_are_found_out() -> None:
    async with team(ScriptedModel([Step(reply="Done.")])) as app:
        run = await app.submit("Do it.", plan=ONE, files=HANDBOOK)
        assert await done(app, run.id) == "succeeded"
        lines = [line async for line in export(run.id, app.stores, tenant="default", now=NOW, key=PUBLIC_KEY)]
    assert parse(lines).check(PUBLIC_KEY).chain == "intact"
    assert parse(lines).check(b"k" * 32).chain == "other key"
    with pytest.raises(UnreadableInput, match="cut off"):
        parse(lines[:-1])
    with pytest.raises(UnreadableInput, match="cut off"):
        parse([*lines[:3], *lines[4:]])
    edited = [line.replace(b"Do it.", b"Do so.") if b'"run.submitted"' in line else line for line in lines]
    checked = parse(edited).check(PUBLIC_KEY)
    assert (checked.chain, checked.run, checked.seq) == ("broken", run.id, 1)
    with pytest.raises(UnreadableInput, match="line 1"):
        parse([b"nonsense"])
    with pytest.raises(UnreadableInput, match="newer"):
        parse([lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]])


async def test_what_a_user_adds_half_way_is_there_at_the_same_place() -> None:
    pay, look, _ = paying()

    def look_then_say(request: ModelRequest) -> str:
        return "Bo says it too." if any("Greet Cy" in m.text for m in request.messages) else "Bo says nothing."

    model = ScriptedModel(
        [
            Step(expect=("Tell Bo",), expect_last=("cat is 5",), tool_calls=(call("look", what="dog"),), delay_s=0.05),
            Step(expect=("Tell Bo",), expect_last=("dog is 5",), reply=look_then_say),
            Step(expect=("Tell Bo",), expect_last=("Greet Cy",), reply=look_then_say),
            Step(expect=("Tell Bo",), tool_calls=(call("look", what="cat"),)),
            Step(expect=("Tell Ann",), reply=look_then_say),
        ],
        ordered=False,
    )
    plan = Plan(tasks=(PAYING.tasks[2], msgspec.structs.replace(PAYING.tasks[1], depends_on=("also",))))
    async with team(model, tools=[pay, look]) as app:
        run = await app.submit("Tell all.", plan=plan)
        async for event in run.events():
            if event.type == "tool.finished":
                await app.inbox.say(run.id, "Greet Cy as well.", principal="ann", tenant="default")
                break
        assert await done(app, run.id) == "succeeded"
        made = await exported(app, run.id)
    assert_same(await replayed(made), events=10)


async def test_calls_that_look_the_same_may_end_in_any_order_around_what_a_user_adds() -> None:
    said, calls = asyncio.Event(), list[str]()

    @tool(effect="read", capabilities=["operate"])
    async def look(what: str) -> str:
        """Look.

        Args:
            what: The thing.
        """
        calls.append(what)
        if len(calls) == 1:
            await said.wait()
        return f"{what} is {len(calls)}"

    twice = (call("look", what="cat"), call("look", what="cat"))
    model = ScriptedModel([Step(tool_calls=twice), Step(reply="It is a cat.")])
    async with team(model, tools=[look]) as app:
        run = await app.submit("Look.", plan=Plan(tasks=(PAYING.tasks[2],)))
        async for event in run.events():
            if event.type == "tool.finished" and not said.is_set():
                await app.inbox.say(run.id, "Hurry.", principal="ann", tenant="default")
                said.set()
        made = await exported(app, run.id)
    assert_same(await replayed(made), events=6)


async def test_a_write_of_which_nobody_knew_is_answered_as_it_was() -> None:
    @tool(effect="write", capabilities=["operate"])
    async def pay(amount: int) -> str:
        """Pay an amount.

        Args:
            amount: How much.
        """
        raise OSError("the line went dead")

    one = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Pay."),))
    steps = [
        Step(expect_last=("Pay",), tool_calls=(call("pay", amount=5),)),
        Step(expect_last=("took place",), reply="It was paid, they say."),
    ]
    for outcome in ("done", "not-done"):
        text = "confirmed that pay took place" if outcome == "done" else "pay did not take place"
        own = [
            steps[0],
            msgspec.structs.replace(steps[1], expect_last=("take place",) if outcome != "done" else (text,)),
        ]
        async with team(ScriptedModel(own), tools=[pay], stores=memory_stores(FakeClock())) as app:
            run = await app.submit("Pay.", plan=one)
            assert await done(app, run.id) == "waiting"
            (question,) = (await run.state()).open_approvals
            await app.answer(question.id, outcome, principal="bo")
            assert await done(app, run.id) in ("succeeded", "partial")
            made = await exported(app, run.id)
        for tools in ((pay,), ()):
            assert_same(await replayed(made, tools=tools), events=8)


async def test_a_run_under_limits_that_lost_its_worker() -> None:
    pay, look, _ = paying()
    stores = memory_stores(FakeClock())
    stuck = payer(Step(expect=("Pay the bill",), expect_last=("cat is 5",), delay_s=60, reply="late"))
    async with team(stuck, tools=[pay, look], stores=stores) as app:
        run = await app.submit("Pay the bill and tell all.", plan=PAY_AND_TELL, limits=Limits(tokens=900_000))
        async for event in run.events():
            if event.type == "tool.finished" and event.body.call == 2:  # type: ignore[attr-defined]
                break
        await stores.presence.abandon(app._worker.id)
        async with team(payer(), tools=[pay, look], stores=stores) as heir:
            await heir.resume(run.id)
            assert await done(heir, run.id) == "succeeded"
            made = await exported(heir, run.id)
    types = [e.type for e in await made.read(run.id)]
    assert "task.lapsed" in types
    assert_same(await replayed(made), events=12)


async def test_many_tasks_side_by_side_each_get_their_own() -> None:
    _, look, _ = paying()
    names = [f"t{n}" for n in range(8)]
    plan = Plan(
        tasks=(
            *(Task(id=n, title=n, capability="operate", instructions="Say a number.") for n in names),
            Task(id="sum", title="Sum", capability="operate", instructions="Add.", depends_on=tuple(names)),
        )
    )
    model = ScriptedModel(
        [
            *(
                Step(expect_last=("Say a number",), tool_calls=(call("look", what=str(n)),), delay_s=0.01 * n)
                for n in range(8)
            ),
            *(Step(expect_last=(f"{n} is 5",), reply=f"number {n}", delay_s=0.03 / (n + 1)) for n in range(8)),
            Step(expect=("Add.",), reply="Together."),
        ],
        ordered=False,
    )
    async with team(model, tools=[look]) as app:
        run = await app.submit("Count.", plan=plan)
        assert await done(app, run.id) in ("succeeded", "partial")
        made = await exported(app, run.id)
    for _ in range(3):
        result = await replayed(made)
        assert_same(result, events=50)
        assert (result.replies, result.results) == (17, 8)
