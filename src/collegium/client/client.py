"""The client: what a server does, as typed calls."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from collegium.client.connection import Connection
from collegium.client.stream import follow
from collegium.client.wire import Accepted, Items, ModelShown, OpenQuestion, RunChecked, RunSummary, SentEvent, Upload
from collegium.domain.chat import Json
from collegium.domain.document import GivenFile
from collegium.domain.errors import UnreadableInput
from collegium.domain.event import Event
from collegium.domain.head import FINISHED
from collegium.domain.message import PRIORITIES
from collegium.domain.plan import Plan
from collegium.domain.report import RunReport
from collegium.domain.usage import Limits

_NAMES = {number: name for name, number in PRIORITIES.items()}


class Client:
    """Asks one server; see ``Connection`` for what it takes.

    Changes are made once, however often they have to be sent: each has an idempotency key. Errors are those of
    ``collegium.domain.errors``, as they would be without a server between.
    """

    def __init__(self, url: str, *, key: str | None = None, **options: Any) -> None:
        self._connection = Connection(url, key=key, **options)

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes its connections."""
        await self._connection.__aexit__(kind, error, trace)

    async def submit(
        self,
        goal: str,
        *,
        files: Sequence[str | Path | GivenFile] = (),
        model: str | None = None,
        limits: Limits | Mapping[str, object] | None = None,
        priority: int = 2,
        plan: Plan | None = None,
        is_plan_only: bool = False,
        is_plan_reviewed: bool = False,
        output_schema: Json | None = None,
        continues: str | None = None,
        tools: Sequence[str] = (),
        project: str = "",
        idempotency_key: str | None = None,
    ) -> RemoteRun:
        """A run of ``goal``, which is never lost once this has returned; see ``Collegium.submit``.

        Files and folders of this machine are handed over first.
        """
        uploads = [await self.upload(file) for file in given(files)]
        wanted: dict[str, object] = {
            "goal": goal,
            "model": model,
            "priority": _NAMES[priority],
            "plan_only": is_plan_only,
            "review_plan": is_plan_reviewed,
            "output_schema": output_schema,
            "continues": continues,
            "tools": list(tools),
            "project": project or None,
            "files": [upload.id for upload in uploads],
            "plan": plan,
            "limits": _changed(limits) if isinstance(limits, Limits) else limits,
        }
        document = {name: value for name, value in wanted.items() if value not in (None, False, [])}
        accepted = await self._connection.post("/v1/runs", Accepted, document, key=idempotency_key)
        return RemoteRun(self, accepted.run_id)

    async def upload(self, file: GivenFile) -> Upload:
        """Hands a file over, for a submit within the next hours."""
        return await self._connection.send("/v1/uploads", Upload, file.data, query={"name": file.path})

    def run(self, run: str) -> RemoteRun:
        """A handle on a run by its id."""
        return RemoteRun(self, run)

    async def runs(
        self, *, statuses: Sequence[str] = (), project: str | None = None, after: str | None = None, limit: int = 50
    ) -> Items[RunSummary]:
        """Runs, the newest first; ``next`` of a page leads to the following one."""
        query: dict[str, Any] = {"limit": limit}
        if project is not None:
            query["project"] = project
        if statuses:
            query["status"] = list(statuses)
        if after is not None:
            query["after"] = after
        return await self._connection.get("/v1/runs", Items[RunSummary], query=query)

    async def report(self, run: str) -> RunReport:
        """A run as it stands."""
        return await self._connection.get(f"/v1/runs/{run}", RunReport)

    async def events(self, run: str, *, after: int = 0, is_following: bool = False) -> AsyncIterator[Event]:
        """Events of a run in order, each once; with ``is_following`` also those to come, until it has ended."""
        if is_following:
            async for event in follow(self._connection, run, after=after):
                yield event
            return
        while True:
            page = await self._connection.get(f"/v1/runs/{run}/events", Items[SentEvent], query={"after": after})
            for sent in page.items:
                yield sent.event()
                after = sent.seq
            if not page.items:
                return

    async def cancel(self, run: str, *, reason: str = "") -> None:
        """Asks for a run's end."""
        await self._connection.post(f"/v1/runs/{run}/cancel", Any, {"reason": reason})

    async def say(self, run: str, text: str) -> None:
        """Adds to what a run is to do."""
        await self._connection.post(f"/v1/runs/{run}/say", Any, {"text": text})

    async def file(self, run: str, path: str) -> bytes:
        """A file that a run wrote."""
        return await self._connection.download(f"/v1/runs/{run}/files/{path}")

    async def export(self, run: str) -> AsyncIterator[bytes]:
        """A run with all it needs, piece by piece as it comes; what `runs export` writes into a file."""
        async with self._connection.stream(f"/v1/runs/{run}/export", headers={}) as reply:
            async for piece in reply.aiter_bytes():
                yield piece

    async def check(self, run: str) -> RunChecked:
        """Whether a run is as it was written, and whether it can go on with what the server has now."""
        return await self._connection.get(f"/v1/runs/{run}/check", RunChecked)

    async def models(self, *, after: str | None = None, limit: int = 50) -> Items[ModelShown]:
        """Models that the server knows of, by name."""
        query: dict[str, Any] = {"limit": limit, **({} if after is None else {"after": after})}
        return await self._connection.get("/v1/models", Items[ModelShown], query=query)

    async def approvals(self) -> tuple[OpenQuestion, ...]:
        """Questions that wait for a person's answer, those of the newest runs first."""
        found: list[OpenQuestion] = []
        after: str | None = None
        while True:
            query = {} if after is None else {"after": after}
            page = await self._connection.get("/v1/approvals", Items[OpenQuestion], query=query)
            found += page.items
            if page.next is None:
                return tuple(found)
            after = page.next

    async def answer(self, approval: str, answer: str, *, reason: str = "", plan: Plan | None = None) -> None:
        """Answers a question, once and for all."""
        document = {"answer": answer, "reason": reason, **({} if plan is None else {"plan": plan})}
        await self._connection.post(f"/v1/approvals/{approval}/answer", Any, document)


