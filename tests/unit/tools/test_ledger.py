"""The ledger: effects never fire twice."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collegium.domain.body import (
    ApprovalRequested,
    Body,
    RunForked,
    TaskQuarantined,
    ToolFinished,
    ToolIntended,
    ToolOutcomeUnknown,
)
from collegium.domain.errors import StoreCorrupt, ToolError
from collegium.domain.event import Draft
from collegium.domain.tool import Effect, ToolDefinition, ToolResult
from collegium.tools import ledger as lg
from collegium.tools.canonical import arguments_sha256, idempotency_key
from collegium.tools.ledger import Call, Ledger, decide
from collegium.tools.outcome import Reconciled

EFFECTS: tuple[Effect, ...] = ("pure", "read", "idempotent_write", "write")
OK = ToolResult(text="ok")


def a_call(
    *, task: str = "t1", step: int = 1, call: int = 0, tool: str = "pay", effect: Effect = "write", amount: int = 5
) -> Call:
    return Call(
        key=idempotency_key("run_1", task, step=step, call=call),
        task=task,
        step=step,
        tool=tool,
        effect=effect,
        arguments_sha256=arguments_sha256({"amount": amount}),
    )


def intent(call: Call, *, approval: str | None = None) -> ToolIntended:
    return ToolIntended(
        step=call.step,
        call=0,
        key=call.key,
        tool=call.tool,
        tool_version="1",
        effect=call.effect,
        arguments={},
        arguments_sha256=call.arguments_sha256,
        approval=approval,
    )


def finish(call: Call, result: ToolResult = OK) -> ToolFinished:
    return ToolFinished(
        step=call.step, call=0, tool=call.tool, effect=call.effect, call_id="c", result=result, key=call.key
    )


def lose(call: Call) -> ToolOutcomeUnknown:
    return ToolOutcomeUnknown(key=call.key, tool=call.tool, detail="")


def after(*bodies: Body, task: str = "t1") -> Ledger:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return lg.fold(Draft(id=f"evt_{n}", tenant="t", at=now, body=body, task=task) for n, body in enumerate(bodies))


def test_a_new_call_is_called():
    assert decide(Ledger(), a_call()).admission == "call"


def test_a_finished_call_is_not_repeated_but_remembered():
    call = a_call()
    decision = decide(after(intent(call), finish(call, ToolResult(text="paid"))), call)
    assert decision.admission == "known"
    assert decision.entry is not None
    assert decision.entry.result == ToolResult(text="paid")


def test_an_open_call_has_to_be_settled_first():
    call = a_call()
    ledger = after(intent(call))
    assert decide(ledger, call).admission == "settle"
    assert [e.key for e in ledger.open("t1")] == [call.key]
    assert ledger.open("t2") == ()


def test_a_call_nobody_knows_about_waits_for_a_person():
    call = a_call()
    ledger = after(intent(call), lose(call))
    assert decide(ledger, call).admission == "ask"
    assert decide(ledger, call, approval="apr_1").admission == "call"
    assert ledger.open("t1") == ()


@pytest.mark.parametrize("state", [(), (finish,), (lose,)])
@pytest.mark.parametrize("other", [{"step": 2}, {"task": "t2"}, {"task": "t2", "step": 2}])
def test_the_same_write_from_another_step_needs_an_approval(state, other):
    first = a_call()
    ledger = after(intent(first), *(end(first) for end in state))
    decision = decide(ledger, a_call(**other))
    assert decision.admission == "approval"
    assert [e.key for e in decision.like] == [first.key]
    assert decide(ledger, a_call(**other), approval="apr_1").admission == "call"


@pytest.mark.parametrize(
    "other",
    [{"step": 2, "amount": 6}, {"step": 2, "tool": "refund"}, {"step": 2, "effect": "idempotent_write"}, {"call": 1}],
)
def test_another_write_does_not(other):
    assert decide(after(intent(a_call())), a_call(**other)).admission == "call"


def test_a_key_belongs_to_one_call_for_ever():
    call = a_call()
    changed = msgspec.structs.replace(call, arguments_sha256=arguments_sha256({"amount": 6}))
    for ledger in (after(intent(call)), after(intent(call), finish(call)), after(intent(call), lose(call))):
        with pytest.raises(ToolError, match="it cannot become pay"):
            decide(ledger, changed)
    with pytest.raises(StoreCorrupt, match="contradicts itself"):
        after(intent(call), intent(changed))


def test_an_approval_is_consumed_by_the_intent_that_names_it():
    first, second = a_call(), a_call(step=2)
    ledger = after(intent(first), finish(first), intent(second, approval="apr_1"))
    assert ledger.consumed == {"apr_1"}
    with pytest.raises(ToolError, match="apr_1 was already consumed"):
        decide(ledger, a_call(step=3), approval="apr_1")
    with pytest.raises(StoreCorrupt, match="twice"):
        after(intent(first, approval="apr_1"), intent(second, approval="apr_1"))


@pytest.mark.parametrize("end", [finish, lose])
def test_an_end_without_a_beginning_is_no_journal_of_ours(end):
    with pytest.raises(StoreCorrupt, match="never intended"):
        after(end(a_call()))


def test_a_call_that_was_refused_before_it_began_is_no_call():
    call = a_call()
    ledger = after(finish(call, ToolResult(text="needs an approval", is_ok=False)))
    assert ledger == Ledger()
    assert decide(ledger, call).admission == "call"


def test_reads_leave_no_trace():
    read = a_call(effect="read")
    assert after(finish(read), TaskQuarantined(reason="")) == Ledger()


def test_what_was_under_way_in_the_parent_is_void_in_a_fork():
    done, under_way = a_call(), a_call(step=2, amount=6)
    ledger = after(intent(done), finish(done), intent(under_way), RunForked(parent="run_0", at_event="evt_9"))
    assert ledger.open("t1") == ()
    assert [e.key for e in ledger.finished_writes()] == [done.key]
    assert decide(ledger, a_call(step=3, amount=6)).admission == "call"
    assert decide(ledger, a_call(step=3)).admission == "approval"


def test_an_approval_is_about_one_version_and_exact_arguments():
    definition = ToolDefinition(name="pay", description="", parameters={}, effect="write", version="v1")
    asked = ApprovalRequested(
        approval="apr_1", kind="tool", question="?", tool="pay", tool_version="v1", arguments_sha256="aa"
    )
    assert lg.approves(asked, definition, arguments_sha256="aa")
    assert not lg.approves(asked, definition, arguments_sha256="ab")
    assert not lg.approves(asked, msgspec.structs.replace(definition, version="v2"), arguments_sha256="aa")
    assert not lg.approves(asked, msgspec.structs.replace(definition, name="refund"), arguments_sha256="aa")


@pytest.mark.parametrize(
    ("effect", "answer", "act"),
    [
        ("pure", None, "again"),
        ("read", None, "again"),
        ("idempotent_write", None, "again"),
        ("write", None, "reconcile"),
        ("write", Reconciled(state="done", result=OK), "finish"),
        ("write", Reconciled(state="voided"), "again"),
        ("write", Reconciled(state="unknown"), "ask"),
    ],
)
def test_how_an_open_call_goes_on(effect: Effect, answer: Reconciled | None, act: str):
    assert lg.after_lapse(effect, answer) == act


def test_nobody_judges_before_the_old_call_must_be_over():
    lapsed = datetime(2026, 1, 1, tzinfo=UTC)
    assert lg.judge_at(lapsed, 30.0) == lapsed + timedelta(seconds=30)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(EFFECTS), st.integers(0, 1)), max_size=8))
def test_folding_in_one_go_or_bit_by_bit_is_the_same(plan: list[tuple[int, Effect, int]]):
    seen: dict[str, Call] = {}
    bodies: list[Body] = []
    for step, effect, amount in plan:
        call = seen.setdefault(str(step), a_call(step=step, effect=effect, amount=amount))
        if lg.is_write(call.effect):
            bodies += [intent(call), finish(call)]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    drafts = [Draft(id=str(n), tenant="t", at=now, body=body, task="t1") for n, body in enumerate(bodies)]
    half = len(drafts) // 2
    assert lg.fold(drafts[half:], lg.fold(drafts[:half])) == lg.fold(drafts)


class FarSide(RuleBasedStateMachine):
    """A worker that dies anywhere, over a far side that fires every call it is sent, however late.

    The worker keeps to the ledger and nothing else. As nobody approves anything here, a ``write`` may fire once.
    """

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.fired: dict[str, list[Call]] = {}
        self.voided: set[str] = set()
        self.approvals = 0
        self.in_flight: list[Call] = []

    def _apply(self, body: Body) -> None:
        self.ledger = lg.apply(self.ledger, body, task="t1")

    def _send(self, call: Call, *, arrives: bool, returns: bool) -> None:
        """The call goes out; it arrives now or is on its way, and the worker lives to hear of it or dies."""
        if not arrives:
            self.in_flight.append(call)
            return
        self._arrive(call)
        if returns:
            self._apply(finish(call))

    def _arrive(self, call: Call) -> None:
        if call.key not in self.voided:
            self.fired.setdefault(call.key, []).append(call)

    @rule(step=st.integers(1, 4), amount=st.integers(1, 2), arrives=st.booleans(), returns=st.booleans())
    def call(self, step: int, amount: int, arrives: bool, returns: bool) -> None:
        call = a_call(step=step, amount=amount)
        try:
            decision = decide(self.ledger, call)
        except ToolError:
            return  # the key is taken by other arguments
        if decision.admission == "call":
            self._apply(intent(call))
            self._send(call, arrives=arrives, returns=returns)

    @precondition(lambda self: self.ledger.open("t1"))
    @rule(can_tell=st.booleans(), arrives=st.booleans(), returns=st.booleans())
    def lapse(self, can_tell: bool, arrives: bool, returns: bool) -> None:
        """A new worker settles what the old one left open."""
        entry = self.ledger.open("t1")[0]
        call = Call(**{field: getattr(entry, field) for field in Call.__struct_fields__})
        assert lg.after_lapse(entry.effect) == "reconcile"
        match lg.after_lapse(entry.effect, self._ask(entry.key, can_tell)):
            case "finish":
                self._apply(finish(call))
            case "ask":
                self._apply(lose(call))
            case "again":
                # The far side refuses the first one; what is sent now is another request under the same key.
                self.in_flight = [c for c in self.in_flight if c.key != call.key]
                self.voided.discard(call.key)
                self._send(call, arrives=arrives, returns=returns)

    def _ask(self, key: str, can_tell: bool) -> Reconciled:
        if not can_tell:
            return Reconciled(state="unknown")
        if key in self.fired:
            return Reconciled(state="done", result=OK)
        self.voided.add(key)
        return Reconciled(state="voided")

    @precondition(lambda self: self.in_flight)
    @rule()
    def late(self) -> None:
        """What was on its way arrives after all."""
        self._arrive(self.in_flight.pop())

    @invariant()
    def no_effect_fires_twice(self) -> None:
        fired = [call for calls in getattr(self, "fired", {}).values() for call in calls]
        assert len({c.key for c in fired}) == len(fired)
        assert len({c.arguments_sha256 for c in fired}) == len(fired)  # nobody has approved a repetition

    @invariant()
    def every_gap_is_open_or_asked_about(self) -> None:
        for key in getattr(self, "fired", {}):
            assert key in self.ledger.entries


TestFarSide = FarSide.TestCase
