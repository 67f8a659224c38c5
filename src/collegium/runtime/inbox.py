"""The inbox: what people are asked, and their answers. An answer is a decision: whoever is first holds, once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from collegium.agents.likeness import Likeness
from collegium.domain import body as b
from collegium.domain.asking import approval_id, run_of
from collegium.domain.decision import Decision
from collegium.domain.errors import AlreadyDecided, NotAllowed, NotFound, StoreCorrupt, UsageError, WrongState
from collegium.domain.head import HeadQuery
from collegium.domain.plan import Plan, validate
from collegium.domain.run import Approval, RunState
from collegium.ports import Clock, Journal
from collegium.runtime.heads import heads_of
from collegium.runtime.history import own
from collegium.runtime.questions import ask_about
from collegium.runtime.scheduler import Scheduler
from collegium.tools import ledger as books

WORDS = {"outcome": ("done", "not-done", "retry")}
"""What may be answered; to all other kinds ``YES_NO``."""
YES_NO = ("approve", "reject")
_ABOUT = {
    "plan": "whether a plan is followed",
    "tool": "whether a call is made",
    "verdict": "whether an answer is handed out",
    "outcome": "what became of a call",
}
_log = logging.getLogger("collegium.inbox")
_ASKING = frozenset({"waiting", "running", "queued"})
"""Runs that may ask: a question of one task does not stop the others."""
MAX_TEXT_CHARS = 20_000


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question that waits for an answer, with the run that asks."""

    approval: Approval
    run: str
    tenant: str
    goal: str
    principal: str


class Inbox:
    """Lists questions and takes answers, in any process: whoever has the run's events may decide on it.

    Args:
        likeness: Says what an edited plan may ask for.
    """

    def __init__(self, scheduler: Scheduler, journal: Journal, *, clock: Clock, likeness: Likeness) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._clock = clock
        self._likeness = likeness

    async def open(self, tenant: str, *, limit: int = 1_000) -> tuple[Question, ...]:
        """Open questions, those of the newest runs first; only runs that go on or wait are looked into."""
        found: list[Question] = []
        async for head in heads_of(self._journal, HeadQuery(tenant=tenant, statuses=_ASKING)):
            try:
                state = await self._load(head.run, tenant)
            except StoreCorrupt as error:  # perhaps a newer version's: it must not hide the others
                _log.warning("the questions of %s cannot be read: %s", head.run, error)
                continue
            found += [_question(state, a) for a in state.open_approvals if state.finished is None]
            if len(found) >= limit:
                break
        return tuple(found[:limit])

    async def answer(
        self,
        approval: str,
        answer: str,
        *,
        principal: str,
        tenant: str,
        reason: str = "",
        plan: Plan | None = None,
    ) -> RunState:
        """Answers a question; durable, with all that follows from it, when this returns.

        Raises:
            NotFound: there is no such question, or it is another tenant's.
            UsageError: the word is none for this kind of question, or a plan answers another kind.
            InvalidPlan: ``plan`` may not run.
            NotAllowed: somebody else has to answer.
            AlreadyDecided: it was answered, or its time is over, or the run has ended.
        """
        run = run_of(approval)
        state = None if run is None else await self._known(run, tenant)
        if run is None or state is None or approval not in state.approvals:
            raise NotFound(f"there is no question {approval}: `collegium approvals ls` lists them", approval=approval)
        request = state.approvals[approval].request
        _check(state, request, answer, principal, plan, () if plan is None else await self._likeness.accepted(plan))
        given = b.ApprovalAnswered(
            approval=approval, answer=answer, principal=principal, reason=reason.strip(), plan=plan
        )

        is_taken = False

        def proposal(state: RunState) -> Sequence[Decision]:
            nonlocal is_taken
            asked = state.approvals[approval]
            is_taken = asked.answer is None and not _is_over(state) and not self._is_late(asked.request)
            return [Decision(body=given, task=asked.task)] if is_taken else ()

        state = await self._scheduler.propose(run, proposal)
        if not is_taken:
            raise _already(state, state.approvals[approval])
        return state

    async def settle(self, run: str, answer: str, *, principal: str, tenant: str, reason: str = "") -> RunState:
        """Answers everything that is open about unknown outcomes of ``run``, asked or not.

        Raises ``NotFound``, ``UsageError`` for another word, ``WrongState`` when nothing is open, ``AlreadyDecided``.
        """
        _check_word("outcome", answer, run)
        state = await self._load(run, tenant)
        if _is_over(state):
            raise _ended(state)
        tasks = {e.key: e.task for e in (await self._ledger(run)).entries.values()}
        decided: tuple[Decision, ...] = ()

        def proposal(state: RunState) -> Sequence[Decision]:
            nonlocal decided
            decided = () if _is_over(state) else tuple(_settling(state, tasks, answer, principal, reason.strip()))
            return decided

        state = await self._scheduler.propose(run, proposal)
        if not decided:
            raise WrongState(
                f"no call of {run} has an unknown outcome: `collegium runs show` says what it waits for", run=run
            )
        return state

    async def say(self, run: str, text: str, *, principal: str, tenant: str) -> RunState:
        """Adds to what the user wants of a run that goes on. Raises ``NotFound``, ``UsageError``, ``WrongState``."""
        text = text.strip()
        if not text or len(text) > MAX_TEXT_CHARS:
            raise UsageError(f"the text has {len(text):,} characters: between 1 and {MAX_TEXT_CHARS:,} are taken in")
        await self._load(run, tenant)
        is_taken = False

        def proposal(state: RunState) -> Sequence[Decision]:
            nonlocal is_taken
            is_taken = not _is_over(state)
            return [Decision(body=b.RunSaid(text=text, principal=principal))] if is_taken else ()

        state = await self._scheduler.propose(run, proposal)
        if not is_taken:
            raise WrongState(
                f"{run} has ended ({state.status}) and hears nothing more: "
                f'`collegium run --continue {run} "..."` asks on from its answer',
                run=run,
            )
        return state

    def _is_late(self, request: b.ApprovalRequested) -> bool:
        return request.expires_at is not None and request.expires_at <= self._clock.now()

    async def _known(self, run: str, tenant: str) -> RunState | None:
        try:
            return await self._load(run, tenant)
        except NotFound:
            return None

    async def _load(self, run: str, tenant: str) -> RunState:
        state = await self._scheduler.load(run, is_fresh=True)
        if state.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        return state

    async def _ledger(self, run: str) -> books.Ledger:
        ledger = books.Ledger()
        async for events in own(self._journal, run):
            ledger = books.fold(events, ledger)
        return ledger


