"""Bodies: what each type of event says, beside its envelope.

The stored format is for ever (``docs/explanation/journal.md``): names, meanings and defaults of fields never
change. A new field is a new version ``v`` with an upcaster: an old worker must not carry a plan on without the field
that makes it safe, so unknown fields are refused, here and in every struct below. What may be tuned one day (limits,
attempts) is written out. ``event.py`` has the table of types.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from collegium.domain.candidate import Candidate
from collegium.domain.chat import ChatMessage, Finish, Json
from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task
from collegium.domain.policy import Judgement
from collegium.domain.result import Answer, TaskResult
from collegium.domain.tool import Effect, ToolResult
from collegium.domain.usage import Allotment, Usage


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all bodies: what an event says beside its envelope."""


# Deciding: ``decide`` reads these and nothing else.


class RunSubmitted(Body, frozen=True):
    """The run exists. ``pins`` are the versions it keeps to: ``agent:writer`` -> digest, and so on."""

    goal: Goal
    pins: dict[str, str] = {}


class RunPlanned(Body, frozen=True):
    """The plan to be followed; ``source`` is ``model``, ``template`` or ``given``.

    ``problems``: why a model's was not taken.
    """

    plan: Plan
    source: Literal["model", "template", "given"]
    problems: tuple[str, ...] = ()


class RunReplanned(Body, frozen=True):
    """A new plan; tasks that are settled keep their results."""

    plan: Plan
    reason: str


class RunReplanning(Body, frozen=True):
    """The plan did not work out: the planning task ``task`` comes into being, to plan on from what is finished.

    ``failed`` are the tasks that led to it; what needs them waits for the new plan.
    """

    task: str
    failed: tuple[str, ...]
    reason: str


class RunAllotted(Body, frozen=True):
    """The run may take ``allotment`` out of ``accounts``, where it was drawn under the id ``draw`` before."""

    draw: str
    accounts: tuple[str, ...]
    allotment: Allotment


class RunReturned(Body, frozen=True):
    """The run is done with ``draw``: ``usage`` is what it took of it, the rest goes back to the accounts."""

    draw: str
    usage: Usage


class RunResumed(Body, frozen=True):
    """The run goes on where it was stopped: what a drain, a kill switch or a missing version had parked is due now."""

    principal: str


class RunSaid(Body, frozen=True):
    """The user adds something to a running run."""

    text: str
    principal: str


class RunForked(Body, frozen=True):
    """The run shares the events of ``parent`` up to and with the event ``at_event`` (its id).

    Attempts, approvals and draws that were open there are void here. What is given replaces what the goal said, but
    ``scopes`` only narrow it; ``effects`` says whether writes that the parent made later are asked about.
    """

    parent: str
    at_event: str
    principal: str = "local"
    model: str | None = None
    plan: Plan | None = None
    pins: dict[str, str] = {}
    effects: Literal["ask", "allow"] = "ask"
    scopes: tuple[str, ...] | None = None


class RunCancelRequested(Body, frozen=True):
    """No attempt is created after this."""

    principal: str
    reason: str = ""


class RunFinished(Body, frozen=True):
    """The end.

    ``missing`` says what a partial answer lacks; ``error`` is the code and ``reason`` the sentence of a failure.
    """

    status: Literal["succeeded", "partial", "failed", "cancelled", "limited"]
    answer: Answer | None = None
    missing: tuple[str, ...] = ()
    error: str | None = None
    reason: str = ""


class TaskReady(Body, frozen=True):
    """Creates the attempt named in the envelope. ``not_before`` delays its publication."""

    allotment: Allotment = Allotment()
    not_before: datetime | None = None
    is_alone: bool = False
    """Whether it runs in a process of its own (after two lapses without progress)."""


class TaskRouted(Body, frozen=True):
    """Which agent was chosen, and why, for a person; ``candidates`` are the figures, where there was a choice."""

    agent: str
    reason: str
    candidates: tuple[Candidate, ...] = ()


class TaskStarted(Body, frozen=True):
    """A worker took the attempt; refused by the store unless it is the newest and not yet started.

    ``is_fresh``: another agent or model than before, which does not go on with that one's conversation.
    """

    worker: str
    agent: str
    agent_version: str
    model: str
    is_fresh: bool = False


class TaskAsked(Body, frozen=True):
    """The envelope's task asks a colleague: ``task`` comes into being, for call ``call`` of step ``step``.

    ``allotment`` is what an attempt of the agent that asks may take itself: none at ``task`` takes more.
    """

    task: Task
    step: int
    call: int
    allotment: Allotment = Allotment()


class TaskParked(Body, frozen=True):
    """Closes the attempt without an outcome; the task goes on at ``wake_at`` or when what it waits for is there."""

    reason: Literal["retry", "ask", "approval", "outcome_unknown", "delay", "drain", "stopped", "pinned"]
    wake_at: datetime | None = None
    error: str | None = None
    detail: str = ""
    usage: Usage = Usage()
    """What this attempt took; a reservation without a recorded result counts in full."""


class TaskLapsed(Body, frozen=True):
    """The worker is dead; ``has_progressed`` says whether the attempt left a durable event of its own."""

    worker: str
    has_progressed: bool
    usage: Usage = Usage()


