"""One run, read once for all who follow it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from collegium.domain import body as b
from collegium.domain.errors import CollegiumError, NotFound, StoreCorrupt, StoreError
from collegium.domain.event import Event
from collegium.domain.head import FINISHED, Head
from collegium.ports import Journal

LOOK_S: Final = 1.0
"""So often the journal is looked at without any hint."""
SOON_S: Final = 0.2
"""So soon again after a hint of something that was not stored yet."""
PAGE: Final = 200
KEPT: Final = 1_000
KEPT_BYTES: Final = 2 * 1024 * 1024
TAKEN_BYTES: Final = 64 * 1024
"""What is handed out at once has as many bytes at most, unless one event has more."""
PACE_S: Final = 0.15
"""Many followers are told that often at most."""
SHARE_S: Final = 0.00012
"""The time that it takes to tell one of them."""
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
_log = logging.getLogger("collegium.live")


class Frame(NamedTuple):
    """An event, and what it is as JSON: made once, however many are told."""

    event: Event
    data: bytes


class Watch:
    """Reads the events of one run as they come and keeps the last of them at hand.

    Nobody who follows is waited for: everybody has a place of its own in the run, and whoever is far behind reads from
    the journal. What is kept here is bounded, whoever follows.

    Args:
        journal: Where the events are.
        head: Where the run stands.

    Attributes:
        head: The number of the last event that was read.
        is_over: Whether the run has ended, so that nothing more is to come.
        error: Why it cannot be read any more.
    """

    def __init__(self, journal: Journal, head: Head) -> None:
        self.run = head.run
        self.head = head.seq
        self.is_over = head.status in FINISHED
        self.error: CollegiumError | None = None
        self._journal = journal
        self._kept: deque[Frame] = deque()
        self._kept_bytes = 0
        self._pages: dict[int, asyncio.Task[list[Frame]]] = {}
        self._followers: set[Follower] = set()
        self._hinted = asyncio.Event()
        self._wanted = 0
        self._texts: dict[tuple[int, int], str] = {}
        self._reading = asyncio.create_task(self._read_on())

    @property
    def is_followed(self) -> bool:
        """Whether anybody follows."""
        return bool(self._followers)

    def follow(self, follower: Follower) -> None:
        """From now on ``follower`` is told when there is news."""
        self._followers.add(follower)

    def leave(self, follower: Follower) -> None:
        """It is told nothing more; twice is harmless."""
        self._followers.discard(follower)

    def hint(self, seq: int) -> None:
        """There may be events up to ``seq``; 0: there may be some."""
        if seq == 0 or seq > self.head:
            self._wanted = max(self._wanted, seq, self.head + 1)
            self._hinted.set()

    async def end(self, error: CollegiumError | None = None) -> None:
        """Reads no more; whoever still follows is told ``error``."""
        self.error = self.error or error
        self._tell()
        tasks = [self._reading, *self._pages.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_at_hand(self, after: int) -> bool:
        """Whether what comes behind ``after`` is kept here."""
        return after >= self.head or (bool(self._kept) and self._kept[0].event.seq <= after + 1)

    async def behind(self, after: int) -> list[Frame]:
        """The next events behind ``after``: kept ones, or a page of the journal. Empty where there is none yet."""
        if self.error is not None:
            raise self.error
        if after >= self.head:
            return []
        if self.is_at_hand(after):
            first = after + 1 - self._kept[0].event.seq
            return _share(self._kept[i] for i in range(first, min(len(self._kept), first + PAGE)))
        page = self._pages.get(after)
        if page is None:
            page = self._pages[after] = asyncio.create_task(self._page(after))
            page.add_done_callback(lambda _: self._pages.pop(after, None))
        # Whoever gives up must not take it from the others.
        return await asyncio.shield(page)

    def text(self, frames: Sequence[Frame]) -> str:
        """``[event, event, ...]``; most followers are told the same, which is put together once."""
        key = (frames[0].event.seq, frames[-1].event.seq)
        text = self._texts.get(key)
        if text is None:
            text = "[" + ",".join(frame.data.decode() for frame in frames) + "]"
            if len(self._texts) >= 4:  # the last few are what many share
                del self._texts[next(iter(self._texts))]
            self._texts[key] = text
        return text

    async def _page(self, after: int) -> list[Frame]:
        return _share(_frame(event) for event in await self._journal.read(self.run, after, PAGE))

    async def _read_on(self) -> None:
        is_away = False
        while self.error is None:
            self._hinted.clear()
            try:
                events = await self._journal.read(self.run, self.head, PAGE)
                is_away = False
            except StoreCorrupt as error:
                self.error = error
                self._tell()
                return
            except StoreError as error:
                if not is_away:
                    _log.warning("the events of %s cannot be read now: %s", self.run, error)
                is_away, events = True, ()
            if events:
                self._add(events)
                self._tell()
                await asyncio.sleep(0 if len(events) == PAGE else min(PACE_S, SHARE_S * len(self._followers)))
            if len(events) < PAGE:
                await self._pause(SOON_S if self._wanted > self.head and not is_away else LOOK_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hinted.wait()
                return
        self._wanted = 0

    def _add(self, events: Sequence[Event]) -> None:
        for event in events:
            frame = _frame(event)
            self._kept.append(frame)
            self._kept_bytes += len(frame.data)
            if isinstance(event.body, b.RunFinished):
                self.is_over = True
            elif isinstance(event.body, b.RunResumed):
                self.is_over = False
        while len(self._kept) > KEPT or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= len(self._kept.popleft().data)
        self.head = events[-1].seq

    def _tell(self) -> None:
        for follower in tuple(self._followers):
            follower.notify()


class Follower:
    """A place in a run, of somebody who follows it.

    Args:
        watch: The run.
        after: Events behind this one are wanted.
        notify: Called whenever there may be news.

    Attributes:
        after: The number of the last event that was taken.
    """

    def __init__(self, watch: Watch, after: int, notify: Callable[[], None]) -> None:
        self.watch = watch
        self.after = after
        self.notify = notify

    @property
    def is_done(self) -> bool:
        """Whether all is taken, and nothing more is to come."""
        return self.watch.is_over and self.after >= self.watch.head

    @property
    def is_up(self) -> bool:
        """Whether all that is there was taken."""
        return self.after >= self.watch.head and self.watch.error is None

    async def take(self) -> list[Frame]:
        """The next events in order, each once; empty where there is nothing new.

        Raises ``StoreError`` where the run cannot be read, ``NotFound`` where it was pruned meanwhile.
        """
        was_up = self.is_up
        frames = await self.watch.behind(self.after)
        if frames:
            self.after = frames[-1].event.seq
        elif not was_up:
            raise NotFound(f"the events of {self.watch.run} behind {self.after} are not kept any more: it was pruned")
        return frames


def _frame(event: Event) -> Frame:
    return Frame(event, _ENCODER.encode(event))


def _share(frames: Iterable[Frame]) -> list[Frame]:
    """As many as are handed out at once."""
    taken: list[Frame] = []
    size = 0
    for frame in frames:
        size += len(frame.data)
        if taken and size > TAKEN_BYTES:
            break
        taken.append(frame)
    return taken
