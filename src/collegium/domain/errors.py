"""Every error collegium raises on purpose.

::

    CollegiumError
    |-- UsageError                 wrong use or configuration            exit 2
    |   |-- UnknownName            a model, agent, tool, run ... that does not exist
    |   |-- MissingExtra           an optional dependency is not installed
    |   |-- MissingKey             a provider's key is not set
    |   |-- UnreadableInput        a file that cannot be taken
    |   |-- KeyReused              an idempotency key that was used for something else
    |   |-- WrongState             it could be done at another time, as things stand it cannot
    |   `-- TooLarge               more than is taken in
    |-- InvalidPlan                a plan that may not run
    |-- Conflict                   somebody else decided first: reload and decide again
    |   |-- Changed                it is not any more what the caller has seen
    |   `-- InProgress             the same request is still being answered
    |-- AlreadyDecided             a question that was answered, or is no longer open
    |-- NotAllowed                 somebody else has to do this
    |-- NotAuthenticated           nobody knows who asks
    |-- IdentityUnavailable        the identity provider does not answer
    |-- RateLimited                too much in too short a time: later
    |-- Fenced                     the attempt was taken over or is closed
    |-- LimitReached               a cap holds before the call            exit 4
    |-- NotFound                   a blob, record or document that is gone
    |   `-- Erased                 the key that it was encrypted with was destroyed
    |-- TopicFull                  too many messages wait: publish later
    |-- StoreError                 a store did not do what was asked      exit 5
    |   |-- StoreUnavailable       it cannot be reached or is busy
    |   |-- StoreFull              no space left
    |   |-- StoreReadOnly          it may not be written
    |   `-- StoreCorrupt           what was read is not what was written
    |-- TimedOut                   an attempt took longer than its task may
    |-- InternalFault              an agent or tool failed in a way nobody foresaw
    |-- ToolError                  a tool call that did not succeed
    `-- ModelError                 a model call that did not succeed
        |-- ModelUnavailable       timeout, connection, 5xx               exit 5
        |-- ModelRateLimited       429, 529
        |-- ModelAuthError         the key is refused                     exit 2
        |-- ModelNotFound          the server does not know the model     exit 2
        |-- ModelRequestError      the request itself is refused
        |-- ContextTooLong         the request does not fit the model
        |-- ModelReplyError        the reply makes no sense
        `-- AnswerRefused            asked again, and still not what was asked for

Each class has a stable ``code``; ``retryable`` says whether the same call may succeed later. The text names what,
which,
the number, the cap and the next act. ``EXIT_CODES`` and ``HTTP_STATUS`` map classes to the faces of the system.
"""

from __future__ import annotations

from collegium.domain.redaction import masked


class CollegiumError(Exception):
    """The root: ``str(error)`` is a sentence for a person, ``fields`` are for a program."""

    code = "error"
    retryable = False

    def __init__(self, message: str, **fields: object) -> None:
        message = masked(message)  # errors go into logs, answers and journals, and what they quote is foreign
        super().__init__(message)
        self.message = message
        self.fields = fields


class UsageError(CollegiumError):
    """The caller asked for something that cannot be done as asked."""

    code = "usage"


class WrongState(UsageError):
    """It cannot be done as things stand: what it is to be done to has ended, goes on, or is there already."""

    code = "wrong_state"


class UnknownName(UsageError):
    """A name that nothing answers to."""

    code = "unknown_name"


class MissingExtra(UsageError):
    """An optional dependency is needed and not installed."""

    code = "missing_extra"


class MissingKey(UsageError):
    """A provider is asked for and its key is not set."""

    code = "missing_key"


class UnreadableInput(UsageError):
    """A file that cannot be taken as input."""

    code = "unreadable_input"


class KeyReused(UsageError):
    """The idempotency key was used for a request that said something else."""

    code = "key_reused"


class TooLarge(UsageError):
    """What was sent is larger than what is taken in."""

    code = "too_large"


class InvalidPlan(CollegiumError):
    """A plan that may not run; ``problems`` lists every reason."""

    code = "invalid_plan"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("the plan cannot run: " + "; ".join(problems), problems=problems)
        self.problems = problems


class Conflict(CollegiumError):
    """The run's last deciding event is not the expected one."""

    code = "conflict"
    retryable = True


class Changed(Conflict):
    """What the caller has seen and goes by (its ``ETag``) has changed since."""

    code = "changed"


class InProgress(Conflict):
    """A request with the same idempotency key is still being answered."""

    code = "in_progress"


class AlreadyDecided(CollegiumError):
    """The question was answered, its time is over, or its run has ended; the text says by whom, when and what."""

    code = "already_decided"


class TopicFull(CollegiumError):
    """So much waits on the topic that no more is taken: consumers are too slow, or there are none."""

    code = "topic_full"
    retryable = True


class NotAllowed(CollegiumError):
    """This person may not do what they asked for; somebody else may."""

    code = "not_allowed"


