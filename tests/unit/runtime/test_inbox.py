"""Plans that are reviewed, outcomes that only a person knows, answers that are escalated, words in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace as replaced
from math import inf
from pathlib import Path

import pytest
from msgspec.structs import replace

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.agents.roster import builtin_agents
from collegium.app import Collegium, Run, Stores
from collegium.domain import body as b
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.document import GivenFile
from collegium.domain.errors import AlreadyDecided, InvalidPlan, UsageError
from collegium.domain.event import Draft, Event
from collegium.domain.head import HeadChange
from collegium.domain.plan import Plan, Task
from collegium.domain.tool import ToolResult
from collegium.oversight.approvals import ApprovalPolicy
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.outcome import Reconciled
from tests.unit.runtime.people import asked, ended, waiting
from tests.unit.runtime.plans import ONE

TWO = Plan(
    tasks=(
        Task(id="first", title="First", capability="operate", instructions="Begin."),
        Task(id="then", title="Then", capability="operate", instructions="End.", depends_on=("first",)),
    )
)
PAY = ToolCall(id="c1", name="pay", arguments={"amount": 5})
PAYING = Step(tool_calls=(PAY,))


def payer(outside: Path, *, breaks: bool = True, timeout_s: float = 30.0) -> FunctionTool:
    """Pays, into a file outside; the first time it breaks after that, so that nobody knows."""

    @tool(effect="write", timeout_s=timeout_s)
    def pay(amount: int, context: ToolContext) -> str:
        """Pays."""
        with outside.open("a") as file:
            file.write(f"{amount} {context.key}\n")
        if breaks and len(outside.read_text().splitlines()) == 1:
            raise ConnectionResetError("the line went dead")
        return f"paid {amount}"

    return pay


def paid(outside: Path) -> int:
    return len(outside.read_text().splitlines()) if outside.exists() else 0


async def asking(app: Collegium, **options: object) -> Run:
    return await waiting(await app.submit("Pay 5.", **{"plan": ONE, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "times", "told"),
    [
        ("done", 1, "ada confirmed that pay took place; what it gave is not known: I saw the receipt"),
        ("not-done", 1, "pay did not take place, says ada: I saw the receipt"),
        ("retry", 2, "paid 5"),
    ],
)
async def test_what_a_person_says_of_an_unknown_outcome_holds(tmp_path: Path, word: str, times: int, told: str) -> None:
    outside = tmp_path / "outside"
    model = ScriptedModel([PAYING, Step(expect_last=(told,), reply="Done.")])
    async with team(model, tools=[payer(outside)]) as app:
        run = await asking(app, tools=["pay"])
        question = await asked(run)
        assert question.request.kind == "outcome"
        assert question.request.arguments == {"amount": 5}
        assert "the line went dead" in question.request.question
        assert "Its worker lives." in question.request.question
        assert (await run.state()).tasks["do"].park == "outcome_unknown"
        await app.inbox.settle(run.id, word, principal="ada", tenant="default", reason="I saw the receipt")
        assert (await ended(run)).status == "succeeded"
        with pytest.raises(AlreadyDecided):
            await app.inbox.settle(run.id, word, principal="ada", tenant="default")
    assert paid(outside) == times
    assert len(set(outside.read_text().splitlines())) == 1  # one key


async def test_a_retry_that_is_lost_too_is_asked_about_again(tmp_path: Path) -> None:
    outside = tmp_path / "outside"

    @tool(effect="write")
    def pay(amount: int) -> str:
        """Pays."""
        with outside.open("a") as file:
            file.write(f"{amount}\n")
        raise ConnectionResetError("dead again")

    async with team(ScriptedModel([PAYING, Step(reply="Done.")]), tools=[pay]) as app:
        run = await asking(app, tools=["pay"])
        first = await asked(run)
        await app.answer(first.id, "retry", principal="ada")
        assert (await asyncio.wait_for(run.result(), 20)).status == "waiting"
        second = await asked(run)
        assert second.id != first.id
        await app.answer(second.id, "done", principal="ada")
        assert (await ended(run)).status == "succeeded"
    assert paid(outside) == 2


async def test_a_park_from_before_there_were_questions_is_answered_too(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    stores = memory_stores(SystemClock())
    async with team(ScriptedModel([PAYING]), tools=[payer(outside)], stores=stores) as app:
        run = await asking(app, tools=["pay"])
    events = [e for e in await stores.journal.read(run.id, 0) if not isinstance(e.body, b.ApprovalRequested)]
    journal = memory_stores(SystemClock()).journal
    parked = HeadChange(status="waiting", wake_at=None)
    await journal.append(run.id, [_draft(e) for e in events], expected=0, head=parked).durable()
    old = replaced(own_bus(stores), journal=journal)
    async with team(ScriptedModel([Step(reply="Done.")]), tools=[payer(outside)], stores=old) as heir:
        assert (await heir.run(run.id).state()).open_approvals == ()
        await heir.inbox.settle(run.id, "done", principal="ada", tenant="default")
        assert (await ended(await heir.resume(run.id))).status == "succeeded"
    assert paid(outside) == 1


def _draft(event: Event) -> Draft:
    return Draft(id=event.id, tenant=event.tenant, at=event.at, body=event.body, task=event.task, attempt=event.attempt)


class Mourning(MemoryPresence):
    """Takes one worker for dead."""

    def __init__(self, worker: str, leases: float | None) -> None:
        super().__init__()
        self._worker = worker
        self._leases = leases

    async def dead(self) -> tuple[str, ...]:
        return (self._worker,)

    def silence(self, worker: str) -> float | None:
        return self._leases


class Dying:
    """A team whose worker is inside a write that never ends, and an heir that takes it for dead."""

    def __init__(self, clock: FakeClock, *, answer: Reconciled | None = None, timeout_s: float = 30.0) -> None:
        self.clock = clock
        self.calls = 0
        self.inside, self.let_go = asyncio.Event(), asyncio.Event()
        self.stores = memory_stores(clock)
        asked = answer or Reconciled(state="unknown", detail="nobody there")

        async def reconcile(key: str, context: ToolContext) -> Reconciled:
            return asked

        @tool(effect="write", timeout_s=timeout_s, reconcile=reconcile)
        async def pay(amount: int) -> str:
            """Pays."""
            self.calls += 1
            self.inside.set()
            if self.calls == 1:
                await self.let_go.wait()
            return f"paid {amount}"

        self.pay = pay

    async def hang(self, app: Collegium) -> tuple[Run, str]:
        """A run whose only call hangs, and the worker that made it."""
        run = await app.submit("x", plan=ONE, tools=["pay"])
        await until(self.clock, self.inside.is_set)
        return run, (await run.state()).tasks["do"].worker or ""

    def heir_stores(self, worker: str, leases: float | None = inf) -> Stores:
        return replaced(self.stores, bus=MemoryBus(self.clock), presence=Mourning(worker, leases))


@pytest.mark.parametrize(
    ("leases", "told"),
    [
        (None, "Its worker has ended."),
        (inf, "Its worker has ended."),
        (3.0, "Its worker has not been heard of since, but has not ended."),
        (0.25, "Its worker lives."),
    ],
)
async def test_an_open_call_of_a_dead_worker_is_judged_when_its_time_is_over_and_not_before(
    leases: float | None, told: str
) -> None:
    clock = FakeClock()
    dying = Dying(clock)
    async with team(ScriptedModel([PAYING]), tools=[dying.pay], stores=dying.stores, clock=clock) as dead:
        run, worker = await dying.hang(dead)
        stores = dying.heir_stores(worker, leases)
        heir_model = ScriptedModel([Step(reply="Done.")])
        async with team(heir_model, tools=[dying.pay], stores=stores, clock=clock) as heir:
            lapsed_at = clock.now()
            resumed = await heir.resume(run.id)
            await until_park(resumed, clock, "delay")
            task = (await resumed.state()).tasks["do"]
            assert task.wake_at is not None
            assert task.lapsed_at is not None
            assert lapsed_at <= task.lapsed_at
            assert (task.wake_at - task.lapsed_at).total_seconds() == 30.0
            await clock.advance(25)
            assert (await resumed.state()).open_approvals == ()
            await clock.advance(10)
            await until_park(resumed, clock, "outcome_unknown")
            question = await asked(resumed)
            assert "nobody there" in question.request.question
            assert question.request.question.endswith(told)
            await heir.answer(question.id, "retry", principal="ada")
            await until_finished(resumed, clock)
            assert (await resumed.state()).status == "succeeded"
    assert dying.calls == 2


async def test_a_call_that_the_far_side_knows_needs_nobody() -> None:
    clock = FakeClock()
    dying = Dying(clock, answer=Reconciled(state="done", result=ToolResult(text="paid 5, says the bank")))
    async with team(ScriptedModel([PAYING]), tools=[dying.pay], stores=dying.stores, clock=clock) as dead:
        run, worker = await dying.hang(dead)
        heir_model = ScriptedModel([Step(expect_last=("says the bank",), reply="Done.")])
        async with team(heir_model, tools=[dying.pay], stores=dying.heir_stores(worker), clock=clock) as heir:
            resumed = await heir.resume(run.id)
            await until_finished(resumed, clock)
            assert (await resumed.state()).status == "succeeded"
    assert dying.calls == 1


@pytest.mark.parametrize("first", ["cancelled", "dead"])
async def test_a_write_that_a_dead_worker_left_open_is_named_when_the_run_is_cancelled(first: str) -> None:
    clock = FakeClock()
    dying = Dying(clock)
    async with team(ScriptedModel([PAYING]), tools=[dying.pay], stores=dying.stores, clock=clock) as dead:
        run, worker = await dying.hang(dead)
        async with team(ScriptedModel([]), tools=[dying.pay], stores=dying.heir_stores(worker), clock=clock) as heir:
            if first == "dead":
                await until_park(await heir.resume(run.id), clock, "delay")
            await heir.cancel(run.id)
            await until_finished(run, clock)
            state = await run.state()
            assert state.finished is not None
            assert state.status == "cancelled"
            assert any("pay may or may not have happened" in m for m in state.finished.missing)
        dying.let_go.set()


async def until(clock: FakeClock, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await clock.advance(0.01)


async def until_park(run: Run, clock: FakeClock, reason: str) -> None:
    async with asyncio.timeout(20):
        while (await run.state()).tasks["do"].park != reason:
            await clock.advance(0.1)


async def until_finished(run: Run, clock: FakeClock) -> None:
    async with asyncio.timeout(20):
        while (await run.state()).finished is None:
            await clock.advance(0.5)


async def test_a_plan_is_followed_once_it_is_approved_whatever_process_is_there() -> None:
    stores = memory_stores(SystemClock())
    async with team(ScriptedModel([]), stores=stores) as app:
        run = await asking(app, is_plan_reviewed=True)
        question = await asked(run)
        assert question.request.kind == "plan"
        assert question.task is None
    async with team(ScriptedModel([Step(reply="Done.")]), stores=own_bus(stores)) as heir:
        resumed = await heir.resume(run.id)
        assert (await resumed.state()).status == "waiting"
        await heir.answer(question.id, "approve", principal="bo")
        report = await ended(resumed)
        assert (report.status, [t.id for t in report.plan.tasks]) == ("succeeded", ["do"])


async def test_a_plan_may_be_edited_with_its_approval() -> None:
    model = ScriptedModel([Step(expect=("Begin.",), reply="Begun."), Step(expect=("End.",), reply="Ended.")])
    async with team(model) as app:
        run = await asking(app, is_plan_reviewed=True)
        question = (await asked(run)).id
        with pytest.raises(InvalidPlan):
            await app.answer(question, "approve", plan=Plan(tasks=(Task(id="x", title="X", capability="fly"),)))
        with pytest.raises(UsageError, match="another plan goes only with the approval"):
            await app.answer(question, "reject", plan=TWO)
        await app.answer(question, "approve", plan=TWO)
        report = await ended(run)
        assert (report.status, [t.id for t in report.plan.tasks]) == ("succeeded", ["first", "then"])


async def test_a_rejected_plan_ends_the_run_with_the_reason() -> None:
    async with team(ScriptedModel([])) as app:
        run = await asking(app, is_plan_reviewed=True)
        await app.answer((await asked(run)).id, "reject", principal="bo", reason="too dear")
        report = await ended(run)
        assert (report.status, report.error) == ("failed", "rejected")
        assert report.reason == "the plan was rejected by bo: too dear"


NOTES = [GivenFile(path="a.md", data=b"# A\n\nThe order service is owned by the team Harbour.\n")]
WRITE = Plan(
    tasks=(
        Task(id="look", title="Look", capability="research", instructions="Who owns the order service?"),
        Task(id="say", title="Say", capability="write", instructions="Who owns it?", depends_on=("look",)),
    )
)
FALSE = "The order service was sold to Quay in 1851 [1]."


@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_an_answer_that_nothing_bears_out_is_handed_out_if_somebody_says_so(answer: str) -> None:
    model = ScriptedModel([Step(reply="Harbour."), Step(reply=FALSE), Step(reply=FALSE)])
    # Nobody else may try what a person has turned down.
    another = replace(next(a for a in builtin_agents() if a.name == "writer"), name="scribe")
    async with team(model, agents=[another], approvals=ApprovalPolicy(is_escalating=True)) as app:
        run = await asking(app, plan=WRITE, files=NOTES)
        question = await asked(run)
        assert question.request.kind == "verdict"
        assert question.request.arguments is not None
        assert "1851" in str(question.request.arguments["claims"])
        judgement = (await run.state()).tasks["say"].judgement
        assert judgement is not None
        assert judgement.decision == "escalate"
        await app.answer(question.id, answer, principal="bo", reason="I know")
        report = await ended(run)
        if answer == "approve":
            assert report.answer is not None
        else:
            assert (report.status, report.error, report.answer) == ("failed", "rejected", None)
            assert "bo did not accept the answer: I know" in report.reason
            assert report.plan.tasks[1].attempts == 2


class Talkative(ScriptedModel):
    """Waits inside its second call until it is told to go on."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(steps)
        self.is_inside, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        if len(self.requests) == 1:
            self.is_inside.set()
            await self.may_go_on.wait()
        return await super().complete(request)


