"""AG-UI over real HTTP: what is streamed keeps the rules of the protocol, whatever happens in the run."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from ag_ui.core import Event as AnyEvent
from ag_ui.core import EventType
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from collegium.adapters.clock import SystemClock
from collegium.domain.event import Event
from collegium.domain.principal import Principal, local, scopes_of
from collegium.domain.run import fold
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.wishes import Wishes
from collegium.server import waiting
from collegium.server.agui.outbound import Translator
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.plans import plan_json
from tests.unit.server.conftest import Serve, Served
from tests.unit.server.people import Somebody
from tests.unit.stores.moved import CALL, PLAN, Hanging, working

PLANNED = plan_json(("one", "operate", []), ("two", "operate", ["one"]))


def planning() -> ScriptedModel:
    """A model that plans two tasks, and calls a tool in each."""
    steps = [
        Step(expect=("You plan the work",), reply=PLANNED, times=None),
        Step(expect_last=("42",), reply="It is 42.", times=None),
        Step(tool_calls=(CALL,), times=None),
    ]
    return ScriptedModel(steps, ordered=False)


EVENT: TypeAdapter[Any] = TypeAdapter(AnyEvent)


def asking(text: str = "Do both.", *, thread: str = "thread-1", **fields: object) -> dict[str, object]:
    message = {"id": str(uuid.uuid4()), "role": "user", "content": text}
    return {"threadId": thread, "runId": str(uuid.uuid4()), "messages": [message], "protocolVersion": "1.0", **fields}


async def streamed(served: Served, body: dict[str, object]) -> list[Any]:
    """The events of a stream, each checked against its schema, all of them against the rules."""
    async with served.http.stream("POST", "/agui", json=body) as reply:
        assert reply.status_code == 200, await reply.aread()
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in reply.aiter_lines() if line.startswith("data: ")]
    events = [EVENT.validate_python(json.loads(line.removeprefix("data: "))) for line in lines]
    check_rules(events)
    return events


def check_rules(events: Sequence[Any]) -> None:
    """The rules by which clients refuse a stream."""
    assert events[0].type == EventType.RUN_STARTED
    assert events[-1].type in (EventType.RUN_FINISHED, EventType.RUN_ERROR)
    steps: set[str] = set()
    messages: set[str] = set()
    calls: set[str] = set()
    seen: set[str] = set()
    for place, event in enumerate(events):
        kind = event.type
        assert (place == 0) == (kind == EventType.RUN_STARTED)
        assert (place == len(events) - 1) == (kind in (EventType.RUN_FINISHED, EventType.RUN_ERROR))
        if kind == EventType.STEP_STARTED:
            assert event.step_name not in steps
            steps.add(event.step_name)
        elif kind == EventType.STEP_FINISHED:
            steps.remove(event.step_name)
        elif kind == EventType.TEXT_MESSAGE_START:
            assert event.message_id not in messages | seen
            messages.add(event.message_id)
        elif kind == EventType.TEXT_MESSAGE_CONTENT:
            assert event.message_id in messages
        elif kind == EventType.TEXT_MESSAGE_END:
            messages.remove(event.message_id)
            seen.add(event.message_id)
        elif kind == EventType.TOOL_CALL_START:
            assert event.tool_call_id not in calls | seen
            calls.add(event.tool_call_id)
        elif kind == EventType.TOOL_CALL_ARGS:
            assert event.tool_call_id in calls
        elif kind == EventType.TOOL_CALL_END:
            calls.remove(event.tool_call_id)
            seen.add(event.tool_call_id)
        elif kind == EventType.TOOL_CALL_RESULT:
            assert event.tool_call_id in seen
    if events[-1].type == EventType.RUN_FINISHED:
        assert not (steps | messages | calls)


def state_of(events: Sequence[Any]) -> dict[str, Any]:
    """The state that a front end has in the end."""
    state: dict[str, Any] = {}
    for event in events:
        if event.type == EventType.STATE_SNAPSHOT:
            state = dict(event.snapshot)
        elif event.type == EventType.STATE_DELTA:
            for one in event.delta:
                state[one.path.removeprefix("/")] = one.value
    return state


async def test_a_run_is_streamed_from_its_beginning_to_its_answer(serve: Serve):
    async with team(planning()) as app:
        served = await serve(app)
        events = await streamed(served, asking("What is six times seven?"))
        kinds = [one.type for one in events]
        assert kinds[:2] == [EventType.RUN_STARTED, EventType.STATE_SNAPSHOT]
        assert {EventType.STEP_STARTED, EventType.TOOL_CALL_START, EventType.TOOL_CALL_RESULT} <= set(kinds)
        last = events[-1]
        assert last.outcome.type == "success"
        assert last.usage[0].total_tokens == last.usage[0].input_tokens + last.usage[0].output_tokens
        state = state_of(events)
        assert (state["run_id"], state["status"]) == (last.result["run_id"], "succeeded")
        assert {one["status"] for one in state["tasks"]} == {"succeeded"}
        text = "".join(one.delta for one in events if one.type == EventType.TEXT_MESSAGE_CONTENT)
        report = await app.result(last.result["run_id"])
        assert report.answer is not None
        assert text == report.answer.text


async def test_the_same_run_is_streamed_again_and_a_thread_goes_on(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        body = asking()
        first = await streamed(served, body)
        again = await streamed(served, body)
        assert [one.type for one in again] == [one.type for one in first]
        run = first[-1].result["run_id"]
        assert again[-1].result["run_id"] == run
        other = (await streamed(served, asking("And then?")))[-1].result["run_id"]
        assert (await app.state(other)).goal.continues == run
        apart = (await streamed(served, asking(thread="thread-2")))[-1].result["run_id"]
        assert (await app.state(apart)).goal.continues is None


async def test_questions_interrupt_a_run_and_answers_resume_it(serve: Serve):
    async with team(planning(), approvals=ApprovalPolicy(tools=("calculate",))) as app:
        served = await serve(app)
        body = asking()
        events = await streamed(served, body)
        interrupts = events[-1].outcome.interrupts
        assert {one.reason for one in interrupts} == {"collegium:tool"}
        assert interrupts[0].response_schema["properties"]["answer"]["enum"] == ["approve", "reject"]
        assert interrupts[0].metadata["collegium"]["tool"] == "calculate"
        assert state_of(events)["questions"] == [one.id for one in interrupts]
        for wrong, status in (
            (asking(), 409),  # it waits for answers, not for more
            (asking(thread="another", resume=[resolved(one.id, "approve") for one in interrupts]), 404),
            (asking(resume=[resolved("apr_none", "approve")]), 404),
            (asking(resume=[resolved(interrupts[0].id[:-1] + "99", "approve")]), 400),
            (asking(resume=[resolved(one.id, "perhaps") for one in interrupts]), 400),
            (asking(resume=[resolved(one.id, None) for one in interrupts]), 400),
        ):
            reply = await served.http.post("/agui", json=wrong)
            assert reply.status_code == status, reply.text
        resume: list[dict[str, object]] = []
        while events[-1].type == EventType.RUN_FINISHED and events[-1].outcome.type == "interrupt":
            resume = [resolved(one.id, "approve") for one in events[-1].outcome.interrupts]
            events = await streamed(served, asking(resume=resume))
        assert events[-1].outcome.type == "success"
        # The same answers again, as after a broken stream: nothing is decided twice.
        repeated = await streamed(served, asking(resume=resume))
        assert repeated[-1].result == events[-1].result
        # The whole of it again: where it waited, it has gone on.
        whole = await streamed(served, body)
        assert whole[-1].result == events[-1].result


def resolved(interrupt: str, answer: str | None) -> dict[str, object]:
    payload = None if answer is None else {"answer": answer, "reason": "because"}
    return {"interruptId": interrupt, "status": "resolved", "payload": payload}


async def test_an_abandoned_question_is_rejected(serve: Serve):
    async with team(planning(), approvals=ApprovalPolicy(tools=("calculate",))) as app:
        served = await serve(app)
        events = await streamed(served, asking())
        (one, *_) = events[-1].outcome.interrupts
        await streamed(served, asking(resume=[{"interruptId": one.id, "status": "cancelled"}]))
        run = state_of(events)["run_id"]
        answer = (await app.state(run)).approvals[one.id].answer
        assert answer is not None
        assert answer.answer == "reject"


async def test_the_end_is_told_as_what_it_was(serve: Serve):
    model = Hanging()
    async with team(model) as app:
        served = await serve(app)
        streaming = asyncio.ensure_future(streamed(served, asking()))
        await model.asked.wait()
        (head,) = await app.runs()
        await app.cancel(head.run)
        events = await streaming
        assert events[-1].outcome.type == "cancelled"
    async with team(ScriptedModel([])) as app:
        served = await serve(app)
        events = await streamed(served, asking())
        assert events[-1].type == EventType.RUN_ERROR
        assert "Traceback" not in events[-1].message


async def test_who_leaves_the_stream_leaves_the_run_as_it_is(serve: Serve):
    model = Hanging()
    async with team(model) as app:
        served = await serve(app)
        async with served.http.stream("POST", "/agui", json=asking()) as reply:
            async for line in reply.aiter_lines():
                if "STEP_STARTED" in line:
                    break
        await model.asked.wait()
        (head,) = await app.runs()
        assert (await app.state(head.run)).status == "running"


class Saying:
    """On whose behalf a model speaks."""

    tenant, number = "default", 1

    def __init__(self, run: str) -> None:
        self.run = run


async def test_what_models_say_is_told_between_the_events(serve: Serve):
    model = Hanging()
    async with team(model) as app:
        deltas = app.worker.deltas
        deltas.start(Wishes(app.stores.bus, clock=SystemClock()))
        served = await serve(app)

        async def speak() -> str:
            await model.asked.wait()
            (head,) = await app.runs()
            async with asyncio.timeout(20):
                while not deltas.is_wanted(head.run):  # noqa: ASYNC110 - the bus is waited for
                    await asyncio.sleep(0.01)
            await deltas.publish(Saying(head.run), "plan", 1, 0, "Once ")
            return head.run

        speaking = asyncio.ensure_future(speak())
        events = []
        async with served.http.stream("POST", "/agui", json=asking()) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: "):
                    events.append(EVENT.validate_python(json.loads(line.removeprefix("data: "))))
                    if events[-1].type == EventType.CUSTOM:
                        await app.cancel(await speaking)
        check_rules(events)
        (said,) = [one for one in events if one.type == EventType.CUSTOM]
        assert said.name == "collegium.token"
        assert (said.value["task"], said.value["text"]) == ("plan", "Once ")
        assert events[-1].outcome.type == "cancelled"


async def test_a_stream_ends_with_the_credentials(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "CHECK_S", 0.05)
    model = Hanging()
    async with team(model) as app:
        somebody = Somebody(local("default"))
        served = await serve(app, authenticator=somebody)
        streaming = asyncio.ensure_future(streamed(served, asking()))
        await model.asked.wait()
        somebody.principal = None
        events = await streaming
        assert (events[-1].type, events[-1].code) == (EventType.RUN_ERROR, "expired")


async def test_what_does_not_do_is_refused(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        url = {"id": "1", "role": "user", "content": [{"type": "document", "source": {"type": "url", "value": "x"}}]}
        bad = {"id": "1", "role": "user", "content": [
            {"type": "document", "source": {"type": "data", "value": "%", "mimeType": "text/plain"}}]}  # fmt: skip
        for body, status in (
            (b"{", 422), (b"[]", 422), (b"{}", 422), (asking() | {"messages": []}, 400), (asking("   "), 400),
            (asking(thread=""), 400), (asking(thread="x" * 501), 400), (asking() | {"messages": [url]}, 400),
            (asking() | {"messages": [bad]}, 400), (asking() | {"messages": [{"id": "1", "role": "user"}]}, 422),
            (b"x" * 17_000_000, 413),
        ):  # fmt: skip
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            reply = await served.http.post("/agui", content=content)
            assert reply.status_code == status, (content[:100], reply.text)
        given = {"type": "document", "source": {"type": "data", "value": "c2V2ZW4=", "mimeType": "text/plain"}}
        message = {"id": "1", "role": "user", "content": [{"type": "text", "text": "Read it."}, given]}
        events = await streamed(served, asking() | {"messages": [message]})
        goal = (await app.state(events[-1].result["run_id"])).goal
        assert (goal.text, [f.path for f in goal.files]) == ("Read it.", ["part-1.txt"])


async def test_rights_hold_and_other_tenants_threads_are_other_threads(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        first = (await streamed(served, asking()))[-1].result["run_id"]
        stranger = Principal(id="key:s", tenant="other", scopes=scopes_of(["operator"]), kind="key")
        served = await serve(app, authenticator=Somebody(stranger))
        other = (await streamed(served, asking()))[-1].result["run_id"]
        assert (await app.state(other, tenant="other")).goal.continues is None
        assert first != other
        viewer = Principal(id="key:v", tenant="default", scopes=scopes_of(["viewer"]), kind="key")
        for principal, status in ((viewer, 403), (None, 401)):
            served = await serve(app, authenticator=Somebody(principal))
            assert (await served.http.post("/agui", json=asking())).status_code == status


async def recorded() -> tuple[Event, ...]:
    """The journal of a run with tools, questions and answers."""
    async with team(working(), approvals=ApprovalPolicy(tools=("calculate",))) as app:
        run = await app.submit("Do both.", plan=PLAN, is_plan_reviewed=True)
        while (await run.result()).status == "waiting":
            for one in (await run.state()).open_approvals:
                await app.answer(one.id, "approve")
        return await app.stores.journal.read(run.id)


RECORDED = asyncio.run(recorded())


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_wherever_a_stream_begins_and_whatever_it_lacks_the_rules_hold(data: st.DataObject):
    start = data.draw(st.integers(1, len(RECORDED)))
    begun = fold(RECORDED[:start])
    assert begun is not None
    told = Translator(begun, thread="t", run="r", known=data.draw(st.integers(0, len(RECORDED))))
    events = list(told.start())
    skipped = data.draw(st.sets(st.sampled_from([e.seq for e in RECORDED if not e.is_deciding])))
    cut = data.draw(st.integers(start, len(RECORDED)))  # the run may end at any moment
    for event in (*RECORDED[start:cut], *(RECORDED[-1:] if cut < len(RECORDED) else ())):
        if not told.is_over() and event.seq not in skipped:
            events += told.take(event)
    if not told.is_over():
        events.append(told.failed("expired", "no more"))
    check_rules([EVENT.validate_json(one.model_dump_json(by_alias=True)) for one in events])
