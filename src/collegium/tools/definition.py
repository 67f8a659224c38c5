"""Makes tools of typed functions."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Final, Protocol, get_args

import msgspec

from collegium.domain.chat import Json
from collegium.domain.errors import ToolError, UsageError
from collegium.domain.principal import SCOPES
from collegium.domain.tool import Effect, ToolDefinition, ToolResult
from collegium.tools.context import ToolContext
from collegium.tools.invocation import Gave, Late, invoke
from collegium.tools.outcome import LIMIT_BYTES, OutcomeUnknown, Reconciled, error_result, result_of, said_by
from collegium.tools.signature import Signature
from collegium.tools.thread import Threads

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")


class Tool(Protocol):
    """What a toolbox holds, whatever stands behind it."""

    @property
    def definition(self) -> ToolDefinition:
        """What is known of the tool; never changes."""
        ...

    def bind(self, arguments: Json) -> dict[str, Any]:
        """The checked arguments, as ``run`` takes them. Raises ``ToolError`` with a text for the model."""
        ...

    async def run(self, bound: dict[str, Any], context: ToolContext) -> ToolResult:
        """Calls the tool with arguments from ``bind``."""
        ...

    async def reconcile(self, key: str, context: ToolContext) -> Reconciled:
        """What became of the ``write`` with this key."""
        ...


class FunctionTool:
    """A typed function with all a model and the ledger must know of it; made by ``tool``.

    Attributes:
        definition: Name, description, schema, effect, version.
        function: The function itself, for its own tests.
    """

    def __init__(
        self,
        function: Callable[..., object],
        definition: ToolDefinition,
        *,
        signature: Signature,
        reconcile: Callable[..., object] | None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.definition = definition
        self.function = function
        self._signature = signature
        self._reconcile = reconcile
        self._limit_bytes = limit_bytes
        self._threads = Threads()

    def __repr__(self) -> str:
        return f"<FunctionTool {self.definition.name} {self.definition.effect} {self.definition.version[:8]}>"

    def taking(self, scope: str) -> FunctionTool:
        """The same tool, for those alone that have the right ``scope``: it is no part of the version."""
        narrowed = copy.copy(self)
        narrowed.definition = msgspec.structs.replace(self.definition, scope=_checked(self.definition.name, scope))
        return narrowed

    def bind(self, arguments: Json) -> dict[str, Any]:
        """The arguments converted to the function's types. Raises ``ToolError`` with a text for the model."""
        return self._signature.bind(arguments)

    async def call(self, arguments: Json, context: ToolContext) -> ToolResult:
        """``bind`` and ``run`` in one; arguments that do not fit give a failed result."""
        try:
            bound = self.bind(arguments)
        except ToolError as error:
            return error_result(error, tool=self.definition.name)
        return await self.run(bound, context)

    async def run(self, bound: dict[str, Any], context: ToolContext) -> ToolResult:
        """What the function gave, within ``timeout_s``, as a result of bounded size.

        A ``ToolError`` is the tool's own word that nothing was done: a failed result. So is anything else it raises,
        ``SystemExit`` and its like included, and the end of the time, except for ``write``: there nobody knows whether
        it fired. A synchronous function runs in a thread, which goes on after a timeout, because a thread cannot be
        stopped.

        Raises:
            OutcomeUnknown: A ``write`` was begun and ended in anything but a return value or a ``ToolError``.
            CollegiumError: The house itself failed (a store, a limit, a model): not for the agent.
        """
        name, timeout_s = self.definition.name, self.definition.timeout_s
        if self._signature.context_parameter is not None:
            bound = {**bound, self._signature.context_parameter: context}
        outcome = await invoke(self.function, bound, name=name, timeout_s=timeout_s, threads=self._threads)
        if isinstance(outcome, Gave):
            is_done = self.definition.effect in ("write", "idempotent_write")
            return result_of(outcome.value, tool=name, limit_bytes=self._limit_bytes, is_done=is_done)
        if isinstance(outcome, Late):
            error: BaseException = ToolError(
                f"{name} gave no result within {timeout_s:g} s; it was stopped or left behind"
            )
            reason = f"ToolError: {error}"
        else:
            error = outcome.error
            if isinstance(error, ToolError):
                return error_result(error, tool=name)
            reason = f"{type(error).__name__}: {said_by(error)}"
        if self.definition.effect == "write":
            text = f"{name} was begun and it is not known whether it took effect: {reason}"
            raise OutcomeUnknown(text, tool=name, key=context.key) from error
        return error_result(error, tool=name)

    async def reconcile(self, key: str, context: ToolContext) -> Reconciled:
        """What became of the call with ``key``; ``unknown`` where there is nobody to ask, or no answer."""
        name, timeout_s = self.definition.name, self.definition.timeout_s
        if self._reconcile is None:
            return Reconciled(state="unknown", detail=f"{name} has no reconcile function")
        asked = {"key": key, "context": context}
        outcome = await invoke(self._reconcile, asked, name=name, timeout_s=timeout_s, threads=self._threads)
        if isinstance(outcome, Late):
            return Reconciled(state="unknown", detail=f"asking {name} took more than {timeout_s:g} s")
        if not isinstance(outcome, Gave):
            why = f"{type(outcome.error).__name__}: {said_by(outcome.error)}"
            return Reconciled(state="unknown", detail=f"asking {name} failed: {why}")
        answer = outcome.value
        if not isinstance(answer, Reconciled):
            return Reconciled(state="unknown", detail=f"{name} answered with a {type(answer).__name__}")
        return answer


