"""The supervisor: keeps a number of worker processes running, for as long as this process runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from collegium.adapters.leash import Word, WorkOrder
from collegium.ports import Clock
from collegium.telemetry import RESTARTS, Meter, Reading, Totals, merged

COMMAND: Final = (sys.executable, "-m", "collegium.cli.hand")
FIRST_S, MOST_S = 0.5, 30.0
"""A worker that ended is started again after ``FIRST_S``, one that keeps ending after twice as long each time."""
STEADY_S = 30.0
"""One that has run for so long is not one that keeps ending."""
_LINE_BYTES = 1 << 20
_log = logging.getLogger("collegium.supervisor")


class Hand:
    """One of the workers: the process that does this part now, and what it said last.

    Attributes:
        name: Stays the same however often the process is started again.
        word: What it said last; ``starting`` before it has said anything.
        is_over: Whether it was told to end, did so and is not started again.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.word = Word(state="starting")
        self.is_over = False
        self.starts = 0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes tasks."""
        return self.process is not None and self.word.state == "ready"

    def __str__(self) -> str:
        if self.is_over:
            return f"{self.name} was drained"
        return f"{self.name} is {self.word.state}" + (f": {self.word.why}" if self.word.why else "")


class Supervisor:
    """Starts ``count`` worker processes and starts again those that end without having been told to.

    It never gives up; every end is logged, with how long it waits before the next start. The processes end by
    themselves when this one is gone, see ``Leash``.

    Args:
        order: What the worker of that name is told.
        clock: By which it waits.
        random: From 0 to 1: several supervisors do not start their workers in step.
        command: Program and arguments of a worker.
        changed: Called when a worker's state has changed.
    """

    def __init__(
        self,
        order: Callable[[str], WorkOrder],
        *,
        count: int,
        clock: Clock,
        random: Callable[[], float],
        command: Sequence[str] = COMMAND,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.hands = tuple(Hand(f"worker-{number}") for number in range(1, count + 1))
        self._order = order
        self._clock = clock
        self._random = random
        self._command = tuple(command)
        self._changed = changed
        self._totals = Totals()
        self._meter = Meter()
        self._is_ending = False
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the workers; returns at once."""
        if self.hands:
            self._meter.add(RESTARTS, amount=0)
        self._keeping = [asyncio.create_task(self._keep(hand)) for hand in self.hands]

    def readings(self) -> tuple[Reading, ...]:
        """What all workers have counted, those that have ended included."""
        return merged(self._totals.readings(), self._meter.readings())

    async def end(self, within_s: float) -> bool:
        """Tells the workers to end; whether all have done so ``within_s``. The others are ended without a word."""
        self._is_ending = True
        self._signal(signal.SIGTERM)
        waiting = [task for task in self._keeping if not task.done()]
        for task, hand in zip(self._keeping, self.hands, strict=False):
            if hand.process is None:
                task.cancel()  # it only waits to be started again
        if not waiting:
            return True
        _, late = await asyncio.wait(waiting, timeout=within_s)
        if late:
            _log.error("%d workers did not end within %g s and are killed: others take over", len(late), within_s)
            self.kill()
            await asyncio.wait(late)
        return not late

    def kill(self) -> None:
        """Ends the workers without a word."""
        self._is_ending = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for hand in self.hands:
            if hand.process is not None and hand.process.returncode is None:
                with suppress(ProcessLookupError):
                    hand.process.send_signal(number)

    async def _keep(self, hand: Hand) -> None:
        pause_s = FIRST_S
        while self._goes_on(hand):
            began_s = self._clock.monotonic()
            how = await self._run(hand)
            self._changed()
            if not self._goes_on(hand):
                return
            lived_s = self._clock.monotonic() - began_s
            pause_s = FIRST_S if lived_s >= STEADY_S else pause_s
            wait_s = pause_s * (0.75 + self._random() / 2)
            _log.warning(
                "%s %s after %.1f s, it is started again in %.1f s (start %d)",
                hand.name, how, lived_s, wait_s, hand.starts + 1,
            )  # fmt: skip
            hand.word = Word(state="starting", why=f"it {how}, and is started again")
            self._meter.add(RESTARTS)
            pause_s = min(MOST_S, 2 * pause_s)
            await self._clock.sleep(wait_s)

    def _goes_on(self, hand: Hand) -> bool:
        return not self._is_ending and not hand.is_over

    async def _run(self, hand: Hand) -> str:
        """How a process of ``hand`` ended, once it has."""
        hand.starts += 1
        source = f"{hand.name}/{hand.starts}"
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                # A Ctrl-C of the terminal reaches this process alone, which then tells its workers.
                start_new_session=True,
            )
        except OSError as error:
            return f"could not be started ({error})"
        hand.process = process
        hand.word = Word(state="starting")
        try:
            await self._talk(process, hand, source)
            code = await process.wait()
        finally:
            hand.process = None
            self._totals.ended(source)
            if process.returncode is None:  # this task is cancelled
                with suppress(ProcessLookupError):
                    process.kill()
        hand.is_over = not self._is_ending and (code == 0 or hand.word.state == "draining")
        if hand.is_over:
            _log.info("%s was drained and is not started again", hand.name)
        return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"

    async def _talk(self, process: asyncio.subprocess.Process, hand: Hand, source: str) -> None:
        """Gives the order and takes the words, until there are no more; the pipe to the process stays open."""
        if process.stdin is None or process.stdout is None:
            raise OSError("the process has no standard input or output")
        if self._is_ending:
            self._signal(signal.SIGTERM)
        with suppress(ConnectionError):  # it has ended before it read its order
            process.stdin.write(msgspec.json.encode(self._order(hand.name)) + b"\n")
            await process.stdin.drain()
        async for line in _lines(process.stdout):
            try:
                word = msgspec.json.decode(line, type=Word)
            except msgspec.DecodeError:
                _log.warning("%s said something that is not understood: %.200r", hand.name, line)
                continue
            is_news = word.state != hand.word.state
            hand.word = word
            self._totals.take(source, word.readings)
            if is_news:
                self._changed()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines of ``stream``; one that is too long is left out."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


def told(hands: Iterable[Hand]) -> str:
    """How the workers are, in one sentence."""
    return "; ".join(str(hand) for hand in hands)
