"""When a task fails: the same again, another agent, another model, another plan, and what is left at the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from collegium.app import Collegium, Run
from collegium.domain.agent import Agent
from collegium.domain.chat import ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelRequestError, ModelUnavailable
from collegium.domain.event import Event
from collegium.domain.plan import Plan
from collegium.domain.report import RunReport
from collegium.testing.harness import team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from collegium.tools.definition import tool
from tests.unit.runtime.plans import ONE

pytestmark = pytest.mark.usefixtures("short_waits")

REFUSED = ModelRequestError("the request is refused")


async def finished(app: Collegium, goal: str, **options: Any) -> tuple[RunReport, list[Event]]:
    run: Run = await app.submit(goal, **options)
    report = await asyncio.wait_for(run.result(), 20)
    return report, [e async for e in app.events(run.id)]


def bodies(events: list[Event], type_: str, task: str | None = None) -> list[Any]:
    return [e.body for e in events if e.type == type_ and (task is None or e.task == task)]


def operator(name: str, prompt: str) -> Agent:
    return Agent(
        name=name, kind="operator", description=name, capabilities=("operate",), prompt=prompt, tools=("*",), rating=0.4
    )


async def test_another_agent_takes_over_afresh_from_one_that_failed_for_good() -> None:
    said: list[str] = []

    @tool(effect="write", capabilities=["operate"])
    async def post(text: str) -> str:
        """Post a text.

        Args:
            text: What to post.
        """
        said.append(text)
        return f"posted {text}"

    model = ScriptedModel(
        [
            Step(tool_calls=(ToolCall(id="c", name="post", arguments={"text": "one"}),)),
            Step(expect_last=("posted one",), error=REFUSED),
            Step(expect=("You are the spare.", "post in task do: posted one"), reply="Posted."),
        ]
    )
    async with model, team(model, tools=[post], agents=[operator("spare", "You are the spare.")]) as app:
        report, events = await finished(app, "Post it.", plan=ONE)
        assert report.status == "succeeded"
        started = bodies(events, "task.started", "do")
        assert [(s.agent, s.is_fresh) for s in started] == [("operator", False), ("spare", True)]
        assert [b.step for b in bodies(events, "step.proposed", "do")] == [1, 2]
        # The one who took over was told, and nothing was done twice.
        assert said == ["one"]


async def test_an_agent_goes_on_with_its_own_conversation_after_an_outage_even_if_there_is_another() -> None:
    model = ScriptedModel([Step(error=ModelUnavailable("away")), Step(reply="Done.")])
    async with model, team(model, agents=[operator("spare", "You are the spare.")]) as app:
        report, events = await finished(app, "Do it.", plan=ONE)
        assert report.status == "succeeded"
        assert [s.agent for s in bodies(events, "task.started", "do")] == ["operator", "operator"]


async def test_the_other_model_is_asked_where_the_usual_one_fails_for_good() -> None:
    class Named(ScriptedModel):
        def __init__(self, name: str, steps: list[Step]) -> None:
            super().__init__(steps, profile=msgspec.structs.replace(SCRIPTED_PROFILE, name=name))

    usual, other = Named("a:usual", [Step(error=REFUSED)]), Named("b:other", [Step(reply="Done by the other.")])
    async with usual, other, team({"a:usual": usual, "b:other": other}, other_model="b:other") as app:
        report, events = await finished(app, "Do it.", plan=ONE, model="a:usual")
        assert report.status == "succeeded"
        assert [(s.model, s.is_fresh) for s in bodies(events, "task.started", "do")] == [
            ("a:usual", False),
            ("b:other", True),
        ]


async def test_a_task_that_takes_too_long_is_tried_again_and_then_fails() -> None:
    plan = Plan(tasks=(msgspec.structs.replace(ONE.tasks[0], timeout_s=0.05, max_attempts=2),))
    model = ScriptedModel([Step(reply="Too late.", delay_s=30, times=2)])
    async with model, team(model) as app:
        report, events = await finished(app, "Do it.", plan=plan)
        assert (report.status, report.error) == ("failed", "timeout")
        assert "0.05 s" in report.reason
        assert len(bodies(events, "task.started", "do")) == 2


PLAN = {
    "tasks": [
        {"id": "a", "title": "Ask A", "capability": "operate", "instructions": "Ask A.", "depends_on": []},
        {"id": "b", "title": "Ask B", "capability": "operate", "instructions": "Ask B.", "depends_on": []},
        {"id": "w", "title": "Sum up", "capability": "operate", "instructions": "Sum up.", "depends_on": ["a", "b"]},
    ]
}
NEW_PLAN = {
    "tasks": [
        {"id": "b", "title": "Ask C", "capability": "operate", "instructions": "Ask C.", "depends_on": []},
        {"id": "w", "title": "Sum up", "capability": "operate", "instructions": "Sum up.", "depends_on": ["a", "b"]},
    ]
}


class Team:
    """A model that answers by what it is asked; ``b`` fails, and planning again works only if it may."""

    def __init__(self, *, can_replan: bool = True) -> None:
        self.can_replan = can_replan
        self.requests: list[str] = []

    @property
    def profile(self) -> ModelProfile:
        return SCRIPTED_PROFILE

    async def complete(self, request: ModelRequest) -> ModelReply:
        asked = request.messages[-1].text
        self.requests.append(asked)
        if "did not work out" in asked or "cannot run" in asked:
            return ModelReply(text=json.dumps(NEW_PLAN) if self.can_replan else '{"tasks": []}')
        if "Capabilities:" in asked:
            return ModelReply(text=json.dumps(PLAN))
        if "Ask B." in asked:
            raise REFUSED
        return ModelReply(text=f"Said after: {asked[:6]}")

    def stream(self, request: ModelRequest) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


async def test_a_failure_is_planned_around_and_what_is_finished_stays_as_it_is() -> None:
    model = Team()
    async with team(model) as app:
        report, events = await finished(app, "Ask them all.")
        assert (report.status, report.missing) == ("succeeded", ())
        replanned = bodies(events, "run.replanned")
        assert len(replanned) == 1
        # The failed task keeps its name and conversation to itself: the new one is another task.
        assert [(t.id, t.depends_on) for t in replanned[0].plan.tasks] == [("a", ()), ("b-2", ()), ("w", ("a", "b-2"))]
        assert len(bodies(events, "task.settled", "a")) == 1
        before, after = [e.type for e in events].index("run.replanned"), [e.task for e in events]
        assert "a" not in after[before:]
        asked = next(r for r in model.requests if "did not work out" in r)
        assert "the request is refused" in asked
        assert "- a (Ask A): Said after: Ask A." in asked


async def test_where_no_new_plan_comes_the_answer_is_partial_and_says_what_is_missing() -> None:
    async with team(Team(can_replan=False)) as app:
        report, events = await finished(app, "Ask them all.")
        assert report.status == "failed"
        assert any("Ask B" in m for m in report.missing)
        assert len(bodies(events, "run.replanning")) == 1
        assert not bodies(events, "run.replanned")
        assert report.plan.tasks[0].status == "succeeded"


async def test_a_given_plan_is_followed_and_never_made_anew() -> None:
    plan = msgspec.convert(PLAN, Plan)
    async with team(Team()) as app:
        report, events = await finished(app, "Ask them all.", plan=plan)
        assert report.status == "failed"
        assert not bodies(events, "run.replanning")
