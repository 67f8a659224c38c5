"""The ledger: effects never fire twice."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collegium.domain.body import (
    ApprovalAnswered,
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
from collegium.domain.tool import Effect, ToolResult
from collegium.tools import ledger as lg
from collegium.tools.canonical import arguments_sha256, idempotency_key, next_key
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
        tool_version="1",
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


def ask(call: Call, approval: str = "apr_1", kind: Literal["tool", "outcome"] = "tool") -> ApprovalRequested:
    return ApprovalRequested(
        approval=approval,
        kind=kind,
        question="?",
        tool=call.tool,
        tool_version=call.tool_version,
        arguments_sha256=call.arguments_sha256,
        key=call.key,
    )


def say(answer: str, approval: str = "apr_1") -> ApprovalAnswered:
    return ApprovalAnswered(approval=approval, answer=answer, principal="ada", reason="I looked")


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
    assert ledger.open("t1") == ()


def lost(answer: str, *more: Body) -> Ledger:
    call = a_call()
    return after(intent(call), lose(call), ask(call, kind="outcome"), say(answer), *more)


def test_a_person_says_it_is_done():
    decision = decide(lost("done"), a_call())
    assert decision.admission == "known"
    assert decision.entry is not None
    assert decision.entry.result is not None
    assert decision.entry.result.is_ok
    assert "ada confirmed that pay took place" in decision.entry.result.text
    assert decide(lost("done"), a_call(step=2)).admission == "approval"


def test_a_person_says_it_did_not_happen_and_it_is_like_no_other_write():
    decision = decide(lost("not-done"), a_call())
    assert decision.admission == "known"
    assert decision.entry is not None
    assert decision.entry.result is not None
    assert not decision.entry.result.is_ok
    ledger = lost("not-done", finish(a_call(), decision.entry.result))
    assert decide(ledger, a_call(step=2)).admission == "call"
    assert ledger.finished_writes() == ()


def test_a_person_allows_one_further_call():
    ledger = lost("retry")
    decision = decide(ledger, a_call())
    assert (decision.admission, decision.approval) == ("call", "apr_1")
    again = lost("retry", intent(a_call(), approval="apr_1"))
    assert again.consumed == {"apr_1"}
    assert decide(again, a_call()).admission == "settle"
    assert decide(lost("retry", intent(a_call(), approval="apr_1"), lose(a_call())), a_call()).admission == "ask"


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_another_word_leaves_the_outcome_unknown(answer):
    assert decide(lost(answer), a_call()).admission == "ask"


def test_a_rule_asks_before_the_first_call_too():
    call = a_call(effect="read")
    assert decide(Ledger(), call, rule="all of them").admission == "approval"
    assert decide(after(ask(call)), call, rule="all of them").admission == "approval"
    assert decide(after(ask(call), say("approve")), call, rule="all of them").approval == "apr_1"
    refused = decide(after(ask(call), say("reject")), call)
    assert (refused.admission, refused.approval) == ("refused", "apr_1")


@pytest.mark.parametrize("state", [(), (finish,), (lose,)])
@pytest.mark.parametrize("other", [{"step": 2}, {"task": "t2"}, {"task": "t2", "step": 2}])
def test_the_same_write_from_another_step_needs_an_approval(state, other):
    first = a_call()
    ledger = after(intent(first), *(end(first) for end in state))
    decision = decide(ledger, a_call(**other))
    assert decision.admission == "approval"
    assert [e.key for e in decision.like] == [first.key]
    ledger = lg.apply(lg.apply(ledger, ask(a_call(**other)), task="t1"), say("approve"), task="t1")
    allowed = decide(ledger, a_call(**other))
    assert (allowed.admission, allowed.approval) == ("call", "apr_1")


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
    assert decide(ledger, a_call(step=3)).admission == "approval"
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


@pytest.mark.parametrize(
    "changed", [{"tool_version": "2"}, {"key": "k"}, {"arguments_sha256": "aa"}, {"tool": "refund"}]
)
def test_an_approval_is_about_one_call_of_one_version_with_exact_arguments(changed):
    call = a_call()
    ledger = after(ask(call), say("approve"))
    assert decide(ledger, call, rule="it asks").admission == "call"
    assert decide(ledger, msgspec.structs.replace(call, **changed), rule="it asks").admission == "approval"


def test_what_was_allowed_in_the_parent_is_not_allowed_in_a_fork():
    call = a_call()
    ledger = after(ask(call), say("approve"), RunForked(parent="run_0", at_event="evt_9"))
    assert decide(ledger, call, rule="it asks").admission == "approval"


@pytest.mark.parametrize(
    ("effect", "answer", "act"),
    [
        ("pure", None, "again"),
        ("read", None, "again"),
        ("idempotent_write", None, "again"),
        ("write", None, "reconcile"),
        ("write", Reconciled(state="done", result=OK), "finish"),
        ("write", Reconciled(state="voided"), "anew"),
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

    The worker keeps to the ledger and nothing else. A person answers what is asked: anything on repetitions, the truth
    on unknown outcomes, as far as it can be known. A ``write`` may fire once, and once more for each repetition that
    was allowed.
    """

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.fired: dict[str, list[Call]] = {}
        self.voided: set[str] = set()
        self.allowed: set[str] = set()
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

    def _id(self) -> str:
        return f"apr_{len(self.ledger.asked) + 1}"

    @rule(step=st.integers(1, 4), amount=st.integers(1, 2), arrives=st.booleans(), returns=st.booleans())
    def call(self, step: int, amount: int, arrives: bool, returns: bool) -> None:
        call = a_call(step=step, amount=amount)
        call = msgspec.structs.replace(call, key=self.ledger.key_of(call.task, step, 0) or call.key)
        try:
            decision = decide(self.ledger, call)
        except ToolError:
            return  # the key is taken by other arguments
        if decision.admission == "call":
            self._apply(intent(call, approval=decision.approval))
            self._send(call, arrives=arrives, returns=returns)
        if decision.admission == "approval" and self.ledger.about(call) is None:
            self._apply(ask(call, self._id()))

    @precondition(lambda self: self._open())
    @rule(is_allowed=st.booleans())
    def answer(self, is_allowed: bool) -> None:
        approval = self._open()[0]
        self._apply(say("approve" if is_allowed else "reject", approval))
        if is_allowed:
            self.allowed.add(approval)

    def _open(self) -> list[str]:
        return [k for k, q in self.ledger.asked.items() if q.answer is None]

    @precondition(lambda self: self._settleable())
    @rule(is_retried=st.booleans())
    def settle(self, is_retried: bool) -> None:
        """A person has found out what became of a call whose outcome was unknown."""
        entry = self._settleable()[0]
        call, approval = self._call_of(entry), self._id()
        self._apply(ask(call, approval, kind="outcome"))
        has_fired = entry.key in self.fired
        self._apply(say("done" if has_fired else "retry" if is_retried else "not-done", approval))

    def _settleable(self) -> list[lg.Entry]:
        on_their_way = {c.key for c in self.in_flight}
        return [e for e in self.ledger.entries.values() if e.state == "unknown" and e.key not in on_their_way]

    def _call_of(self, entry: lg.Entry) -> Call:
        return Call(**{field: getattr(entry, field) for field in Call.__struct_fields__})

    @precondition(lambda self: self.ledger.open("t1"))
    @rule(can_tell=st.booleans(), arrives=st.booleans(), returns=st.booleans())
    def lapse(self, can_tell: bool, arrives: bool, returns: bool) -> None:
        """A new worker settles what the old one left open."""
        entry = self.ledger.open("t1")[0]
        call = self._call_of(entry)
        assert lg.after_lapse(entry.effect) == "reconcile"
        match lg.after_lapse(entry.effect, self._ask(entry.key, can_tell)):
            case "finish":
                self._apply(finish(call))
            case "ask":
                self._apply(lose(call))
            case "anew":
                # The far side refuses the first key for good; what is still on its way under it arrives in vain.
                call = msgspec.structs.replace(call, key=next_key(call.key))
                self._apply(intent(call))
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
    def no_effect_fires_twice_unless_somebody_has_allowed_it(self) -> None:
        fired = [call for calls in getattr(self, "fired", {}).values() for call in calls]
        assert len({c.key for c in fired}) == len(fired)
        repeated = len(fired) - len({c.arguments_sha256 for c in fired})
        assert repeated <= len(getattr(self, "allowed", set()) & self.ledger.consumed) if fired else True

    @invariant()
    def every_gap_is_open_or_asked_about(self) -> None:
        for key in getattr(self, "fired", {}):
            assert key in self.ledger.entries


TestFarSide = FarSide.TestCase


def test_a_voided_call_is_made_anew_under_another_key_and_is_the_same_call_from_then_on() -> None:
    first = a_call()
    second = msgspec.structs.replace(first, key=next_key(first.key))
    ledger = lg.apply(lg.apply(Ledger(), intent(first), task="t1"), intent(second), task="t1")
    assert (ledger.entries[first.key].state, ledger.entries[second.key].state) == ("void", "open")
    assert ledger.key_of("t1", 1, 0) == second.key
    assert decide(ledger, second).admission == "settle"
    # What was voided has not happened: the same call of another step repeats the second one alone.
    assert [e.key for e in decide(ledger, a_call(step=2)).like] == [second.key]
    assert next_key(second.key) == f"{first.key}-3"
