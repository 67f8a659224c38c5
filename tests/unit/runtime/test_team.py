"""The team at work, over memory: what a user's goal goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import MemoryPresence
from collegium.app import Collegium, Run
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.document import GivenFile
from collegium.domain.errors import InvalidPlan, ModelAuthError, ModelUnavailable, NotFound, UnreadableInput, UsageError
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.report import RunReport
from collegium.domain.usage import Limits
from collegium.testing.harness import memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from tests.unit.runtime.handbook import HANDBOOK, WEAK, sent_back
from tests.unit.runtime.plans import ONE, plan_json


async def finished(app: Collegium, goal: str, **options: object) -> tuple[Run, RunReport]:
    run = await app.submit(goal, **options)  # type: ignore[arg-type]
    return run, await asyncio.wait_for(run.result(), 20)


async def events_of(app: Collegium, run: str) -> list[Event]:
    return [e async for e in app.events(run)]


async def test_a_weak_model_answers_by_quoting() -> None:
    async with team(ScriptedModel([], profile=WEAK)) as app:
        run, result = await finished(app, "Who owns the order service?", files=HANDBOOK)
        assert (result.status, result.plan.template) == ("succeeded", "answer@1")
        assert result.answer is not None
        assert "Harbour" in result.answer.text
        cited = result.answer.citations[0]
        text = next(f.data for f in HANDBOOK if f.path == cited.document).decode()
        assert text[cited.start : cited.end] == cited.quote
        assert result.usage.model_calls == 0
        seqs = [e.seq for e in await events_of(app, run.id)]
        assert seqs == list(range(1, len(seqs) + 1))


async def test_a_strong_model_plans_researches_and_writes_and_unsupported_sentences_are_written_again() -> None:
    model = sent_back()
    async with team(model) as app:
        run, result = await finished(app, "Who owns the order service?", files=HANDBOOK)
        assert (result.status, result.plan.source) == ("succeeded", "model")
        assert result.answer is not None
        assert "1851" not in result.answer.text
        assert {c.verdict for c in result.oversight.claims} == {"supported"}
        decisions = [e.body.judgement.decision for e in await events_of(app, run.id) if e.type == "task.judged"]  # type: ignore[attr-defined]
        assert decisions == ["revise", "accept"]
        assert (result.usage.model_calls, result.usage.tool_calls) == (5, 1)
    model.script.verify()


async def test_what_stays_unsupported_is_marked() -> None:
    said = "The order service is owned by the team Harbour [1]. Its mascot is a purple walrus named Gus [2]."
    model = ScriptedModel(
        [
            Step(reply=plan_json(("say", "write", []))),
            Step(reply=said),
            Step(expect_last=("walrus",), reply=said),
        ]
    )
    async with team(model) as app:
        _, result = await finished(app, "Who owns the order service?", files=HANDBOOK)
        assert result.answer is not None
        assert "(unverified)" in result.answer.text
        assert [c.verdict for c in result.oversight.claims][-1] == "unsupported"


async def test_without_documents_every_sentence_is_marked_on_its_own() -> None:
    said = "The company was founded in 1851. It owns three ships. Its owner is Ann."
    model = ScriptedModel([Step(reply=plan_json(("say", "write", []))), Step(reply=said)])
    async with team(model) as app:
        _, result = await finished(app, "Who owns it?")
        assert [c.text for c in result.oversight.claims] == [
            "The company was founded in 1851.",
            "It owns three ships.",
            "Its owner is Ann.",
        ]
        assert result.answer is not None
        assert result.answer.text.count("(unverified)") == 3


async def test_an_invalid_plan_is_repaired_once_and_then_taken_from_the_library() -> None:
    circle = plan_json(("a", "research", ["b"]), ("b", "write", ["a"]))
    model = ScriptedModel(
        [
            Step(reply=circle),
            Step(expect_last=("wait for each other",), reply="no JSON at all"),
            Step(expect_last=("A first search gave",), reply="Found."),
            Step(reply="The order service is owned by the team Harbour [1]."),
        ]
    )
    async with team(model) as app:
        _, result = await finished(app, "Who owns the order service?", files=HANDBOOK)
        assert (result.status, result.plan.source, result.plan.template) == ("succeeded", "template", "answer@1")
        assert len(result.plan.problems) == 2


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan(tasks=(Task(id="a", title="A", capability="fly"),)), "'fly'"),
        (Plan(tasks=(Task(id="a", title="A", capability="write", depends_on=("a",)),)), "wait for each other"),
    ],
)
async def test_a_given_plan_that_cannot_run_is_refused_before_anything_is_stored(plan: Plan, problem: str) -> None:
    async with team(ScriptedModel([])) as app:
        with pytest.raises(InvalidPlan, match=problem):
            await app.submit("x", plan=plan)
        assert await app.runs() == ()


def counting_tool() -> tuple[object, list[str]]:
    calls: list[str] = []

    @tool(effect="write", capabilities=["operate"])
    async def pay(amount: int, context: ToolContext) -> str:
        """Pay an amount.

        Args:
            amount: How much.
        """
        calls.append(f"{amount}:{context.key}")
        return f"paid {amount}"

    return pay, calls


async def test_a_write_is_intended_before_and_finished_after_and_never_made_twice() -> None:
    pay, calls = counting_tool()
    once = ToolCall(id="c1", name="pay", arguments={"amount": 5})
    again = ToolCall(id="c2", name="pay", arguments={"amount": 5})
    model = ScriptedModel(
        [
            Step(tool_calls=(once,)),
            Step(expect_last=("paid 5",), tool_calls=(again,)),
            Step(expect_last=("pay was not called, local did not allow it",), reply="I paid 5."),
        ]
    )
    async with team(model, tools=[pay]) as app:  # type: ignore[list-item]
        run, result = await finished(app, "Pay 5.", plan=ONE)
        assert result.status == "waiting"
        await app.answer(result.questions[0].approval, "reject")
        assert (await asyncio.wait_for(run.result(), 20)).status == "succeeded"
        assert len(calls) == 1
        assert not calls[0].endswith("None")
        types = [e.type for e in await events_of(app, run.id)]
        assert types.count("tool.intended") == 1
        assert types.index("tool.intended") < types.index("tool.finished")


async def test_a_model_that_fails_for_a_while_is_asked_again_in_a_new_attempt() -> None:
    model = ScriptedModel([Step(error=ModelUnavailable("the server is away")), Step(reply="Done.")])
    async with team(model) as app:
        run, result = await finished(app, "x", plan=ONE)
        assert (result.status, result.plan.tasks[0].attempts) == ("succeeded", 2)
        parked = next(e for e in await events_of(app, run.id) if e.type == "task.parked")
        assert parked.body.detail == "the server is away"  # type: ignore[attr-defined]


async def test_an_error_that_will_not_go_away_fails_the_run_with_its_reason() -> None:
    model = ScriptedModel([Step(error=ModelAuthError("the key is refused"))])
    async with team(model) as app:
        _, result = await finished(app, "x", plan=ONE)
        assert (result.status, result.error, result.reason) == ("failed", "model_auth", "the key is refused")


async def test_a_token_limit_holds_before_the_call() -> None:
    model = ScriptedModel([])
    async with team(model) as app:
        _, result = await finished(app, "x" * 400, plan=ONE, limits=Limits(tokens=300))
        assert (result.status, result.error) == ("limited", "limited")
        assert "--limit-tokens" in result.reason
    assert model.requests == []


async def test_a_deadline_ends_a_call_that_takes_too_long() -> None:
    model = ScriptedModel([Step(delay_s=60, reply="late")])
    async with team(model) as app:
        _, result = await finished(app, "x", plan=ONE, limits=Limits(deadline_s=0.3))
        assert result.status == "limited"
        assert "0.3 s" in result.reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0.005)


async def test_cancel_ends_the_call_under_way() -> None:
    model = ScriptedModel([Step(delay_s=60, reply="late")])
    async with team(model) as app:
        run = await app.submit("x", plan=ONE)
        await until(lambda: bool(model.requests))
        await run.cancel("enough")
        result = await asyncio.wait_for(run.result(), 5)
        assert result.status == "cancelled"


async def test_leaving_parks_the_work_and_resuming_repeats_no_finished_step() -> None:
    stores = memory_stores(SystemClock())
    look = ToolCall(id="c1", name="list_inputs", arguments={})
    first = ScriptedModel([Step(tool_calls=(look,)), Step(delay_s=60, reply="never said")])
    async with team(first, stores=stores) as app:
        run = await app.submit("x", plan=ONE)
        await until(lambda: len(first.requests) == 2)
    second = ScriptedModel([Step(expect=("list_inputs",), reply="Done.")])
    async with team(second, stores=stores) as app:
        assert (await app.run(run.id).state()).status == "waiting"
        resumed = await app.resume(run.id)
        result = await asyncio.wait_for(resumed.result(), 10)
        assert (result.status, result.plan.tasks[0].attempts) == ("succeeded", 2)
        steps = [e.body.step for e in await events_of(app, run.id) if e.type == "step.proposed"]  # type: ignore[attr-defined]
        assert steps == [1, 2]
        assert result.usage.model_calls == 2
    assert len(second.requests) == 1


async def test_a_worker_that_died_is_taken_over_from_its_last_durable_step() -> None:
    stores = memory_stores(SystemClock())
    look = ToolCall(id="c1", name="list_inputs", arguments={})
    first = ScriptedModel([Step(tool_calls=(look,)), Step(delay_s=60, reply="never said")])
    async with team(first, stores=stores) as dead:
        run = await dead.submit("x", plan=ONE)
        await until(lambda: len(first.requests) == 2)
        worker = (await run.state()).tasks["do"].worker
        assert worker is not None
        # As far as the heir can see the worker is gone; what that one still tries to append must not count.
        seen = replace(own_bus(stores), presence=Mourning(worker))
        second = ScriptedModel([Step(expect=("list_inputs",), reply="Done.")])
        async with team(second, stores=seen) as heir:
            result = await asyncio.wait_for((await heir.resume(run.id)).result(), 10)
            assert (result.status, result.plan.tasks[0].attempts) == ("succeeded", 2)


class Mourning(MemoryPresence):
    """Takes one worker for dead."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    async def dead(self) -> tuple[str, ...]:
        return (self._worker,)


