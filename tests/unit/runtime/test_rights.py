"""Rights of agents: never more than who asks has, whoever hands on to whom; and what becomes of a call without."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.memory.records import MemoryRecords
from collegium.agents.roster import Roster, declaration, digest, parse
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chat import ToolCall
from collegium.domain.errors import KeyReused, ToolError, UsageError
from collegium.domain.goal import Goal
from collegium.domain.ids import Ids
from collegium.domain.principal import SCOPES, Principal, local
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.domain.task import Asked, TaskState
from collegium.domain.usage import Limits
from collegium.runtime.acceptance import run_id
from collegium.runtime.pins import granted
from collegium.runtime.rights import rights
from collegium.testing.harness import team
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.toolbox import Toolbox
from tests.unit.runtime.colleagues import TEAM, Roles, ask, done, events_of, named, plan, results, task
from tests.unit.runtime.test_asks_replay import assert_same, replayed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
scopes = st.none() | st.frozensets(st.sampled_from(sorted(SCOPES)))
LOOK = ToolCall(id="c", name="search_inputs", arguments={"query": "Who owns it?"})


def taking(scope: str) -> FunctionTool:
    @tool(effect="pure", name="take_" + scope.replace(":", "_"), scope=scope)
    def take() -> str:
        return scope

    return take


TOOLS = Toolbox([taking(s) for s in sorted(SCOPES)])


def agent(name: str, may: frozenset[str] | None) -> Agent:
    return Agent(
        name=name, kind="operator", description=name, capabilities=("operate",), prompt="p", tools=("*",),
        scopes=None if may is None else tuple(sorted(may)),
    )  # fmt: skip


def state(user: frozenset[str] | None, **tasks: TaskState) -> RunState:
    goal = Goal(text="x", scopes=None if user is None else tuple(sorted(user)))
    return RunState(id="run_1", tenant="t", goal=goal, submitted_at=NOW, seq=1, deciding_seq=1, tasks=tasks)


@given(user=scopes, role=scopes, mine=st.frozensets(st.sampled_from([d.name for d in TOOLS.definitions])))
def test_what_is_granted_is_in_all_three(
    user: frozenset[str] | None, role: frozenset[str] | None, mine: frozenset[str]
):
    one = agent("one", role)
    run = state(user, a=TaskState(task=task("a", tools=tuple(mine))))
    got = granted(one, run, tuple(mine), TOOLS.narrowed(rights(run, "a", one, Roster([one]))))
    wanted = SCOPES & (SCOPES if user is None else user) & (SCOPES if role is None else role)
    assert {d.scope for d in got} == {
        d.scope for d in TOOLS.definitions if d.scope in wanted and (not mine or d.name in mine)
    }


@given(user=scopes, first=scopes, second=scopes, third=scopes, is_fork=st.booleans())
def test_whoever_is_asked_has_no_more_than_who_asks(
    user: frozenset[str] | None,
    first: frozenset[str] | None,
    second: frozenset[str] | None,
    third: frozenset[str] | None,
    is_fork: bool,
):
    agents = [agent("first", first), agent("second", second), agent("third", third)]
    names = [None if is_fork else a.name for a in agents]
    run = state(
        user,
        a=TaskState(task=task("a"), agent=names[0]),
        b=TaskState(task=task("b"), agent=names[1], asked=Asked(by="a", step=1, call=0)),
        c=TaskState(task=task("c"), asked=Asked(by="b", step=1, call=0)),
    )
    may = rights(run, "c", agents[2], Roster(agents))
    for one in (user, first, second, third):
        assert one is None or may <= one
    assert may == SCOPES.intersection(*(one for one in (user, first, second, third) if one is not None))


def test_rights_are_no_part_of_what_was_pinned_before():
    """Digests of agents and versions of tools are what they were: runs that were begun then go on."""
    one = agent("one", None)
    assert "scopes" not in declaration(one)
    assert msgspec.convert(declaration(agent("one", frozenset())), Agent).scopes == ()
    assert len({digest(one), digest(agent("one", frozenset())), digest(agent("one", frozenset({"runs:read"})))}) == 3
    for made in builtin_tools():
        assert made.taking("").definition.version == made.definition.version


def test_a_scope_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="runs:rite"):
        taking("runs:rite")
    text = '[agent.a]\nkind="operator"\ndescription="d"\ncapabilities=["x"]\nprompt="p"\nscopes=["runs:rite"]'
    with pytest.raises(UsageError, match=r"agents.toml: agent 'a': .*runs:rite"):
        parse(text, source="agents.toml", prompt=str)


def test_a_call_without_the_right_is_refused_by_the_toolbox():
    narrowed = Toolbox(builtin_tools()).narrowed({"runs:write"})
    assert "search_inputs" not in {d.name for d in narrowed.granted(narrowed.matching(["*"]))}
    with pytest.raises(ToolError, match="it takes the right knowledge:read"):
        narrowed.admit(LOOK, granted={"search_inputs"})
    with pytest.raises(ToolError, match="knowledge:read"):
        narrowed.extended(taking("runs:read")).admit(LOOK, granted={"search_inputs"})


async def test_a_call_that_was_not_offered_is_refused_and_recorded_and_so_it_is_in_a_replay_and_a_fork():
    asker = Principal(id="key:1", tenant="default", scopes=frozenset({"runs:write", "runs:read"}), kind="key")
    model = Roles({"Do a.": [(LOOK,), "It cannot be looked up."]})
    async with team(model) as app:
        run = await app.submit("x", plan=plan(task("a")), principal=asker)
        report = await done(app, run.id)
        assert report.status == "succeeded"
        assert not {"search_inputs", "read_input"} & {t.name for t in model.shown["Do a.", 0].tools}
        assert "calculate" in {t.name for t in model.shown["Do a.", 0].tools}
        events = await events_of(app, run.id)
        (judged,) = named(events, "step.judged")
        assert judged.body == b.StepJudged(step=1, call=0, decision="deny", rule="the right knowledge:read is missing")
        (finished,) = results(events, "search_inputs")
        assert not finished.result.is_ok
        assert "knowledge:read" in finished.result.text
        assert_same(await replayed(app, run.id))
        # Whoever forks it may no more than who asked for it, and no more than themselves.
        fork = await app.fork(run.id, at=1, principal=local("default"))
        await done(app, fork.id)
        assert (await app.state(fork.id)).goal.scopes == ("runs:read", "runs:write")
        less = Principal(id="key:2", tenant="default", scopes=frozenset({"runs:write"}), kind="key")
        fork = await app.fork(fork.id, at=1, principal=less)
        await done(app, fork.id)
        assert (await app.state(fork.id)).goal.scopes == ("runs:write",)


async def test_a_colleague_who_may_more_does_not_lend_it_to_who_asks():
    model = Roles({"Do a.": [(ask("Look it up.", "dig"),), "Nobody may."], "Look it up.": [(LOOK,), "I may not."]})
    poor = msgspec.structs.replace(agent("poor", frozenset({"runs:write"})), capabilities=("beg",), tools=TEAM)
    rich = msgspec.structs.replace(agent("rich", None), capabilities=("dig",))
    async with team(model, agents=(poor, rich)) as app:
        run = await app.submit("x", plan=plan(task("a", capability="beg")))
        assert (await done(app, run.id)).status == "succeeded"
        (finished,) = results(await events_of(app, run.id), "search_inputs")
        assert "knowledge:read" in finished.result.text


async def test_a_key_of_before_still_means_its_run_whatever_the_rights_are_now():
    before = (
        b'{"continues":null,"files":[],"is_plan_only":false,"is_plan_reviewed":false,"limits":'
        + msgspec.json.encode(Limits(), order="sorted")
        + b',"model":"","output_schema":null,"plan":null,"principal":"local","priority":2,"skipped":[],'
        + b'"text":"x","tools":[]}'
    )
    records, ids = MemoryRecords(), Ids(lambda: 0)
    value = {"run": "run_1", "body_sha256": hashlib.sha256(before).hexdigest()}
    await records.put(Record(kind="idempotency", tenant="t", key="k", value=value))
    for goal in (Goal(text="x"), Goal(text="x", scopes=("runs:read",))):
        assert await run_id(records, ids, goal, tenant="t", key="k") == "run_1"
    with pytest.raises(KeyReused):
        await run_id(records, ids, Goal(text="x", project="p"), tenant="t", key="k")
