"""The far side: what tools change outside the store, and the tools that do it.

Effects are kept in files that outlive every process: ``calls.jsonl`` is appended to with ``O_APPEND`` and fsynced; for
the far side that knows keys, one file per key is made with ``link``, which is one step for the kernel whatever dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from collegium.domain.errors import ToolError
from collegium.domain.tool import ToolResult
from collegium.tools.context import ToolContext
from collegium.tools.definition import FunctionTool, tool
from collegium.tools.outcome import Reconciled

TIMEOUT_S = 1.0
PAUSE_S = 0.06
"""Before and after an effect, at most: so that kills fall on both sides of it."""
KeyState = Literal["fired", "void"]
Call = dict[str, str]
"""``what``, ``key``, ``label`` and ``tool`` of something that happens at the far side."""


class FarSide:
    """The files of one trial; any number of processes may use them at once."""

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls.jsonl"
        self._keys = folder / "keys"
        self._keys.mkdir(parents=True, exist_ok=True)

    def append(self, what: str, key: str | None, label: str, tool_name: str) -> None:
        """Writes one line, durably: what came of a call."""
        line = {"what": what, "key": key, "label": label, "tool": tool_name, "at": time.time(), "pid": os.getpid()}
        descriptor = os.open(self._calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mark(self, key: str, state: KeyState, label: str = "") -> KeyState | None:
        """Gives ``key`` its state for good; None when it took, otherwise the state it had already."""
        hidden = self._keys / f".{os.getpid()}.{random.getrandbits(64):x}"
        hidden.write_text(json.dumps({"state": state, "label": label, "at": time.time()}))
        try:
            os.link(hidden, self._keys / key)
        except FileExistsError:
            return self.state(key)
        finally:
            hidden.unlink()
        return None

    def state(self, key: str) -> KeyState | None:
        """What became of ``key``."""
        try:
            return json.loads((self._keys / key).read_text())["state"]
        except FileNotFoundError:
            return None

    def calls(self) -> Iterator[dict[str, Any]]:
        """The lines of all calls, in order."""
        if self._calls.exists():
            with self._calls.open() as lines:
                yield from (json.loads(line) for line in lines)

    def marks(self) -> dict[str, dict[str, Any]]:
        """State and label of every key that was marked."""
        return {p.name: json.loads(p.read_text()) for p in self._keys.iterdir() if not p.name.startswith(".")}


def chaos_tools(far: FarSide, *, on_effect: Callable[[Call], None] | None = None) -> tuple[FunctionTool, ...]:
    """One tool of each kind of effect; ``checked`` and ``again`` talk to a far side that knows keys.

    ``on_effect`` is told of each effect before it happens.
    """
    tell = on_effect or (lambda _: None)

    def told(what: str, key: str | None, label: str, name: str) -> None:
        tell({"what": what, "key": key or "", "label": label, "tool": name})

    async def pause() -> None:
        await asyncio.sleep(random.random() * PAUSE_S)

    def answer(key: str, context: ToolContext) -> Reconciled:
        if far.state(key) == "fired":
            return Reconciled(state="done", result=ToolResult(text="It was done before."))
        # One far side in three cannot take a key back: what it has not seen may still come.
        if int(key[-2:], 16) % 3 == 0:
            return Reconciled(state="unknown", detail="not seen yet")
        if far.mark(key, "void") in (None, "void"):
            return Reconciled(state="voided")
        return Reconciled(state="done", result=ToolResult(text="It was done meanwhile."))

    @tool(effect="write", timeout_s=TIMEOUT_S)
    async def plain(label: str, context: ToolContext) -> str:
        """Writes at a far side that knows no keys."""
        await pause()
        told("fired", context.key, label, "plain")
        far.append("fired", context.key, label, "plain")
        await pause()
        return f"wrote {label}"

    @tool(effect="write", timeout_s=TIMEOUT_S, reconcile=answer)
    async def checked(label: str, context: ToolContext) -> str:
        """Writes at a far side that can be asked about a key, and told to refuse it."""
        await pause()
        assert context.key is not None
        told("fired", context.key, label, "checked")
        known = far.mark(context.key, "fired", label)
        far.append({None: "fired", "fired": "repeated", "void": "refused"}[known], context.key, label, "checked")
        await pause()
        if known == "void":
            raise ToolError(f"{label} was taken back before")
        return f"wrote {label}"

    @tool(effect="idempotent_write", timeout_s=TIMEOUT_S)
    async def again(label: str, context: ToolContext) -> str:
        """Writes at a far side that takes each key once."""
        await pause()
        assert context.key is not None
        told("fired", context.key, label, "again")
        known = far.mark(context.key, "fired", label)
        far.append("fired" if known is None else "known", context.key, label, "again")
        await pause()
        return f"wrote {label}"

    @tool(effect="read", timeout_s=TIMEOUT_S)
    async def look(label: str, context: ToolContext) -> str:
        """Looks."""
        await pause()
        told("read", None, label, "look")
        far.append("read", None, label, "look")
        return f"saw {label}"

    return plain, checked, again, look
