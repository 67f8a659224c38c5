"""Messages of A2A that come in: a goal with its files, an answer to what a run asks, or more that is wanted of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from a2a.types import Message, Part
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError

from collegium.domain.document import GivenFile
from collegium.domain.run import Approval
from collegium.runtime.inbox import WORDS, YES_NO
from collegium.server.a2a.wire import document
from collegium.server.access.runs import Submission

MAX_FILES: Final = 50


def goal(message: Message) -> Submission:
    """The goal of a message: its texts and data as one text, its files as files."""
    files: list[GivenFile] = []
    for number, part in enumerate(message.parts):
        kind = part.WhichOneof("content")
        if kind == "url":
            raise ContentTypeNotSupportedError("parts that are URLs are not fetched: send the file itself, or its text")
        if kind == "raw":
            files.append(GivenFile(path=_name(part.filename) or f"file-{number}", data=part.raw))
    if len(files) > MAX_FILES:
        raise InvalidParamsError(f"a message brings at most {MAX_FILES} files")
    return Submission(goal=text(message), files=tuple(files))


def text(message: Message) -> str:
    """What the message says; data as JSON."""
    said = [_text(part) for part in message.parts]
    return "\n\n".join(one for one in said if one)


def answer(message: Message, asked: Sequence[Approval]) -> tuple[str, str, str] | None:
    """Question, answer and reason, where the message answers one of ``asked``; None where it says something else.

    A data part ``{"approval": ..., "answer": ..., "reason": ...}`` names its question; a text that is one of the
    words, and nothing more, answers the only question there is.
    """
    for part in message.parts:
        if part.WhichOneof("content") == "data":
            given = document(part.data)
            if isinstance(given, dict) and isinstance(given.get("answer"), str):
                named = given.get("approval") or (asked[0].id if len(asked) == 1 else None)
                if not isinstance(named, str):
                    raise InvalidParamsError("several questions are open: name one with `approval`")
                return named, given["answer"], str(given.get("reason", ""))[:2_000]
    word = text(message).strip().lower()
    if any(word in WORDS.get(one.request.kind, YES_NO) for one in asked):
        if len(asked) > 1:
            raise InvalidParamsError("several questions are open: answer with a data part that names one")
        return asked[0].id, word, ""
    return None


def _text(part: Part) -> str:
    kind = part.WhichOneof("content")
    if kind == "data":
        given: Any = document(part.data)
        return json.dumps(given, ensure_ascii=False)
    return part.text if kind == "text" else ""


def _name(given: str) -> str:
    """A file's name without anything that could lead out of a folder."""
    return given.replace("\\", "/").rsplit("/", 1)[-1].strip()[:200].lstrip(".")
