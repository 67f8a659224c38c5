from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.agents.roster import Roster, builtin_agents
from collegium.agents.templates import choose
from collegium.domain.document import InputFile
from collegium.domain.goal import Goal
from collegium.domain.plan import validate

FILES = (InputFile(path="a.md", sha256="0" * 64, size_bytes=1),)


@pytest.mark.parametrize(
    ("goal", "template"),
    [
        (Goal(text="Who owns it?", files=FILES), "answer@1"),
        (Goal(text="Who owns it? Who leads them?", files=FILES), "questions@1"),
        (Goal(text="Summarise the policy and write it to notes/policy.md", files=FILES), "report@1"),
        (Goal(text="Say hello"), "chat@1"),
        (Goal(text="And who leads it?", continues="run_x"), "answer@1"),
    ],
)
def test_the_plan_fits_the_goal(goal: Goal, template: str) -> None:
    assert choose(goal).template == template


def test_several_questions_are_looked_into_at_the_same_time() -> None:
    plan = choose(Goal(text="Who owns it? Who leads them?", files=FILES))
    assert [t.id for t in plan.tasks] == ["research-1", "research-2", "write"]
    assert [t.instructions for t in plan.tasks[:2]] == ["Who owns it?", "Who leads them?"]
    assert plan.tasks[2].depends_on == ("research-1", "research-2")


def test_the_path_of_a_report_is_taken_from_the_goal() -> None:
    plan = choose(Goal(text="Answer this. Save it as `out/x.md`.", files=FILES))
    assert plan.tasks[-1].save_as == "out/x.md"
    assert plan.tasks[0].instructions == "Answer this"


@pytest.mark.parametrize(
    ("goal", "asked"),
    [
        ("Summarise the policy and write it to notes/policy.md", "Summarise the policy"),
        ("Who owns it? Write the answer to out/owner.md.", "Who owns it?"),
        ("Write to a.md", "Write to a.md"),
    ],
)
def test_where_the_answer_goes_is_no_part_of_what_is_looked_for(goal: str, asked: str) -> None:
    assert choose(Goal(text=goal, files=FILES)).tasks[0].instructions == asked


@given(st.text(min_size=1, max_size=300), st.booleans())
def test_every_plan_of_the_library_can_run(text: str, has_files: bool) -> None:
    plan = choose(Goal(text=text, files=FILES if has_files else ()))
    validate(plan, capabilities=Roster(builtin_agents()).capabilities)
