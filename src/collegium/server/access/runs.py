"""Runs as one principal may see and change them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Literal

import msgspec

from collegium.app import Collegium
from collegium.domain.body import FeedbackGiven
from collegium.domain.chat import Json
from collegium.domain.document import GivenFile
from collegium.domain.errors import Changed, NotFound, WrongState
from collegium.domain.event import Draft, Event
from collegium.domain.head import HeadQuery
from collegium.domain.plan import Plan
from collegium.domain.principal import Principal
from collegium.domain.report import RunReport, report
from collegium.domain.run import RunState
from collegium.domain.tool import Artifact
from collegium.domain.usage import Limits
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach
from collegium.server.live.snapshots import RunSummary, Snapshot, Snapshots


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Collegium.submit`` takes, as it comes from outside; files were uploaded before."""

    goal: str
    files: tuple[GivenFile, ...] = ()
    model: str | None = None
    limits: Limits | None = None
    priority: int = 2
    plan: Plan | None = None
    is_plan_only: bool = False
    is_plan_reviewed: bool = False
    output_schema: Json | None = None
    continues: str | None = None
    tools: tuple[str, ...] = ()
    project: str = ""


class RunAccess:
    """The runs of the principal's tenant and projects; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal, snapshots: Snapshots | None = None) -> None:
        self._app = app
        self._principal = principal
        self._snapshots = snapshots or Snapshots(app)
        self._reach = Reach(app, principal)

    @property
    def limits(self) -> Limits:
        """Limits of goals that bring none."""
        return self._app.limits

    async def submit(self, wanted: Submission, *, key: str | None = None) -> str:
        """The id of the run that was accepted; the same key of the same principal gives the same.

        See ``Collegium.submit``.
        """
        self._principal.require("runs:write")
        if wanted.continues is not None:  # its answer and its files are shown to the team
            self._principal.require("runs:read")
            before = await self._state(wanted.continues)
            if not wanted.project:
                wanted = msgspec.structs.replace(wanted, project=before.goal.project)
        project = self._reach.project(wanted.project)
        if key is not None:
            # Keys are chosen by programs that know nothing of each other.
            key = f"api:{hashlib.sha256(f'{self._principal.id}{chr(0)}{key}'.encode()).hexdigest()}"
        run = await self._app.submit(
            wanted.goal,
            files=wanted.files,
            model=wanted.model,
            limits=wanted.limits,
            priority=wanted.priority,
            plan=wanted.plan,
            is_plan_only=wanted.is_plan_only,
            is_plan_reviewed=wanted.is_plan_reviewed,
            output_schema=wanted.output_schema,
            continues=wanted.continues,
            tools=wanted.tools,
            tenant=self._principal.tenant,
            principal=self._principal,
            project=project,
            idempotency_key=key,
        )
        return run.id

    async def page(
        self, *, statuses: Collection[str] = (), project: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page[RunSummary]:
        """Runs, the newest first. Raises ``UsageError`` for a cursor that is none."""
        found, following = await self._found(statuses, after, limit, project)
        return Page(items=[one.summary for one in found], next=following)

    async def page_document(
        self, *, statuses: Collection[str] = (), project: str | None = None, after: str | None = None, limit: int = 50
    ) -> bytes:
        """The same as the document that is sent."""
        found, following = await self._found(statuses, after, limit, project)
        end = b"null" if following is None else msgspec.json.encode(following)
        return b"".join((b'{"items":[', b",".join([one.line for one in found]), b'],"next":', end, b"}"))

    async def document(self, run: str) -> tuple[int, bytes]:
        """Number of its last event, and the run's report as it is sent."""
        self._principal.require("runs:read")
        await self._reach.run(run)
        found = await self._snapshots.one(run, self._principal.tenant)
        return found.seq, found.report or b"null"

    async def _found(
        self, statuses: Collection[str], after: str | None, limit: int, project: str | None = None
    ) -> tuple[list[Snapshot], str | None]:
        self._principal.require("runs:read")
        behind = place("runs", after)
        query = HeadQuery(
            tenant=self._principal.tenant,
            statuses=frozenset(statuses) or None,
            projects=self._reach.within(project),
            after=None if behind is None else str(behind[0]),
            limit=limit + 1,
            may_lag=True,
        )
        heads = await self._app.runs(query)
        shown = heads[:limit]
        found = [await self._snapshots.of(head) for head in shown]
        return found, cursor("runs", shown[-1].run) if len(heads) > limit else None

    async def state(self, run: str) -> RunState:
        """A run as it is stored."""
        self._principal.require("runs:read")
        return await self._state(run)

    async def states(
        self, *, statuses: Collection[str] = (), project: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page[RunState]:
        """Runs as they are stored, in the order and with the cursors of ``page``; pruned ones are left out."""
        found, following = await self._found(statuses, after, limit, project)
        readable = [one.summary.run_id for one in found if one.report is not None]
        return Page(items=[await self._state(run) for run in readable], next=following)

    def shown(self, state: RunState) -> RunReport:
        """``state`` as it stands now."""
        return report(state, self._app.now())

    async def report(self, run: str) -> RunReport:
        """A run as it stands now."""
        return report(await self.state(run), self._app.now())

    async def events(self, run: str, *, after: int = 0, limit: int = 200) -> tuple[Event, ...]:
        """Its durable events with ``seq > after``, at most so many."""
        await self.state(run)
        return await self._app.stores.journal.read(run, after, limit)

    async def events_document(self, run: str, *, after: int = 0, limit: int = 200) -> bytes:
        """The same as the document that is sent."""
        self._principal.require("runs:read")
        await self._reach.run(run)
        return await self._snapshots.events(run, self._principal.tenant, after, limit)

    async def require_unmoved(self, run: str, if_match: str | None) -> None:
        """Raises ``Changed`` when the run has moved on from what ``if_match`` names, the ``ETag`` that was read.

        It is looked at just before the change, not together with it. Nothing is looked at without ``if_match``.
        """
        if if_match is None or if_match.strip() == "*":
            return
        self._principal.require("runs:write")
        await self._reach.run(run)
        seq = (await self._snapshots.one(run, self._principal.tenant)).seq
        if etag(seq) not in {tag.strip() for tag in if_match.split(",")}:
            raise Changed(f"{run} has moved on to event {seq}: look at it again, then decide", run=run, etag=etag(seq))

    async def cancel(self, run: str, *, reason: str = "") -> RunState:
        """Asks for its end; the run as it stands then."""
        self._principal.require("runs:write")
        await self._reach.run(run)
        await self._app.cancel(run, reason=reason, principal=self._principal.id, tenant=self._principal.tenant)
        await noted(self._app, self._principal, "runs.cancelled", run, rule="runs:write", reason=reason)
        return await self._state(run)

    async def resume(self, run: str, *, outcome: str | None = None, reason: str = "") -> RunState:
        """Sets a run going that was stopped half way.

        Args:
            run: Its id.
            outcome: What became of calls that may or may not have taken place: ``done``, ``not-done``, ``retry``. That
                is a decision, and needs the right to decide.
            reason: For the journal, and for the agents.
        """
        self._principal.require("runs:write")
        tenant = self._principal.tenant
        if outcome is not None:
            self._principal.require("approvals:decide")
        await self._reach.run(run)
        if outcome is not None:
            await self._app.inbox.settle(run, outcome, principal=self._principal.id, tenant=tenant, reason=reason)
            details: Json = {"outcome": outcome}
            await noted(
                self._app, self._principal, "runs.settled", run, rule="approvals:decide", reason=reason, details=details
            )
        await self._app.resume(run, tenant=tenant)
        return await self._state(run)

    async def fork(
        self,
        run: str,
        *,
        at: int,
        model: str | None = None,
        plan: Plan | None = None,
        effects: Literal["ask", "allow"] = "ask",
    ) -> str:
        """The id of a new run that goes on from event ``at`` of this one.

        To let it write again without being asked is a decision, and needs the right to decide.
        """
        self._principal.require("runs:write")
        if effects == "allow":
            self._principal.require("approvals:decide")
        await self._reach.run(run)
        made = await self._app.fork(
            run, at=at, model=model, plan=plan, effects=effects, tenant=self._principal.tenant,
            principal=self._principal,
        )  # fmt: skip
        if effects == "allow":
            await noted(
                self._app, self._principal, "runs.forked", made.id, rule="approvals:decide", details={"parent": run}
            )
        return made.id

    async def say(self, run: str, text: str) -> RunState:
        """Adds to what is wanted of a run that goes on."""
        self._principal.require("runs:write")
        await self._reach.run(run)
        return await self._app.inbox.say(run, text, principal=self._principal.id, tenant=self._principal.tenant)

    async def feedback(self, run: str, *, is_good: bool, note: str = "") -> None:
        """Keeps what the principal thinks of a run that has ended, durably."""
        self._principal.require("runs:write")
        state = await self._state(run)
        if state.finished is None:
            raise WrongState(f"{run} goes on: say what you think of it once it has ended", run=run)
        draft = Draft(
            id=self._app.ids.new("evt"),
            tenant=self._principal.tenant,
            at=self._app.now(),
            body=FeedbackGiven(is_good=is_good, principal=self._principal.id, note=note),
        )
        await self._app.stores.journal.append(run, [draft]).durable()

    async def files(self, run: str) -> tuple[Artifact, ...]:
        """What the run wrote so far, by path."""
        state = await self.state(run)
        found = {a.path: a for t in state.tasks.values() if t.result is not None for a in t.result.artifacts}
        return tuple(found[path] for path in sorted(found))

    async def file(self, run: str, path: str) -> bytes:
        """The bytes of a file that the run wrote. Raises ``NotFound``."""
        for artifact in await self.files(run):
            if artifact.path == path:
                return await self._app.stores.blobs.get(self._principal.tenant, artifact.sha256)
        raise NotFound(f"{run} has written no file {path[:200]!r}", run=run, path=path[:200])

    async def _state(self, run: str) -> RunState:
        await self._reach.run(run)
        return await self._app.state(run, tenant=self._principal.tenant)


def etag(seq: int) -> str:
    """The entity tag of a run that has so many events.

    Weak: the seconds so far of one that goes on change without an event. As ``If-Match`` it is held against the events.
    """
    return f'W/"{seq}"'