def _question(state: RunState, approval: Approval) -> Question:
    return Question(
        approval=approval,
        run=state.id,
        tenant=state.tenant,
        goal=state.goal.text,
        principal=state.goal.principal,
    )


def _settling(state: RunState, tasks: dict[str, str], answer: str, principal: str, reason: str) -> list[Decision]:
    """The answers to all questions about outcomes; what nobody was asked about, as in old journals, is asked first."""
    decisions: list[Decision] = []
    asked = [a for a in state.open_approvals if a.request.kind == "outcome"]
    known = {a.request.key for a in asked}
    fresh = [u for key, u in state.unknown.items() if key not in known]
    for count, unknown in enumerate(fresh, start=1):
        request = ask_about(unknown, approval_id(state, count))
        task = tasks.get(unknown.key)
        decisions.append(Decision(body=request, task=task))
        asked.append(Approval(id=request.approval, request=request, requested_at=state.submitted_at, task=task))
    for one in asked:
        body = b.ApprovalAnswered(approval=one.id, answer=answer, principal=principal, reason=reason)
        decisions.append(Decision(body=body, task=one.task))
    return decisions


def _check(
    state: RunState,
    request: b.ApprovalRequested,
    answer: str,
    principal: str,
    plan: Plan | None,
    capabilities: Collection[str],
) -> None:
    _check_word(request.kind, answer, request.approval)
    if plan is not None and (request.kind != "plan" or answer != "approve"):
        raise UsageError(
            f"{request.approval} is answered with {answer!r} about a {request.kind}: "
            "another plan goes only with the approval of a plan",
            approval=request.approval,
        )
    if plan is not None:
        validate(plan, capabilities=capabilities, limit_tasks=state.goal.limits.tasks)
    if request.assignee is not None and principal != request.assignee:
        raise NotAllowed(
            f"{request.approval} is for {request.assignee} to answer, and you are {principal}",
            approval=request.approval,
        )
    if request.is_four_eyes and principal == state.goal.principal:
        raise NotAllowed(
            f"{request.approval} needs a second pair of eyes: {principal} asked for the run, "
            "somebody else has to answer",
            approval=request.approval,
        )


def _check_word(kind: str, answer: str, subject: str) -> None:
    words = WORDS.get(kind, YES_NO)
    if answer in words:
        return
    where = " (on the command line: `collegium runs resume RUN --as ANSWER`)" if kind == "outcome" else ""
    raise UsageError(f"{answer!r} is no answer to {subject}, {_ABOUT[kind]}: say {' or '.join(words)}{where}")


def _is_over(state: RunState) -> bool:
    return state.finished is not None or state.cancel is not None


def _already(state: RunState, approval: Approval) -> AlreadyDecided:
    """Why an answer was not taken."""
    answer = approval.answer
    if answer is None:
        return _ended(state)
    when: datetime = approval.answered_at or state.submitted_at
    at = when.isoformat(timespec="seconds")
    if answer.is_default:
        text = f"the time for {approval.id} was over at {at}, so that {answer.answer!r} was applied: nothing is changed"
    else:
        because = f" ({answer.reason})" if answer.reason else ""
        text = f"{approval.id} was answered with {answer.answer!r} by {answer.principal} at {at}{because}: that holds"
    return AlreadyDecided(text, approval=approval.id, answer=answer.answer, principal=answer.principal)


def _ended(state: RunState) -> AlreadyDecided:
    word = "is being cancelled" if state.finished is None else f"has ended ({state.status})"
    return AlreadyDecided(f"{state.id} {word}: nobody waits for an answer any more", run=state.id)
