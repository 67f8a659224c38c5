"""Replays of runs whose agents ask and tell each other things: the same way again, to the byte."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from random import Random

import pytest

from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.replay import replay
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import builtin_agents
from collegium.app import Collegium
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelAuthError, ModelUnavailable, UsageError
from collegium.domain.usage import Limits, Usage
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.comparison import compare
from collegium.runtime.export import export, parse
from collegium.runtime.replay import Replayed
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.tools.builtin import builtin_tools
from tests.unit.runtime.colleagues import TEAM, Parts, Roles, ask, done, events_of, inbox, plan, share, task

pytestmark = pytest.mark.usefixtures("short_waits")


async def replayed(app: Collegium, run: str) -> Replayed:
    lines = export(run, app.stores, tenant="default", now=datetime(2026, 1, 1, tzinfo=UTC), key=PUBLIC_KEY)
    made = parse([line async for line in lines])
    again = replay(
        made,
        agents=builtin_agents(),
        tools=builtin_tools(),
        scorer=LexicalScorer(),
        index=MemoryIndex(),
        embedder=None,
    )
    return await asyncio.wait_for(again, 30)


def assert_same(result: Replayed) -> None:
    assert result.miss is None
    assert result.comparison.differences == ()
    assert result.is_same


async def test_questions_answers_refusals_and_messages() -> None:
    parts: Parts = {
        "Do a.": [(ask("One?"), share("A."), ask("Two?"), ask("Fly?", capability="fly")), (inbox(), inbox()), "Done."],
        "Do b.": [(share("B."), ask("One?")), (inbox(),), "Done."],
        "One?": [(inbox(), ask("Deep?")), "First."],
        "Two?": [ModelAuthError("no")],
        "Deep?": [(share("D."),), "Deep."],
    }
    async with team(Roles(parts)) as app:
        run = await app.submit("x", plan=plan(task("a"), task("b")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        assert_same(await replayed(app, run.id))


async def test_what_was_too_deep_then_is_too_deep_again() -> None:
    parts: Parts = {
        "Do a.": [(ask("One?"),), "Done."],
        "One?": [(ask("Two?"),), "One."],
        "Two?": [(ask("Three?"),), "Two."],
        "Three?": [(ask("Four?"),), "Three."],
    }
    async with team(Roles(parts)) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        # Whatever is set now: what the agents were told then holds.
        assert_same(await replayed(app, run.id))


async def test_messages_of_one_step_may_come_in_any_order() -> None:
    async with team(Roles({"Do a.": [(share("A."), share("B.")), "Done."]})) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        events = await events_of(app, run.id)
    first = next(i for i, e in enumerate(events) if e.type == "message.sent")
    swapped = [*events[:first], *events[first + 2 : first + 4], *events[first : first + 2], *events[first + 4 :]]
    assert [e.type for e in swapped[first : first + 4]] == ["message.sent", "tool.finished"] * 2
    assert compare(events, swapped).differences == ()


async def test_the_limit_of_tasks_falls_on_the_same_question() -> None:
    parts: Parts = {
        **{f"Do {x}.": [(ask(f"One {x}?"), ask(f"Two {x}?")), (ask(f"Three {x}?"),), "Done."] for x in "abc"},
        **{f"{n} {x}?": ["Yes."] for n in ("One", "Two", "Three") for x in "abc"},
    }
    for most in range(3, 12):
        async with team(Roles(parts)) as app:
            limits = Limits(tasks=most)
            run = await app.submit("x", plan=plan(*(task(x) for x in "abc")), tools=TEAM, limits=limits)
            report = await done(app, run.id)
            assert (report.status, len(report.plan.tasks)) == ("succeeded", most)
            assert_same(await replayed(app, run.id))


async def test_what_the_user_adds_while_a_colleague_works() -> None:
    model = Roles({"Do a.": [(ask("Who?"),), (ask("Where?"),), "Done."], "Who?": ["Ann."], "Where?": ["Here."]})
    model.held = {"Who?": asyncio.Event(), "Where?": asyncio.Event()}
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        for question in ("Who?", "Where?"):
            await model.begun(question)
            await app.inbox.say(run.id, f"About {question}", principal="ann", tenant="default")
            model.held[question].set()
        assert (await done(app, run.id)).status == "succeeded"
        assert_same(await replayed(app, run.id))


async def test_a_run_that_was_cancelled_while_it_asked() -> None:
    model = Roles({"Do a.": [(ask("Who?"),), "Done."], "Who?": ["Ann."]})
    model.held = {"Who?": asyncio.Event()}
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        await model.begun("Who?")
        await run.cancel()
        assert (await done(app, run.id)).status == "cancelled"
        assert_same(await replayed(app, run.id))


async def test_a_run_that_somebody_else_cancels_asks_nobody_any_more() -> None:
    stores = memory_stores(FakeClock())
    async with team(Roles({}), stores=stores, scope="none") as other:

        class Cancelled(Roles):
            async def complete(self, request: ModelRequest) -> ModelReply:
                await other.cancel(run.id)
                return await super().complete(request)

        async with team(Cancelled({"Do a.": [(ask("Who?"),), "Done."]}), stores=stores) as app:
            run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
            assert (await done(app, run.id)).status == "cancelled"
            assert not {"task.asked", "task.parked"} & {e.type for e in await events_of(app, run.id)}
            assert_same(await replayed(app, run.id))


@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_a_question_that_a_person_had_to_allow(answer: str) -> None:
    model = Roles({"Do a.": [(ask("Who?"),), "Done."], "Who?": ["Ann."]})
    async with team(model, approvals=ApprovalPolicy(tools=("ask",))) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "waiting"
        (question,) = await app.approvals()
        await app.answer(question.approval.id, answer)
        assert (await done(app, run.id)).status == "succeeded"
        assert_same(await replayed(app, run.id))


async def test_a_fork_of_every_event() -> None:
    parts: Parts = {
        "Do a.": [(share("A."), ask("Who?")), (inbox(),), "Done."],
        "Who?": [(inbox(), share("Q.")), "Ann."],
    }
    async with team(Roles(parts), stores=memory_stores(FakeClock())) as app:
        run = await app.submit("x", plan=plan(task("a")), tools=TEAM)
        assert (await done(app, run.id)).status == "succeeded"
        for event in await events_of(app, run.id):
            try:
                fork = await app.fork(run.id, at=event.seq)
            except UsageError:
                continue
            assert (await done(app, fork.id)).status == "succeeded", event.seq
            assert_same(await replayed(app, fork.id))


class Chatty(Roles):
    """Asks, tells, reads, works and answers as it comes to its mind, after whatever time."""

    def __init__(self, random: Random) -> None:
        super().__init__({})
        self._random = random

    async def complete(self, request: ModelRequest) -> ModelReply:
        random = self._random
        await asyncio.sleep(random.choice([0, 0, 0.002, 0.01]))
        mood = random.random()
        if mood < 0.06:
            raise random.choice([ModelUnavailable("away"), ModelAuthError("no")])
        usage = Usage(input_tokens=random.randrange(99), output_tokens=7, model_calls=1)
        if request.tools and mood < 0.6:
            calls = tuple(self._call(n) for n in range(random.randint(1, 3)))
            return ModelReply(tool_calls=calls, finish="tool_calls", usage=usage, model="chatty")
        return ModelReply(text=f"It is {random.randrange(1_000)}.", usage=usage, model="chatty")

    def _call(self, n: int) -> ToolCall:
        random = self._random
        chosen: dict[str, dict[str, object]] = {
            "ask": {"capability": random.choice(["operate", "operate", "research", "fly"]), "question": f"{n}?"},
            "share": {"finding": f"It is {random.randrange(9)}.", "to": random.choice([None, "operator", "nobody"])},
            "inbox": {},
            "calculate": {"expression": f"{random.randrange(9)} + 1"},
            "write_file": {"path": f"{random.choice('xy')}.txt", "text": str(random.randrange(9))},
        }
        name = random.choice([*chosen, "ask", "share", "inbox"])
        return ToolCall(id=f"c{n}_{random.randrange(10**6)}", name=name, arguments=chosen[name])


async def meddle(app: Collegium, run: str, random: Random) -> None:
    for text in random.choice([(), (), ("Also this.",), ("Also this.", "ok")]):
        for _ in range(random.randrange(30)):
            await asyncio.sleep(random.choice([0, 0, 0.001]))
        with suppress(UsageError):
            await app.inbox.say(run, text, principal="ann", tenant="default")


@pytest.mark.parametrize("seed", range(24))
async def test_a_run_made_by_chance_replays_without_a_difference(seed: int) -> None:
    random = Random(seed)
    limits = Limits(tasks=random.choice([4, 6, 12]), steps_per_task=6)
    async with team(Chatty(random), stores=memory_stores(FakeClock())) as app:
        tasks = [task(x, *(random.sample("ab", 1) if x == "c" else ())) for x in "abc"[: random.randint(1, 3)]]
        tasks = [t for t in tasks if set(t.depends_on) <= {o.id for o in tasks}]
        run = await app.submit("By chance.", plan=plan(*tasks), tools=TEAM, limits=limits)
        meddling = asyncio.create_task(meddle(app, run.id, random))
        await done(app, run.id)
        await meddling
        await done(app, run.id)
        assert_same(await replayed(app, run.id))