async def test_independent_tasks_run_at_the_same_time() -> None:
    plan = Plan(
        tasks=tuple(Task(id=f"t{i}", title=f"T{i}", capability="operate", instructions=f"i{i}") for i in range(4))
    )
    together = asyncio.Event()
    inside = 0

    class Gate(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            nonlocal inside
            inside += 1
            if inside == 4:
                together.set()
            await asyncio.wait_for(together.wait(), 5)
            return await super().complete(request)

    async with team(Gate([Step(reply="Done.", times=4)], ordered=False)) as app:
        _, result = await finished(app, "x", plan=plan)
        assert result.status == "succeeded"


async def test_one_idempotency_key_gives_one_run() -> None:
    async with team(ScriptedModel([], profile=WEAK)) as app:
        handles = await asyncio.gather(*(app.submit("q?", files=HANDBOOK, idempotency_key="k") for _ in range(8)))
        assert len({h.id for h in handles}) == 1
        assert len(await app.runs()) == 1
        with pytest.raises(UsageError, match="another goal"):
            await app.submit("something else", idempotency_key="k")


async def test_asking_on_shows_the_earlier_answer() -> None:
    model = ScriptedModel(
        [
            Step(reply=plan_json(("say", "write", []))),
            Step(reply="The order service is owned by the team Harbour [1]."),
            Step(expect=("earlier answer", "Harbour"), reply=plan_json(("say", "write", []))),
            Step(expect=("earlier answer", "Harbour"), reply="The team Harbour is led by Ada Byron [1]."),
        ]
    )
    async with team(model) as app:
        run, _ = await finished(app, "Who owns the order service?", files=HANDBOOK)
        _, result = await finished(app, "And who leads it?", continues=run.id)
        assert (result.status, result.reason) == ("succeeded", "")
        assert result.files.given == 2


async def test_an_answer_is_saved_where_the_goal_says() -> None:
    async with team(ScriptedModel([], profile=WEAK)) as app:
        run, result = await finished(
            app, "Who owns the order service? Write the answer to out/owner.md.", files=HANDBOOK
        )
        assert [a.path for a in result.artifacts] == ["out/owner.md"]
        data = await app.stores.blobs.get("default", result.artifacts[0].sha256)
        assert b"Harbour" in data
        assert "tool.intended" in [e.type for e in await events_of(app, run.id)]


SCHEMA = {"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}


async def test_a_json_answer_satisfies_its_schema_or_is_asked_for_again() -> None:
    model = ScriptedModel(
        [
            Step(reply=plan_json(("say", "write", []))),
            Step(reply='{"owner": 5}'),
            Step(expect_last=("owner",), reply='{"owner": "Harbour"}'),
        ]
    )
    async with team(model) as app:
        _, result = await finished(app, "Who owns the order service?", files=HANDBOOK, output_schema=SCHEMA)
        assert result.answer is not None
        assert result.answer.data == {"owner": "Harbour"}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [({"type": "array"}, "top level"), ({"type": "object", "properties": 3}, "not a valid JSON Schema")],
)
async def test_a_bad_output_schema_is_refused_before_anything_is_spent(schema: dict[str, object], problem: str) -> None:
    async with team(ScriptedModel([])) as app:
        with pytest.raises(UsageError, match=problem):
            await app.submit("x", output_schema=schema)


async def test_one_bad_file_never_fails_the_others() -> None:
    files = [
        *HANDBOOK,
        GivenFile(path="photo.png", data=b"\x89PNG\r\n\x1a\n\x00\x00"),
        GivenFile(path="broken.pdf", data=b"%PDF-1.7 oops"),
    ]
    async with team(ScriptedModel([], profile=WEAK)) as app:
        _, result = await finished(app, "Who owns the order service?", files=files)
        assert result.status == "succeeded"
        assert {s.path for s in result.files.skipped} == {"photo.png", "broken.pdf"}


async def test_a_run_whose_files_are_all_unusable_fails_and_says_so() -> None:
    files = [GivenFile(path="photo.png", data=b"\x89PNG\r\n\x1a\n\x00\x00")]
    async with team(ScriptedModel([], profile=WEAK)) as app:
        _, result = await finished(app, "Who owns the order service?", files=files)
        assert (result.status, result.error) == ("failed", "unreadable_input")
        assert "photo.png" in result.reason


async def test_bad_goals_and_files_are_refused_clearly(tmp_path: Path) -> None:
    async with team(ScriptedModel([])) as app:
        with pytest.raises(UsageError, match="empty"):
            await app.submit("  \n")
        with pytest.raises(UnreadableInput, match="no file or folder"):
            await app.submit("x", files=[str(tmp_path / "nowhere")])
        with pytest.raises(UnreadableInput, match="hold no files"):
            await app.submit("x", files=[str(tmp_path)])
        with pytest.raises(NotFound):
            await app.submit("x", continues="run_" + "0" * 34)
        with pytest.raises(NotFound):
            await app.result("run_nope")


async def test_plan_only_makes_the_plan_and_nothing_else() -> None:
    model = ScriptedModel([Step(reply=plan_json(("say", "write", [])))])
    async with team(model) as app:
        _, result = await finished(app, "x", is_plan_only=True)
        assert result.status == "succeeded"
        assert result.answer is None
        assert [t.status for t in result.plan.tasks] == ["pending"]
