"""An event loop without a clock and without an order of its own: both come from a seed."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT_TURNS: Final = 200_000
"""Callbacks at one moment of virtual time; more of them are a loop without an end."""


class Stuck(Exception):
    """Nothing is left that could ever happen, or time has stopped moving."""


class Owner:
    """Whose tasks these are: everything a simulated process has started, in order."""

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Takes note that the task is over."""
        self.tasks.pop(task, None)


OWNER: Final[ContextVar[Owner | None]] = ContextVar("OWNER", default=None)
"""The process on whose behalf code runs; tasks and callbacks inherit it."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks that are ready in an order drawn from ``rng``, and jumps to the next timer when none is.

    No thread, no socket and no signal has a part in it: the same seed gives the same run.
    """

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._elapsed_s = 0.0
        self._spawned: dict[asyncio.Task[Any], None] = {}
        self._ready = _Drawn(rng)
        self._selector = _Jump(self)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._elapsed_s

    def now(self) -> datetime:
        """The virtual time of day."""
        return START + timedelta(seconds=self._elapsed_s)

    def jump(self, seconds: float | None) -> None:
        """Lets ``seconds`` pass; None means that nobody waits for anything that could come."""
        if seconds is None or math.isinf(seconds):
            raise Stuck("no callback is ready and no timer is set: whatever is awaited can never come")
        if seconds > 0:
            self._elapsed_s += seconds
            self._ready.turns = 0

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task that belongs to whoever owns the task that makes it."""
        owner = OWNER.get() if context is None else context.get(OWNER)
        task: asyncio.Task[T] = super().create_task(coro, name=None if name is None else str(name), context=context)
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(owner.forget)
        return task

    def start(self, owner: Owner | None, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts ``coro`` as a task of ``owner``; None for the world's own, which outlive every process."""
        context = copy_context()
        context.run(OWNER.set, owner)
        return self.create_task(coro, context=context)

    def spawn(self, owner: Owner | None, coro: Coroutine[Any, Any, object]) -> None:
        """Starts ``coro`` likewise, for nobody to wait for."""
        task = self.start(owner, coro)
        self._spawned[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._spawned.pop(task, None)

    def _asyncgen_finalizer_hook(self, agen: object) -> None:
        """A generator that nobody goes on with is dropped, and ends nothing at some later moment."""

    def _process_events(self, event_list: object) -> None:
        """There is no input or output."""

    def _write_to_self(self) -> None:
        """There is no thread that would have to wake this one."""


class _Jump:
    """In the place of a selector: it never blocks, it moves the time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> tuple[()]:
        self._loop.jump(timeout)
        return ()


class _Drawn(deque[Any]):
    """A ready queue that gives out any of its callbacks."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self.turns = 0

    def popleft(self) -> Any:
        self.turns += 1
        if self.turns > LIMIT_TURNS:
            raise Stuck(f"{LIMIT_TURNS:,} callbacks at the same moment: somebody turns in circles")
        if len(self) > 1:
            self.rotate(-int(self._rng.random() * len(self)))
        return super().popleft()


class SimulatedClock:
    """Implements ``ports.Clock`` on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """The virtual time of day."""
        return self._loop.now()

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds`` of virtual time."""
        await asyncio.sleep(max(0.0, seconds))
