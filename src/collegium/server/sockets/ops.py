"""What is said over a socket: by the client, and what it is told."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from collegium.domain.errors import HTTP_STATUS, CollegiumError, UsageError
from collegium.domain.redaction import masked
from collegium.server.access.access import Access

MAX_CHARS: Final = 64 * 1024
MAX_TOPICS: Final = 100
"""So many topics one socket may look at."""
Id = str | int | None


class Op(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """Something that the client asks for; the answer has the same ``id``."""

    id: Id = None


class Authenticate(Op, frozen=True, kw_only=True, tag="authenticate"):
    """Who asks: the first thing that is said where the handshake did not."""

    token: str


class Subscribe(Op, frozen=True, kw_only=True, tag="subscribe"):
    """Look at topics; ``after`` is the number of the last event that is known already."""

    topics: list[str]
    after: int = 0


class Unsubscribe(Op, frozen=True, kw_only=True, tag="unsubscribe"):
    """Look at topics no more."""

    topics: list[str]


class Ping(Op, frozen=True, kw_only=True, tag="ping"):
    """Is anybody there?"""


class Cancel(Op, frozen=True, kw_only=True, tag="cancel"):
    """Ask for the end of a run."""

    run: str
    reason: str = ""


class Answer(Op, frozen=True, kw_only=True, tag="answer"):
    """Answer a question."""

    approval: str
    answer: str
    reason: str = ""


class Approve(Op, frozen=True, kw_only=True, tag="approve"):
    """Answer a question with yes."""

    approval: str
    reason: str = ""


class Say(Op, frozen=True, kw_only=True, tag="say"):
    """Add to what is wanted of a run."""

    run: str
    text: str


Command = Cancel | Answer | Approve | Say
AnyOp = Authenticate | Subscribe | Unsubscribe | Ping | Command
_DECODER: Final = msgspec.json.Decoder(AnyOp)
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


def parse(text: str) -> AnyOp:
    """What the client asks for. Raises ``UsageError``."""
    if len(text) > MAX_CHARS:
        raise UsageError(f"a message has at most {MAX_CHARS:,} characters, this one has {len(text):,}")
    try:
        op: AnyOp = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError(f"this is no message that is understood here: {str(error)[:300]}") from error
    return op


async def carry_out(command: Command, caller: Access) -> str:
    """Does what is asked, as the same request over HTTP would; the id of the run. Raises ``CollegiumError``."""
    match command:
        case Cancel(run=run, reason=reason):
            await caller.runs.cancel(run, reason=reason)
            return run
        case Answer(approval=approval, answer=word, reason=reason):
            return await caller.questions.answer(approval, word, reason=reason)
        case Approve(approval=approval, reason=reason):
            return await caller.questions.answer(approval, "approve", reason=reason)
        case Say(run=run, text=text):
            await caller.runs.say(run, text)
            return run


def told(type_: Literal["ok", "pong", "end", "resync", "welcome"], **fields: Any) -> str:
    """A message to the client."""
    return _ENCODER.encode({"type": type_, **fields}).decode()


def refused(error: CollegiumError, id_: Id = None, *, topic: str | None = None) -> str:
    """Why something was not done, as over HTTP: a problem."""
    status = next(HTTP_STATUS[c] for c in type(error).__mro__ if c in HTTP_STATUS)
    about = {} if topic is None else {"topic": topic}
    problem = {"status": status, "code": error.code, "detail": masked(error.message)}
    return _ENCODER.encode({"type": "problem", "id": id_, **about, "problem": problem}).decode()