async def test_what_the_user_adds_reaches_a_running_agent_once() -> None:
    look = [Step(tool_calls=(ToolCall(id=f"c{n}", name="list_inputs", arguments={}),)) for n in range(3)]
    model = Talkative([*look, Step(reply="Done.")])
    async with team(model) as app:
        run = await app.submit("x", plan=ONE)
        await asyncio.wait_for(model.is_inside.wait(), 20)
        await app.inbox.say(run.id, "  Only the cheap ones. ", principal="ada", tenant="default")
        model.may_go_on.set()
        assert (await ended(run)).status == "succeeded"
        with pytest.raises(UsageError, match=r"^run_\w+ has ended .* hears nothing more.*--continue"):
            await app.inbox.say(run.id, "More.", principal="ada", tenant="default")
    told = [sum("The user adds: Only the cheap ones." in m.text for m in r.messages) for r in model.requests]
    assert told == [0, 0, 1, 1]


async def test_what_the_user_adds_while_nobody_works_reaches_the_next_attempt_once() -> None:
    stores = memory_stores(SystemClock())
    look = ToolCall(id="c1", name="list_inputs", arguments={})
    first = Talkative([Step(tool_calls=(look,)), Step(reply="never said")])
    async with team(first, stores=stores) as app:
        run = await app.submit("x", plan=ONE)
        await asyncio.wait_for(first.is_inside.wait(), 20)
    second = ScriptedModel([Step(tool_calls=(look,)), Step(reply="Done.")])
    async with team(second, stores=own_bus(stores)) as heir:
        await heir.inbox.say(run.id, "Hurry.", principal="ada", tenant="default")
        assert (await ended(await heir.resume(run.id))).status == "succeeded"
    assert [sum("Hurry." in m.text for m in r.messages) for r in second.requests] == [1, 1]


@pytest.mark.parametrize("text", ["", "   ", "x" * 20_001])
async def test_what_is_no_text_is_not_taken_in(text: str) -> None:
    async with team(ScriptedModel([])) as app:
        run = await asking(app, is_plan_reviewed=True)
        with pytest.raises(UsageError, match="the text has"):
            await app.inbox.say(run.id, text, principal="ada", tenant="default")
