"""``POST /agui``: begins or resumes a run, and streams what happens in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from ag_ui.core import BaseEvent, RunAgentInput
from ag_ui.encoder import EventEncoder
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from collegium.domain.asking import run_of
from collegium.domain.errors import AlreadyDecided, CollegiumError, NotFound, UsageError
from collegium.domain.run import RunState, fold
from collegium.server.access.access import Access
from collegium.server.agui import inbound
from collegium.server.agui.outbound import Translator
from collegium.server.agui.pieces import with_pieces
from collegium.server.caller import Authenticator, access
from collegium.server.live.change import Token
from collegium.server.problem import problem
from collegium.server.waiting import while_valid

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_ID_CHARS: Final = 500
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
_ENCODER: Final = EventEncoder()
_log = logging.getLogger("collegium.agui")


async def run_agent(request: Request) -> Response:
    """The stream of a run that is begun by a message, or resumed by answers.

    A front end that comes again with the same ``runId`` is given the same run from its beginning, never a second one.
    """
    try:
        asked = RunAgentInput.model_validate_json(await request.body())
    except ValidationError as error:
        wrong = "; ".join(f"{'/'.join(map(str, one['loc']))}: {one['msg']}"[:300] for one in error.errors()[:3])
        return problem(request, 422, "invalid_request", f"this is no RunAgentInput: {wrong}")
    for name, value in (("threadId", asked.thread_id), ("runId", asked.run_id)):
        if not 1 <= len(value) <= MAX_ID_CHARS:
            raise UsageError(f"{name} has 1 to {MAX_ID_CHARS} characters")
    caller = access(request)
    state = await (_resumed(caller, asked) if asked.resume else _begun(caller, asked))
    now = await caller.runs.state(state.id)
    told = Translator(state, thread=asked.thread_id, run=asked.run_id, known=now.seq)
    telling = _texts(caller, request.app.state.authenticator, state, told)
    return StreamingResponse(telling, media_type=_ENCODER.get_content_type(), headers=_HEADERS)


async def _begun(caller: Access, asked: RunAgentInput) -> RunState:
    """The run for the newest message, as it was at its beginning: a stream tells all of it."""
    conversation = await caller.conversations.called(asked.thread_id)
    run = await caller.conversations.submit(
        inbound.goal(asked), message=asked.run_id, conversation=conversation, alias=asked.thread_id
    )
    begun = fold(await caller.runs.events(run, limit=1))
    if begun is None:
        raise NotFound(f"there is no run {run}", run=run)
    return begun


async def _resumed(caller: Access, asked: RunAgentInput) -> RunState:
    """The run that goes on, as it was before its questions were answered."""
    entries = asked.resume or []
    runs = {run_of(entry.interrupt_id) for entry in entries}
    run = runs.pop()
    if run is None or runs:
        raise NotFound("there is no run that has asked this: an interruptId is the id of a question")
    state = await caller.runs.state(run)
    conversation = await caller.conversations.name(state)
    if conversation != await caller.conversations.called(asked.thread_id):
        raise NotFound(f"{run} does not belong to the thread {asked.thread_id[:100]}")
    for question, word, reason in inbound.answers(entries, state.open_approvals):
        with suppress(AlreadyDecided):  # somebody else was faster, or the same was sent twice: that holds
            await caller.questions.answer(question, word, reason=reason)
    return state


async def _texts(caller: Access, authenticator: Authenticator, state: RunState, told: Translator) -> AsyncIterator[str]:
    """The stream's text; whoever leaves it leaves the run as it is."""
    try:
        async with aclosing(_told(caller, authenticator, state, told)) as events:
            async for one in events:
                yield ": nothing new\n\n" if one is None else _ENCODER.encode(one)
    except CollegiumError as error:
        yield _ENCODER.encode(told.failed(error.code, error.message))
    except Exception:  # noqa: BLE001  the server's edge: the answer has begun, so that it has to say what happened
        _log.exception("a stream failed")
        sentence = "something failed in a way nobody foresaw; the server's log says what"
        yield _ENCODER.encode(told.failed("internal", sentence))


async def _told(
    caller: Access, authenticator: Authenticator, state: RunState, told: Translator
) -> AsyncGenerator[BaseEvent | None, None]:
    """The events of the stream, up to its last one; None now and then, while there is nothing."""
    for one in told.start():
        yield one
    if told.is_over():
        return
    async with (
        aclosing(while_valid(caller, authenticator, state.id, after=state.seq)) as events,
        aclosing(with_pieces(caller, state.id, events)) as happening,
    ):
        async for event in happening:
            if event is None:
                yield None
            elif isinstance(event, Token):
                yield told.say(event)
            else:
                for one in told.take(event):
                    yield one
            if told.is_over():
                return
    yield told.failed("expired", "the credentials hold no more: ask again with new ones")
