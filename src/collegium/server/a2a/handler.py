"""The handler of A2A: what its methods do with runs, with the rights of whoever asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Final, NoReturn

from a2a.server.context import ServerCallContext
from a2a.server.events.event_queue import Event as StreamEvent
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from collegium.domain import body as b
from collegium.domain.errors import (
    AlreadyDecided,
    CollegiumError,
    Conflict,
    InvalidPlan,
    NotAllowed,
    NotFound,
    UsageError,
)
from collegium.domain.event import Event
from collegium.domain.run import RunState, apply
from collegium.server.a2a import inbound, tasks
from collegium.server.a2a.card import extended_card
from collegium.server.access.access import Access
from collegium.server.waiting import until_it_rests, while_valid

MAX_WAIT_S: Final = 300.0
"""So long ``SendMessage`` waits for a run to come to rest; then the task is given as it stands."""
CANCEL_S: Final = 5.0
MOST: Final = 100
_log = logging.getLogger("collegium.a2a")


def access_of(context: ServerCallContext) -> Access:
    """What the caller may do. A tenant that is not its own is nobody's."""
    found = context.state["access"]
    if not isinstance(found, Access):
        raise InternalError("the request came without its caller")
    if context.tenant and context.tenant != found.principal.tenant:
        raise InvalidParamsError("the tenant is given by the credentials: leave it out")
    return found


class A2aHandler(RequestHandler):
    """Runs as tasks.

    Args:
        version: Of collegium, for the card.
    """

    def __init__(self, version: str) -> None:
        self._version = version

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        """The task of that id."""
        with _told():
            access = access_of(context)
            history = params.history_length if params.HasField("history_length") else None
            return await _task(access, await access.runs.state(params.id), history=history)

    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Tasks, the newest first, of one conversation or of all."""
        with _told():
            access = access_of(context)
            size = params.page_size if params.HasField("page_size") else 50
            if not 1 <= size <= MOST:
                raise InvalidParamsError(f"page_size is from 1 to {MOST}")
            states, after = await _states(access, params, size)
            history = params.history_length if params.HasField("history_length") else 0
            found = [
                await _task(access, one, history=history, has_artifacts=params.include_artifacts) for one in states
            ]
            return ListTasksResponse(tasks=found, next_page_token=after, page_size=size, total_size=len(found))

    @validate_request_params
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        """The task once it has come to rest, or at once where that is asked for."""
        with _told():
            access = access_of(context)
            run = await _accept(access, params)
            if not params.configuration.return_immediately:
                await until_it_rests(access, run, within_s=MAX_WAIT_S)
            return await _task(access, await access.runs.state(run), history=_history(params))

    @validate_request_params
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[StreamEvent, None]:
        """The task, then what changes of it until it comes to rest."""
        with _told():
            access = access_of(context)
            run = await _accept(access, params)
            state = await access.runs.state(run)
            async with aclosing(_follow(context, state, history=_history(params))) as events:
                async for event in events:
                    yield event

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[StreamEvent, None]:
        """The task as it stands, then what changes of it until it comes to rest."""
        with _told():
            access = access_of(context)
            state = await access.runs.state(params.id)
            if tasks.task_state(state) in tasks.TERMINAL:
                raise UnsupportedOperationError(f"{state.id} has ended: nothing of it will change")
            async with aclosing(_follow(context, state)) as events:
                async for event in events:
                    yield event

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        """The task after its end was asked for."""
        with _told():
            access = access_of(context)
            if (await access.runs.state(params.id)).finished is not None:
                raise TaskNotCancelableError(f"{params.id} has ended")
            await access.runs.cancel(params.id, reason="cancelled by A2A")
            await until_it_rests(access, params.id, within_s=CANCEL_S, is_end_only=True)
            return await _task(access, await access.runs.state(params.id))

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """The card with what the team can do."""
        with _told():
            return extended_card(context.state["base"], self._version, access_of(context).conversations.skills())

    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Refused: collegium has webhooks of its own."""
        _no_push()

    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Refused."""
        _no_push()

    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """Refused."""
        _no_push()

    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Refused."""
        _no_push()