def tool(
    *,
    effect: Effect,
    capabilities: Sequence[str] = (),
    timeout_s: float = 30.0,
    name: str | None = None,
    limit_bytes: int = LIMIT_BYTES,
    reconcile: Callable[..., object] | None = None,
    asks: bool = False,
    is_team: bool = False,
    scope: str = "",
) -> Callable[[Callable[..., object]], FunctionTool]:
    """Makes a ``FunctionTool`` of a typed function, synchronous or not.

    The parameters' types make the JSON Schema, the docstring's ``Args:`` its descriptions, the docstring's
    text up to the first section the tool's description. A parameter annotated ``ToolContext`` is filled in
    and is no part of the schema. The version is a hash of name, description, schema, effect and source text:
    of this function, not of what it calls.

    Args:
        effect: What calling it does: ``pure``, ``read``, ``idempotent_write`` (only where the far side
            deduplicates by ``context.key``, or where doing it twice is doing it once), ``write``.
        capabilities: The kinds of task it is meant for.
        timeout_s: How long a call may take.
        name: What models call it; the function's name by default.
        limit_bytes: How much of what a call gives is kept; the rest is cut off, and the result says so.
        reconcile: For ``write`` only: ``reconcile(key, context) -> Reconciled``, asked after a crash what
            became of a call.
        asks: Whether a person has to allow every call.
        is_team: Whether it reaches colleagues: it is granted by its name only.
        scope: The right that whoever asks for a run has to have; nobody else's agents are shown the tool.

    Raises:
        UsageError: The function or one of these values cannot make a tool: what, which, what to do.
    """

    def make(function: Callable[..., object]) -> FunctionTool:
        called = name if name is not None else getattr(function, "__name__", "")
        _check(called, function, effect=effect, timeout_s=timeout_s, reconcile=reconcile)
        if limit_bytes < 1:
            raise UsageError(f"tool {called!r} has limit_bytes={limit_bytes}: give a number of bytes above 0")
        signature = Signature(function, tool=called)
        description = signature.description or called.replace("_", " ")
        definition = ToolDefinition(
            name=called,
            description=description,
            parameters=signature.schema,
            effect=effect,
            version=_version(called, description, signature.schema, effect, _source(function)),
            capabilities=tuple(capabilities),
            timeout_s=timeout_s,
            asks=asks,
            is_team=is_team,
            scope=_checked(called, scope),
        )
        return FunctionTool(function, definition, signature=signature, reconcile=reconcile, limit_bytes=limit_bytes)

    return make


def _check(
    name: str,
    function: Callable[..., object],
    *,
    effect: Effect,
    timeout_s: float,
    reconcile: Callable[..., object] | None,
) -> None:
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is no tool name: a letter, then up to 63 letters, digits, _ or -; give name=...")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise UsageError(f"the function of tool {name!r} is a generator: return one value instead of yielding")
    if effect not in get_args(Effect):
        raise UsageError(f"tool {name!r} has the effect {effect!r}; there are {', '.join(get_args(Effect))}")
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise UsageError(f"tool {name!r} has timeout_s={timeout_s}: give a number of seconds above 0")
    if reconcile is not None and effect != "write":
        raise UsageError(f"tool {name!r} is {effect}: only a write is reconciled, the others simply run again")


def _checked(name: str, scope: str) -> str:
    if scope and scope not in SCOPES:
        raise UsageError(f"tool {name!r} takes the scope {scope!r}; there are {', '.join(sorted(SCOPES))}")
    return scope


def _version(name: str, description: str, schema: Json, effect: Effect, source: str) -> str:
    encoded = msgspec.json.encode((name, description, schema, effect, source), order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]


def _source(function: Callable[..., object]) -> str:
    """The source text; where there is none (a shell, ``exec``), what it was compiled to."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return "" if code is None else _compiled(code)


def _compiled(code: CodeType) -> str:
    """Instructions, names and constants, written the same in every process: no addresses, no order of sets."""
    constants = []
    for value in code.co_consts:
        if isinstance(value, CodeType):
            constants.append(_compiled(value))
        else:
            constants.append(repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value))
    return f"{code.co_code.hex()} {constants} {code.co_names!r}"
