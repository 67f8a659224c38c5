"""What a front end sends: a message to begin with, or answers to what a run asks."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from ag_ui.core import ResumeEntry, RunAgentInput, TextPart, UserMessage

from collegium.domain.document import GivenFile
from collegium.domain.errors import UsageError
from collegium.domain.run import Approval
from collegium.runtime.inbox import WORDS, YES_NO
from collegium.server.access.runs import Submission

MAX_FILES: Final = 50
_YES: Final = {True: "approve", False: "reject"}


def goal(asked: RunAgentInput) -> Submission:
    """The goal: the newest message of the user, with its files, and the context that the front end gives.

    Raises ``UsageError`` where there is none, and for parts that are no text and no data.
    """
    said = next((one for one in reversed(asked.messages) if isinstance(one, UserMessage)), None)
    if said is None:
        raise UsageError("there is no message of a user: say what is wanted")
    texts, files = [], []
    for number, part in enumerate([TextPart(text=said.content)] if isinstance(said.content, str) else said.content):
        if isinstance(part, TextPart):
            texts.append(part.text)
        else:
            files.append(_file(part, number))
    if len(files) > MAX_FILES:
        raise UsageError(f"a message brings at most {MAX_FILES} files")
    texts += [f"{one.description}: {one.value}" for one in asked.context or ()]
    return Submission(goal="\n\n".join(one for one in texts if one.strip()), files=tuple(files))


def answers(entries: list[ResumeEntry], open_ones: tuple[Approval, ...]) -> list[tuple[str, str, str]]:
    """Question, answer and reason for each entry. Raises ``UsageError`` unless every open question is covered.

    Source: AG-UI 1.0, "Interrupts": all open interrupts have to be answered at once.
    """
    given = {entry.interrupt_id: entry for entry in entries}
    missing = [one.id for one in open_ones if one.id not in given]
    if missing:
        raise UsageError(f"these questions are open and have no answer here: {', '.join(missing)}")
    return [(one.id, *_word(given[one.id], one)) for one in open_ones]


def _word(entry: ResumeEntry, asked: Approval) -> tuple[str, str]:
    """The word that answers, and the reason; an entry that was abandoned rejects."""
    if entry.status == "cancelled":
        return "reject", "the front end has abandoned the question"
    payload: Any = entry.payload
    if isinstance(payload, dict):
        reason = str(payload.get("reason", ""))[:2_000]
        return _spoken(payload.get("answer", payload.get("approved")), asked), reason
    return _spoken(payload, asked), ""


def _spoken(value: Any, asked: Approval) -> str:
    if isinstance(value, bool):
        return _YES[value]
    if isinstance(value, str):
        return value
    words = " or ".join(WORDS.get(asked.request.kind, YES_NO))
    raise UsageError(f'{asked.id} is answered with a payload {{"answer": ...}}: {words}')


def _file(part: Any, number: int) -> GivenFile:
    source = part.source
    if getattr(source, "type", None) != "data":
        raise UsageError("parts that are URLs are not fetched: send the data itself")
    try:
        data = base64.b64decode(source.value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"part {number} of the message is not base64") from error
    kind = str(source.mime_type).partition("/")[2].partition("+")[0].partition(";")[0]
    suffix = {"plain": "txt", "markdown": "md"}.get(kind, kind if kind.isalnum() else "bin")
    return GivenFile(path=f"part-{number}.{suffix[:20]}", data=data)