async def _accept(access: Access, params: SendMessageRequest) -> str:
    """The run that a message begins, answers or adds to."""
    message = params.message
    if params.configuration.HasField("task_push_notification_config"):
        _no_push()
    if not message.task_id:
        conversation = message.context_id or None
        wanted = inbound.goal(message)
        return await access.conversations.submit(wanted, message=message.message_id, conversation=conversation)
    state = await access.runs.state(message.task_id)
    if message.context_id and message.context_id != await access.conversations.name(state):
        raise InvalidParamsError(f"{state.id} is of another context than {message.context_id[:100]}")
    if state.finished is not None:
        raise UnsupportedOperationError(f"{state.id} has ended: send a message with its contextId to ask on from it")
    answered = inbound.answer(message, state.open_approvals)
    if answered is None:
        await access.runs.say(state.id, inbound.text(message))
    else:
        question, word, reason = answered
        if question not in state.approvals:
            raise InvalidParamsError(f"{state.id} has not asked {question[:100]}")
        await access.questions.answer(question, word, reason=reason)
    return state.id


async def _states(access: Access, params: ListTasksRequest, size: int) -> tuple[list[RunState], str]:
    """A page of runs, and the token of the next."""
    wanted = params.status
    if wanted not in tasks.STATUSES:
        return [], ""
    if params.context_id:
        with suppress(NotFound):
            newest = await access.conversations.newest(params.context_id)
            chain = await access.conversations.of(newest.id)
            return [one for one in chain if not wanted or tasks.task_state(one) == wanted][:size], ""
        return [], ""
    page = await access.runs.page(statuses=tasks.STATUSES[wanted], after=params.page_token or None, limit=size)
    states = [await access.runs.state(one.run_id) for one in page.items]
    return [one for one in states if not wanted or tasks.task_state(one) == wanted], page.next or ""


async def _task(access: Access, state: RunState, *, history: int | None = None, has_artifacts: bool = True) -> Task:
    return tasks.task(state, await access.conversations.name(state), history=history, has_artifacts=has_artifacts)


async def _follow(
    call: ServerCallContext, state: RunState, *, history: int | None = None
) -> AsyncGenerator[StreamEvent, None]:
    """The task as it stands, then its changes until it has ended or asks something."""
    access = access_of(call)
    context = await access.conversations.name(state)
    yield tasks.task(state, context, history=history)
    before = tasks.task_state(state)
    if before in tasks.TERMINAL or before == TaskState.TASK_STATE_INPUT_REQUIRED:
        return
    async with aclosing(while_valid(access, call.state["authenticator"], state.id, after=state.seq)) as events:
        async for event in events:
            if event is None:
                continue
            state = apply(state, event)
            now = tasks.task_state(state)
            if now in tasks.TERMINAL and (answer := tasks.artifact(state)) is not None:
                yield TaskArtifactUpdateEvent(task_id=state.id, context_id=context, artifact=answer, last_chunk=True)
            line = _progress(state, event) if now == TaskState.TASK_STATE_WORKING else None
            if now != before or line is not None:
                told = tasks.status(state, context)
                told.timestamp.FromDatetime(event.at)
                if line is not None:
                    told.message.CopyFrom(tasks.said(state, context, line, number=event.seq))
                yield TaskStatusUpdateEvent(task_id=state.id, context_id=context, status=told)
            if now in tasks.TERMINAL or now == TaskState.TASK_STATE_INPUT_REQUIRED:
                return
            before = now
    raise InvalidRequestError("not_authenticated: the credentials hold no more: subscribe again with new ones")


def _progress(state: RunState, event: Event) -> str | None:
    """What a person is told of an event; None for nothing."""
    if event.task is None or event.task not in state.tasks:
        return None
    title = state.tasks[event.task].task.title
    if isinstance(event.body, b.TaskStarted):
        return f"{title}: {event.body.agent} has begun"
    if isinstance(event.body, b.TaskSettled):
        return f"{title}: {event.body.outcome}"
    return None


def _history(params: SendMessageRequest) -> int | None:
    given = params.configuration
    return given.history_length if given.HasField("history_length") else None


def _no_push() -> NoReturn:
    raise PushNotificationNotSupportedError("there are no push notifications here: webhooks are made at /v1/webhooks")


@contextmanager
def _told() -> Iterator[None]:
    """Turns errors into those of A2A; what nobody foresaw is logged and not shown."""
    try:
        yield
    except (A2AError, asyncio.CancelledError, GeneratorExit):
        raise
    except NotFound as error:
        raise TaskNotFoundError(error.message) from error
    except (UsageError, InvalidPlan) as error:
        raise InvalidParamsError(error.message) from error
    except (NotAllowed, AlreadyDecided, Conflict) as error:
        raise InvalidRequestError(f"{error.code}: {error.message}") from error
    except CollegiumError as error:
        raise InternalError(f"{error.code}: {error.message}") from error
    except Exception as error:
        _log.exception("a request failed")
        raise InternalError("something failed in a way nobody foresaw; the server's log says what") from error