class NotAuthenticated(CollegiumError):
    """No credentials, or none that hold: unknown, expired, revoked, forged."""

    code = "not_authenticated"


class IdentityUnavailable(CollegiumError):
    """Who asks cannot be told now: the identity provider does not answer."""

    code = "identity_unavailable"
    retryable = True


class RateLimited(CollegiumError):
    """So much is not taken in such a time; ``retry_after_s`` says when it will be."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float, **fields: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **fields)
        self.retry_after_s = retry_after_s


class Fenced(CollegiumError):
    """The attempt is no longer the newest of its task, or is closed."""

    code = "fenced"


class LimitReached(CollegiumError):
    """A reservation does not fit what is left of a limit."""

    code = "limited"


class NotFound(CollegiumError):
    """What the id names is not in the store."""

    code = "not_found"


class Erased(NotFound):
    """It is there, encrypted, and the key was destroyed: nobody reads it any more."""

    code = "erased"


class StoreError(CollegiumError):
    """A store did not do what was asked."""

    code = "store"


class StoreUnavailable(StoreError):
    """The store cannot be reached, is busy or is closed."""

    code = "store_unavailable"
    retryable = True


class StoreFull(StoreError):
    """The store's disk has no space left; nothing that was acknowledged is lost."""

    code = "store_full"
    retryable = True


class StoreReadOnly(StoreError):
    """The store may be read, not written."""

    code = "store_read_only"


class StoreCorrupt(StoreError):
    """What was read is not what was written, or is of a newer version than this code."""

    code = "store_corrupt"


class TimedOut(CollegiumError):
    """Something took longer than it may take: an attempt, or an answer."""

    code = "timeout"
    retryable = True


class InternalFault(CollegiumError):
    """Something failed in a way nobody foresaw; the log has the traceback."""

    code = "internal"


class ToolError(CollegiumError):
    """A tool call that did not succeed; the text goes back to the agent."""

    code = "tool"


class ModelError(CollegiumError):
    """A model call that did not succeed."""

    code = "model"


class ModelUnavailable(ModelError):
    """The model's server timed out, refused the connection or answered 5xx."""

    code = "model_unavailable"
    retryable = True


class ModelRateLimited(ModelError):
    """The provider asks to slow down; ``retry_after_s`` is its own word or None."""

    code = "model_rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **fields: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **fields)
        self.retry_after_s = retry_after_s


class ModelAuthError(ModelError):
    """The provider refuses the key."""

    code = "model_auth"


class ModelNotFound(ModelError):
    """The server does not know the model."""

    code = "model_not_found"


class ModelRequestError(ModelError):
    """The provider refuses the request itself; the same request will be refused again."""

    code = "model_request"


class ContextTooLong(ModelRequestError):
    """The request does not fit the model's context."""

    code = "context_too_long"


class ModelReplyError(ModelError):
    """The reply cannot be read: not JSON, cut off, or without any content."""

    code = "model_reply"
    retryable = True


class AnswerRefused(ModelError):
    """What the model wrote, asked again with what was wrong, still does not satisfy what was asked for.

    Both replies are recorded, so that another attempt would only read them again.
    """

    code = "answer_refused"


EXIT_CODES: dict[type[CollegiumError], int] = {
    UsageError: 2,
    InvalidPlan: 2,
    ModelAuthError: 2,
    ModelNotFound: 2,
    LimitReached: 4,
    StoreError: 5,
    ModelUnavailable: 5,
    ModelRateLimited: 5,
    CollegiumError: 1,
}
"""Exit code of a command that ends with the error: the entry of the nearest class in its ``__mro__``."""

HTTP_STATUS: dict[type[CollegiumError], int] = {
    KeyReused: 422,
    TooLarge: 413,
    WrongState: 409,
    UsageError: 400,
    InvalidPlan: 422,
    NotFound: 404,
    Erased: 410,
    Changed: 412,
    Conflict: 409,
    AlreadyDecided: 409,
    NotAllowed: 403,
    NotAuthenticated: 401,
    IdentityUnavailable: 503,
    RateLimited: 429,
    TopicFull: 503,
    Fenced: 409,
    LimitReached: 402,
    StoreError: 503,
    ModelUnavailable: 503,
    ModelRateLimited: 503,
    CollegiumError: 500,
}
"""Status of an HTTP reply that ends with the error, found like ``EXIT_CODES``."""


def is_retryable(code: str) -> bool:
    """Whether errors with this code may succeed when the same is tried again."""
    return code in _RETRYABLE


def _all(root: type[CollegiumError]) -> list[type[CollegiumError]]:
    return [root, *(c for child in root.__subclasses__() for c in _all(child))]


_RETRYABLE = frozenset(c.code for c in _all(CollegiumError) if c.retryable)


def exit_code(error: BaseException) -> int:
    """The process exit code for ``error``: 1 for anything that is not of the tree."""
    return next((EXIT_CODES[c] for c in type(error).__mro__ if c in EXIT_CODES), 1)