class TaskJudged(Body, frozen=True):
    """What the overseer says of the result so far."""

    judgement: Judgement


class TaskSettled(Body, frozen=True):
    """Closes the attempt, and the task for good. ``usage`` is what this attempt took. A skipped task has no attempt."""

    outcome: Literal["succeeded", "failed", "skipped"]
    result: TaskResult | None = None
    error: str | None = None
    reason: str = ""
    usage: Usage = Usage()


class TaskQuarantined(Body, frozen=True):
    """Three attempts lapsed without progress; a person has to look."""

    reason: str


class ToolOutcomeUnknown(Body, frozen=True):
    """It cannot be known whether a write fired."""

    key: str
    tool: str
    detail: str


class ApprovalRequested(Body, frozen=True):
    """A person is asked; bound to tool version and argument hash, not to an attempt.

    The envelope's task waits for it, where there is one. ``arguments`` (canonical) are there to be read, what binds is
    ``arguments_sha256``: for a plan, the hash of the plan. ``key`` is the call's key on the ledger.
    ``is_four_eyes``: the one who asked for the run may not answer.
    """

    approval: str
    kind: Literal["plan", "tool", "verdict", "outcome"]
    question: str
    tool: str | None = None
    tool_version: str | None = None
    arguments_sha256: str | None = None
    assignee: str | None = None
    expires_at: datetime | None = None
    default: Literal["approve", "reject"] = "reject"
    key: str | None = None
    arguments: Json | None = None
    is_four_eyes: bool = False


class ApprovalAnswered(Body, frozen=True):
    """The answer; consumed once by the one intent that names it.

    ``answer``: ``approve`` or ``reject``; for an unknown outcome ``done``, ``not-done`` or ``retry``.
    ``is_default``: nobody answered in time. ``plan``: follow this one instead of the one that was asked about.
    """

    approval: str
    answer: str
    principal: str
    reason: str = ""
    is_default: bool = False
    plan: Plan | None = None


class FeedbackGiven(Body, frozen=True):
    """What a user thought of the answer."""

    is_good: bool
    principal: str
    note: str = ""


# Recording: written under a fence, folded by conversations, views, learning; never by ``decide``.


class StepProposed(Body, frozen=True):
    """One model call and its reply.

    ``added`` are the messages of the conversation since the previous call of it, the reply not included: the whole
    prompt is never stored again. ``request_sha256`` is the hash of the whole request as it was sent, hints to caches
    aside; ``tools_sha256`` that of the offered tools and the output schema.
    """

    step: int
    added: tuple[ChatMessage, ...]
    reply: ChatMessage
    finish: Finish
    model: str
    usage: Usage
    request_sha256: str
    max_output_tokens: int = 0
    temperature: float = 0.0
    tools: tuple[str, ...] = ()
    tools_sha256: str = ""
    seconds: float = 0.0
    is_fresh: bool = False
    """Whether a new conversation starts here (its first message is ``added[0]``)."""


class StepJudged(Body, frozen=True):
    """What policy says of one proposed call."""

    step: int
    call: int
    decision: Literal["allow", "deny", "ask"]
    rule: str


class ToolIntended(Body, frozen=True):
    """Written, and durable, before a call that changes the world. ``arguments`` are in canonical form."""

    step: int
    call: int
    key: str
    tool: str
    tool_version: str
    effect: Effect
    arguments: Json
    arguments_sha256: str
    approval: str | None = None


class ToolFinished(Body, frozen=True):
    """What a call gave. ``call_id`` is the provider's id of the proposed call it answers."""

    step: int
    call: int
    tool: str
    effect: Effect
    call_id: str
    result: ToolResult
    key: str | None = None
    seconds: float = 0.0


class LimitReserved(Body, frozen=True):
    """An upper bound, durable before the calls it covers; without a ``limit.settled`` it counts as spent in full."""

    reservation: str
    allotment: Allotment


class LimitSettled(Body, frozen=True):
    """What the reservation's calls really took."""

    reservation: str
    usage: Usage


class AccountDrawn(Body, frozen=True):
    """In an account's journal: ``allotment`` is set aside for ``run`` (or one attempt of it) under the id ``draw``."""

    draw: str
    run: str
    allotment: Allotment


class AccountSettled(Body, frozen=True):
    """In an account's journal: what was taken of ``draw``; the rest is free again."""

    draw: str
    usage: Usage


class LimitExceeded(Body, frozen=True):
    """A call was not made because it did not fit; texts name the cap, the number and what was left."""

    limit: str
    detail: str


class MessageSent(Body, frozen=True):
    """A message of ``agent`` on a board or to an inbox, by its call ``call`` of step ``step``."""

    message: str
    topic: str
    text: str
    agent: str = ""
    step: int = 0
    call: int = 0


class MemoryWritten(Body, frozen=True):
    """A memory was written for the run."""

    memory: str
    tier: str
    text: str


class MemorySuperseded(Body, frozen=True):
    """A memory replaces an older one."""

    memory: str
    superseded: str
    reason: str


class ContextCompacted(Body, frozen=True):
    """The conversation's messages before ``upto_step`` are replaced by ``summary`` in later requests."""

    upto_step: int
    summary: str
