"""The researcher: a question becomes evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from collegium.agents.context import fitting
from collegium.agents.desk import Desk
from collegium.agents.loop import work
from collegium.domain.chat import ChatMessage
from collegium.domain.document import Chunk, Passage
from collegium.domain.errors import UnreadableInput
from collegium.domain.result import Evidence, TaskResult
from collegium.knowledge.extractive import select
from collegium.knowledge.retrieval import gather

LIMIT_PASSAGES = 16
"""For a model to read: each of them costs."""
LIMIT_QUOTED = 48
"""For quoting, which reads them all in milliseconds: more passages, more answers (docs/explanation/retrieval.md)."""


async def research(desk: Desk) -> TaskResult:
    """Evidence for the task: from a search over all documents, and from what a capable model looks up itself."""
    notes = tuple(f"{s.path}: {s.reason}" for s in desk.skipped)
    if not desk.retriever.documents:
        if desk.goal.files:
            raise UnreadableInput(f"none of the given files can be used: {'; '.join(notes[:3])}")
        return TaskResult(text="There are no documents to look into.")
    found = await gather(desk.retriever, desk.inquiry, limit=_limit(desk))
    if desk.model.profile.tool_mode != "native" or not desk.model.profile.can_plan:
        return TaskResult(evidence=_evidence(found), notes=notes)
    reply = await work(
        desk,
        ChatMessage(role="system", text=desk.agent.prompt),
        ChatMessage(role="user", text=f"{desk.question}\n\nA first search gave:\n\n{_show(found)}"),
    )
    looked_up = [p for t in desk.talk.turns for _, f in sorted(t.finished.items()) for p in _places(f.result.data)]
    read = [Passage(chunk=await _chunk(desk, place), score=place.score) for place in looked_up]
    return TaskResult(text=reply.text, evidence=_evidence((*found, *read)), notes=notes)


async def look(desk: Desk) -> TaskResult:
    """Evidence for the whole goal from one search over all documents, without a model."""
    inquiry = "\n".join(dict.fromkeys((desk.goal.text, desk.inquiry)))
    return TaskResult(evidence=_evidence(await gather(desk.retriever, inquiry, limit=_limit(desk))))


async def best(desk: Desk, evidence: Sequence[Evidence], *, limit_tokens: int) -> tuple[Evidence, ...]:
    """The pieces of ``evidence`` that hold the best quotes, then the others in their order, as far as they fit."""
    passages = [Passage(chunk=e.chunk, score=e.score) for e in evidence]
    quotes = await select(desk.inquiry, passages, embedder=desk.embedder)
    first = [e for q in quotes for e in evidence if e.chunk.id == q.chunk_id]
    ordered = {e.chunk.id: e for e in (*first, *evidence)}
    kept = fitting([e.chunk for e in ordered.values()], limit_tokens)
    return tuple(ordered[c.id] for c in kept)


def _limit(desk: Desk) -> int:
    profile = desk.model.profile
    return LIMIT_PASSAGES if profile.can_write and not profile.is_local else LIMIT_QUOTED


class _Place(msgspec.Struct, frozen=True):
    """A passage as ``search_inputs`` names it in its result's data."""

    document: str
    chunk_id: str
    start: int
    end: int
    score: float


def _places(data: object) -> tuple[_Place, ...]:
    if not isinstance(data, dict) or "passages" not in data:
        return ()
    return msgspec.convert(data["passages"], tuple[_Place, ...])


async def _chunk(desk: Desk, place: _Place) -> Chunk:
    text = await desk.retriever.text(place.document)
    sha256 = next((f.sha256 for f in desk.goal.files if f.path == place.document), "")
    return Chunk(
        id=place.chunk_id,
        document=place.document,
        sha256=sha256,
        start=place.start,
        end=place.end,
        text=text[place.start : place.end],
    )


def _evidence(passages: Iterable[Passage]) -> tuple[Evidence, ...]:
    seen: dict[str, Evidence] = {}
    for passage in passages:
        seen.setdefault(passage.chunk.id, Evidence(chunk=passage.chunk, score=passage.score))
    return tuple(seen.values())


def _show(passages: Iterable[Passage]) -> str:
    return "\n\n".join(f"{_where(p.chunk)}\n{p.chunk.text}" for p in passages) or "nothing"


def _where(chunk: Chunk) -> str:
    return f"{chunk.document} ({chunk.context})" if chunk.context else chunk.document
