"""The writer: evidence becomes an answer, and the overseer's word on it is final."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from collegium.agents.answer import NOT_FOUND, from_quotes, with_marks
from collegium.agents.context import opening, saved
from collegium.agents.desk import Desk
from collegium.agents.overseer import escalate, evidence, judge, verify_quotes
from collegium.agents.roster import builtin_prompt
from collegium.agents.schema import OutputSchema
from collegium.domain.chat import ChatMessage, Json, ToolCall
from collegium.domain.document import Passage
from collegium.domain.errors import AnswerRefused
from collegium.domain.policy import Claim, Judgement
from collegium.domain.result import TaskResult
from collegium.knowledge.extractive import select
from collegium.oversight.grounding import check, repair

MAX_ANSWER_TOKENS = 1024
Judged = Callable[[Judgement], Awaitable[None]]
"""Told of each judgement that sends an answer back, before it is written again."""


async def write(desk: Desk, judged: Judged) -> tuple[TaskResult, Judgement]:
    """The answer to the desk's question, every sentence cited or marked unverified.

    A model that writes well writes it, and once more where the overseer finds sentences without support; what is then
    still
    unsupported is replaced by the best quote or marked. For other models the answer is taken from the sources word by
    word.
    """
    if desk.goal.output_schema is not None:
        result, judgement = await _write_json(desk, desk.goal.output_schema)
    elif desk.evidence and not desk.model.profile.can_write:
        result, judgement = await _extract(desk)
    else:
        result, judgement = await _write_prose(desk, judged)
    escalate(desk, result, judgement)
    if desk.task.save_as is not None:
        await _save(desk, desk.task.save_as, result.text)
        result = msgspec.structs.replace(result, artifacts=saved(desk))
    return result, judgement


async def _write_prose(desk: Desk, judged: Judged) -> tuple[TaskResult, Judgement]:
    reply = await desk.talk.ask(*opening(desk), max_output_tokens=MAX_ANSWER_TOKENS)
    # Without evidence nothing could become supported by writing it again.
    judgement = await judge(desk, reply.text, may_revise=bool(evidence(desk)))
    if judgement.decision == "revise":
        await judged(judgement)
        bad = "\n".join(f"- {c.text}" for c in judgement.claims if c.verdict in ("unsupported", "contradicted"))
        again = ChatMessage(role="user", text=builtin_prompt("overseer@1").replace("{sentences}", bad))
        reply = await desk.talk.ask(again, max_output_tokens=MAX_ANSWER_TOKENS)
        judgement = await judge(desk, reply.text, may_revise=False)
    return await settle(desk, reply.text, judgement)


async def settle(desk: Desk, text: str, judgement: Judgement) -> tuple[TaskResult, Judgement]:
    """The answer as it is handed out: what nothing bears out gives way to the best quote, or is marked."""
    claims = judgement.claims
    # Only what has a quote to give way to is replaced; the rest is marked where the marks are written.
    repaired = repair(text, [c if c.citations else replace(c, verdict="unverifiable") for c in claims])
    if repaired != text:
        claims = await check(repaired, evidence(desk), desk.scorer)
        judgement = msgspec.structs.replace(judgement, claims=claims)
    result = TaskResult(text=with_marks(repaired, claims), claims=claims, artifacts=saved(desk))
    return result, judgement


async def _extract(desk: Desk) -> tuple[TaskResult, Judgement]:
    """The few sentences, rows or records that answer, as they stand in the documents."""
    passages = [Passage(chunk=e.chunk, score=e.score) for e in desk.evidence]
    quotes = await select(desk.inquiry, passages, embedder=desk.embedder)
    claims = tuple(
        Claim(text=q.text, verdict="supported", score=1.0, citations=(q.citation(n),), origin="extracted")
        for n, q in enumerate(quotes)
    ) or (Claim(text=NOT_FOUND, verdict="unverifiable", score=0.0, origin="system"),)
    judgement = await verify_quotes(desk, claims)
    return TaskResult(text=from_quotes(judgement.claims), claims=judgement.claims), judgement


async def _write_json(desk: Desk, schema: Json) -> tuple[TaskResult, Judgement]:
    """An answer that satisfies ``schema``; asked for once more with what was wrong. Its values are the claims."""
    expected = OutputSchema(schema)
    added: tuple[ChatMessage, ...] = opening(desk)
    problem = ""
    for _ in range(2):
        reply = await desk.talk.ask(*added, output_schema=schema, max_output_tokens=2 * MAX_ANSWER_TOKENS)
        try:
            data = msgspec.json.decode(reply.text)
        except msgspec.DecodeError as error:
            problem = f"it is no JSON ({error})"
        else:
            wrong = expected.problems(data)
            if not wrong and isinstance(data, dict):
                judgement = await judge(desk, _sentences(data), may_revise=False)
                return TaskResult(text=reply.text, data=data, claims=judgement.claims), judgement
            problem = "; ".join(wrong[:5]) or "it is no JSON object"
        added = (ChatMessage(role="user", text=f"This does not fit the schema: {problem}. Write it again."),)
    raise AnswerRefused(f"{desk.model.profile.name} gave no answer that fits the output schema: {problem}")


async def _save(desk: Desk, path: str, text: str) -> None:
    """Writes the answer into the work folder, through the ledger like every write."""
    call = ToolCall(id="save", name="write_file", arguments={"path": path, "text": text})
    await desk.talk.act(call, granted={"write_file"})


def _sentences(data: Json) -> str:
    """A JSON answer as sentences that can be checked: ``key: value.`` for every leaf."""
    lines: list[str] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name} {key}".strip(), inner)
        elif isinstance(value, list):
            for inner in value:
                walk(name, inner)
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
            lines.append(f"{name.replace('_', ' ')}: {value}")

    walk("", data)
    return "\n".join(f"- {line}" for line in lines)
