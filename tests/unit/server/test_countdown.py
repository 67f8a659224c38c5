"""A countdown that is put off again and again takes one place in the loop's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from collegium.server.countdown import Countdown


class Timer:
    """A place in the queue of ``Loop``."""

    def __init__(self, due_s: float, act: Callable[[], None]) -> None:
        self.due_s = due_s
        self.act = act
        self.is_cancelled = False

    def when(self) -> float:
        return self.due_s

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """A loop whose time is told."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, due_s: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due_s, act))
        return self.timers[-1]

    def go_to(self, now_s: float) -> None:
        """Time passes; what has come is done, in order."""
        while due := sorted((t for t in self.timers if t.due_s <= now_s and not t.is_cancelled), key=Timer.when):
            self.now_s = max(self.now_s, due[0].due_s)
            self.timers.remove(due[0])
            due[0].act()
        self.now_s = now_s


class Counted:
    """A countdown on such a loop, and when it came to its end."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.ends: list[float] = []
        self.countdown = Countdown(cast("Any", self.loop), lambda: self.ends.append(self.loop.now_s))


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_it_ends_once_and_on_time(counted: Counted):
    counted.countdown.start(5)
    counted.loop.go_to(4.9)
    assert counted.countdown.is_running
    counted.loop.go_to(60)
    assert counted.ends == [5]
    assert not counted.countdown.is_running


def test_it_is_put_off_without_another_timer(counted: Counted):
    for second in range(20):
        counted.loop.go_to(second / 10)
        counted.countdown.start(5)
    assert len(counted.loop.timers) == 1
    counted.loop.go_to(60)
    assert counted.ends == [pytest.approx(6.9)]


def test_a_shorter_time_is_not_slept_through(counted: Counted):
    counted.countdown.start(20)
    counted.countdown.start(1)
    counted.loop.go_to(60)
    assert counted.ends == [1]


def test_what_is_stopped_never_ends_and_can_begin_again(counted: Counted):
    counted.countdown.start(5)
    counted.countdown.stop()
    counted.loop.go_to(10)
    assert counted.ends == []
    counted.countdown.start(5)
    counted.loop.go_to(60)
    assert counted.ends == [15]


def test_what_is_dropped_leaves_nothing_in_the_loop(counted: Counted):
    counted.countdown.start(5)
    counted.countdown.drop()
    assert all(timer.is_cancelled for timer in counted.loop.timers)
    counted.loop.go_to(60)
    assert counted.ends == []
