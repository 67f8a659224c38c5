"""The desk: everything one agent has before it while it works on one task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from collegium.agents.talk import Talk
from collegium.domain.agent import Agent
from collegium.domain.body import ApprovalAnswered
from collegium.domain.document import SkippedFile
from collegium.domain.goal import Goal
from collegium.domain.plan import Task
from collegium.domain.result import Evidence, TaskResult
from collegium.domain.tool import ToolDefinition
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Clock, Embedder, Model, Retriever, Scorer, Workspace


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Goal and answer of the run that this one goes on from."""

    goal: str
    answer: str

    def __str__(self) -> str:
        return f"{self.goal}\n{self.answer}"


@dataclass(frozen=True, kw_only=True)
class Setback:
    """What a planner plans on from: tasks that stay as they are, with what came of them, and those that failed, why."""

    kept: tuple[Task, ...]
    results: Mapping[str, str]
    failed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What an agent is given. ``inputs`` are the results of the tasks this one depends on, by their ids.

    ``said`` is what the user added while the run was going on, ``earlier`` is the run this one continues,
    ``skipped`` the input files that could not be used. ``done`` tells an agent that begins where others failed what
    they changed in the world; ``setback`` is there when a plan has to be made anew.
    """

    agent: Agent
    goal: Goal
    task: Task
    inputs: Mapping[str, TaskResult]
    capabilities: tuple[str, ...]
    tools: tuple[ToolDefinition, ...]
    talk: Talk
    retriever: Retriever
    workspace: Workspace
    scorer: Scorer
    embedder: Embedder | None
    clock: Clock
    said: tuple[str, ...] = ()
    earlier: Earlier | None = None
    skipped: tuple[SkippedFile, ...] = ()
    done: tuple[str, ...] = ()
    setback: Setback | None = None
    hear: Callable[[], Awaitable[tuple[str, ...]]] | None = None
    """Asks what the user has added by now."""
    approvals: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    verdicts: Mapping[str, ApprovalAnswered] = field(default_factory=dict)
    """What people said of answers that nothing bears out, by the hash of what they were asked."""

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self.talk.model

    @property
    def question(self) -> str:
        """What the task asks, with what the user added since."""
        return "\n".join((self.task.instructions or self.task.title, *self.said))

    @property
    def inquiry(self) -> str:
        """What to look for: the question, behind the earlier one it may only hint at ("and who leads it?")."""
        return f"{self.earlier.goal}\n{self.question}" if self.earlier is not None else self.question

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All evidence the task was handed, best first within each source, without repeats."""
        seen: dict[str, Evidence] = {}
        for result in self.inputs.values():
            for piece in result.evidence:
                seen.setdefault(piece.chunk.id, piece)
        return tuple(seen.values())
