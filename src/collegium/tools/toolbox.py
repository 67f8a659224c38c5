"""The tools that exist, who may call which, and the one door through which they are called."""

from __future__ import annotations

import copy
import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from collegium.domain.chat import ToolCall
from collegium.domain.errors import ToolError, UnknownName, UsageError
from collegium.domain.redaction import Redactor
from collegium.domain.tool import ToolDefinition, ToolResult
from collegium.tools.context import ToolContext
from collegium.tools.definition import Tool
from collegium.tools.outcome import Reconciled, error_result


class AdmittedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is granted and whose arguments fit. Next: the intent (for writes), then ``Toolbox.run``."""

    call: ToolCall
    definition: ToolDefinition
    bound: dict[str, Any]


class Toolbox:
    """Tools by name.

    A grant is the name of a tool; which names an agent and a task are granted is decided elsewhere, that
    nothing else is called is decided here and only here.
    """

    def __init__(self, tools: Iterable[Tool] = (), *, redactor: Redactor | None = None) -> None:
        """Holds ``tools``. Raises ``UsageError`` when two of them have the same name.

        ``redactor`` takes the secrets of the installation out of whatever a tool gives, before it is stored or shown to
        a model: a tool may print its environment.
        """
        self.redactor = redactor or Redactor()
        self._denied: Mapping[str, str] = {}
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            name = tool.definition.name
            if name in self._tools:
                raise UsageError(f"there are two tools named {name!r}: rename one (name=... of @tool)", tool=name)
            self._tools[name] = tool

    def extended(self, *tools: Tool) -> Toolbox:
        """A toolbox with ``tools`` beside these; a tool that is here already keeps its name."""
        extended = Toolbox(redactor=self.redactor)
        extended._tools = {**{t.definition.name: t for t in tools}, **self._tools}
        extended._denied = self._denied
        return extended

    def narrowed(self, scopes: Collection[str]) -> Toolbox:
        """The same for somebody who has these rights: tools that take another are neither granted nor called."""
        denied = {
            name: t.definition.scope
            for name, t in self._tools.items()
            if t.definition.scope and t.definition.scope not in scopes
        }
        if not denied:
            return self
        narrowed = copy.copy(self)
        narrowed._denied = denied  # noqa: SLF001 - of its own class
        return narrowed

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """All definitions, by name."""
        return tuple(self._tools[name].definition for name in sorted(self._tools))

    def matching(self, patterns: Iterable[str]) -> frozenset[str]:
        """The names a grant stands for: names themselves, and patterns with ``*`` (``*`` alone is every tool).

        Tools that reach colleagues are granted by their names alone.

        Raises:
            UnknownName: A name without ``*`` that no tool has. A pattern may match nothing.
        """
        names: set[str] = set()
        for pattern in patterns:
            if "*" in pattern:
                names.update(n for n in fnmatch.filter(self._tools, pattern) if not self._tools[n].definition.is_team)
            else:
                names.add(self._find(pattern).definition.name)
        return frozenset(names)

    def granted(self, names: Iterable[str]) -> tuple[ToolDefinition, ...]:
        """The definitions of ``names``, sorted by name: the same grant always makes the same prompt.

        Those are left out that take a right which is not there.

        Raises:
            UnknownName: A grant names a tool that does not exist.
        """
        return tuple(self._find(name).definition for name in sorted(set(names) - self._denied.keys()))

    def admit(self, call: ToolCall, *, granted: Collection[str]) -> AdmittedCall:
        """Checks ``call`` before anything is written or done about it.

        Raises:
            ToolError: There is no such tool, it is not granted, or the arguments do not fit. The text is for
                the model and names only tools it may call. With the field ``scope``: for want of that right.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            near = difflib.get_close_matches(call.name, granted, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else _may_call(granted)
            raise ToolError(f"there is no tool {call.name!r}; {hint}", tool=call.name)
        if (scope := self._denied.get(call.name)) is not None:
            text = f"{call.name} was not called: it takes the right {scope}, which is not granted here"
            raise ToolError(f"{text}; {_may_call(granted)}", tool=call.name, scope=scope)
        if call.name not in granted:
            raise ToolError(f"{call.name} is not granted to this task; {_may_call(granted)}", tool=call.name)
        return AdmittedCall(call=call, definition=tool.definition, bound=tool.bind(call.arguments))

    async def run(self, admitted: AdmittedCall, context: ToolContext) -> ToolResult:
        """Calls the tool; for a write the intent is durable by now.

        Raises:
            OutcomeUnknown: A ``write`` was begun and nobody can say whether it fired.
            CollegiumError: The house itself failed; see ``FunctionTool.run``.
        """
        return self._redacted(await self._tools[admitted.call.name].run(admitted.bound, context))

    async def call(self, call: ToolCall, *, granted: Collection[str], context: ToolContext) -> ToolResult:
        """``admit`` and ``run`` in one, for what needs no intent; a refused call is a failed result."""
        try:
            admitted = self.admit(call, granted=granted)
        except ToolError as error:
            return error_result(error, tool=call.name)
        return await self.run(admitted, context)

    async def reconcile(self, name: str, key: str, context: ToolContext) -> Reconciled:
        """What became of the write ``key`` of the tool ``name``; ``unknown`` for a tool that is gone."""
        tool = self._tools.get(name)
        if tool is None:
            return Reconciled(state="unknown", detail=f"there is no tool {name!r} any more")
        reconciled = await tool.reconcile(key, context)
        if reconciled.result is None:
            return reconciled
        return msgspec.structs.replace(reconciled, result=self._redacted(reconciled.result))

    def _redacted(self, result: ToolResult) -> ToolResult:
        text, data = self.redactor.own(result.text), self.redactor.value(result.data)
        if text == result.text and data == result.data:
            return result
        return msgspec.structs.replace(result, text=text, data=data)

    def _find(self, name: str) -> Tool:
        if name not in self._tools:
            near = difflib.get_close_matches(name, self._tools, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(self._tools))}"
            raise UnknownName(f"there is no tool {name!r}; {hint}", tool=name)
        return self._tools[name]


def _may_call(granted: Collection[str]) -> str:
    return f"you may call {', '.join(sorted(granted))}" if granted else "you may call no tools: answer without"
