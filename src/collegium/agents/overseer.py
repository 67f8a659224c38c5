"""The overseer: nothing is handed out before every claim of it was held against the evidence."""

from __future__ import annotations

import msgspec

from collegium.agents import recall
from collegium.agents.colleagues import places
from collegium.agents.desk import Desk
from collegium.domain.body import ApprovalRequested
from collegium.domain.document import Chunk
from collegium.domain.errors import CollegiumError, NotFound
from collegium.domain.policy import Claim, Judgement
from collegium.domain.result import TaskResult
from collegium.oversight import grounding
from collegium.tools.builtin.team import ASK
from collegium.tools.canonical import arguments_sha256


class Escalated(CollegiumError):
    """A person has to say whether an answer is handed out that the evidence does not bear out."""

    code = "escalated"

    def __init__(self, request: ApprovalRequested, judgement: Judgement) -> None:
        super().__init__(request.question)
        self.requests = (request,)
        self.judgement = judgement


class Rejected(CollegiumError):
    """A person did not accept an answer."""

    code = "rejected"


async def judge(desk: Desk, text: str, *, may_revise: bool) -> Judgement:
    """A claim for each sentence of ``text``, with its verdict and the places that bear it out.

    With ``may_revise`` an answer with unsupported or contradicted sentences is sent back; without, it is accepted with
    those verdicts, for the writer to replace or mark.
    """
    claims = await grounding.check(text, evidence(desk), desk.scorer)
    return _judgement(desk, claims, may_revise=may_revise)


async def verify_quotes(desk: Desk, claims: tuple[Claim, ...]) -> Judgement:
    """The judgement of an answer that was taken from its sources: each quote is looked up at its offsets."""
    checked: list[Claim] = []
    for claim in claims:
        kept = tuple([c for c in claim.citations if await _is_there(desk, c.document, c.start, c.end, c.quote)])
        if len(kept) == len(claim.citations):
            checked.append(claim)
        else:
            checked.append(msgspec.structs.replace(claim, citations=kept, verdict="unsupported", score=0.0))
    return _judgement(desk, tuple(checked), may_revise=False)


def evidence(desk: Desk) -> tuple[Chunk, ...]:
    """What claims may rest on: the passages the task was handed, and what its own tool calls gave.

    What a colleague says bears nothing out, only the places in documents that it rests on.
    """
    said = {t.name for t in desk.tools if t.is_team}
    finished = [f for turn in desk.talk.turns for _, f in sorted(turn.finished.items()) if f.tool in said]
    shown = [chunk for f in finished if f.tool == ASK for chunk in places(f.result.data)]
    results = tuple(
        Chunk(
            id=f"{desk.task.id}/{turn.proposed.step}/{index}",
            document=f"tool:{finished.tool}",
            sha256="",
            start=0,
            end=len(finished.result.text),
            text=finished.result.text,
        )
        for turn in desk.talk.turns
        for index, finished in sorted(turn.finished.items())
        # What was looked at again is evidence once, under the name of the tool that gave it.
        if finished.result.is_ok and finished.result.text and finished.tool not in {recall.NAME, *said}
    )
    return (*(e.chunk for e in desk.evidence), *shown, *results)


def escalate(desk: Desk, result: TaskResult, judgement: Judgement) -> None:
    """Asks a person about an answer with sentences that nothing bears out, where that is wished.

    Raises ``Escalated`` as long as nobody has answered on exactly this answer, ``Rejected`` when it was turned down.
    """
    bad = [c for c in judgement.claims if c.verdict in ("unsupported", "contradicted")]
    if not bad or not desk.approvals.is_escalating:
        return
    arguments = {"answer": result.text, "claims": [{"text": c.text, "verdict": c.verdict} for c in bad]}
    sha256 = arguments_sha256(arguments)
    answer = desk.verdicts.get(sha256)
    if answer is None:
        count = f"{len(bad)} sentences" if len(bad) > 1 else "a sentence"
        request = ApprovalRequested(
            approval="",
            kind="verdict",
            question=f"Hand out an answer with {count} that the evidence does not bear out?",
            arguments=arguments,
            arguments_sha256=sha256,
        )
        request = desk.approvals.addressed(request, desk.clock.now())
        raise Escalated(request, msgspec.structs.replace(judgement, decision="escalate"))
    if answer.answer != "approve":
        because = f": {answer.reason}" if answer.reason else ""
        raise Rejected(f"{answer.principal} did not accept the answer{because}")


def _judgement(desk: Desk, claims: tuple[Claim, ...], *, may_revise: bool) -> Judgement:
    bad = [c for c in claims if c.verdict in ("unsupported", "contradicted")]
    return Judgement(
        decision="revise" if bad and may_revise else "accept",
        claims=claims,
        scorer=desk.scorer.name,
        reasons=tuple(f"{c.verdict}: {c.text}" for c in bad),
    )


async def _is_there(desk: Desk, document: str, start: int, end: int, quote: str) -> bool:
    try:
        return (await desk.retriever.text(document))[start:end] == quote
    except NotFound:
        return False