class RemoteRun:
    """A run on a server: look at it, wait for it, stop it. What ``runtime.handle.Run`` is in the same process."""

    was_interrupted = False

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self.id = run

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events with ``seq > after``, those to come included, until it ends or waits for a person."""
        async for event in self._client.events(self.id, after=after, is_following=True):
            yield event
            if event.type == "approval.requested" and (await self.report()).status == "waiting":
                return

    async def report(self) -> RunReport:
        """It as it stands."""
        return await self._client.report(self.id)

    async def result(self) -> RunReport:
        """Its report, once it has ended or waits for a person."""
        after = 0
        while (found := await self.report()).status not in FINISHED and found.status != "waiting":
            async for event in self._client.events(self.id, after=after, is_following=True):
                after = event.seq
                if event.type in ("run.finished", "approval.requested"):
                    break
        return found

    async def cancel(self, reason: str = "") -> None:
        """Asks for its end; ``result`` then waits for it."""
        await self._client.cancel(self.id, reason=reason)


def given(files: Sequence[str | Path | GivenFile]) -> list[GivenFile]:
    """The files, read; of a folder all that are below it. Raises ``UnreadableInput``."""
    found: list[GivenFile] = []
    for file in files:
        if isinstance(file, GivenFile):
            found.append(file)
            continue
        path = Path(file).expanduser()
        if not path.exists():
            raise UnreadableInput(f"there is no file or folder {path}", path=str(path))
        inside = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for one in inside:
            name = one.name if path.is_file() else one.relative_to(path).as_posix()
            try:
                found.append(GivenFile(path=name, data=one.read_bytes()))
            except OSError as error:
                raise UnreadableInput(
                    f"{one} cannot be read: {os.strerror(error.errno or 0)}", path=str(one)
                ) from error
    return found


def _changed(limits: Limits) -> dict[str, object]:
    """What differs from no limits at all."""
    usual = Limits()
    return {n: v for n, v in msgspec.structs.asdict(limits).items() if v != getattr(usual, n)}
