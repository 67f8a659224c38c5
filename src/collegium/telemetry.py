"""Figures: the names of all metrics in one place, counted in this process, merged from several.

Logs leave through ``RedactedFormatter``.

Nothing here knows how figures are shown. ``server.metrics`` writes them for Prometheus; a worker process sends its
readings to the process that started it, which adds them up.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from collegium.domain.redaction import Redactor

DISPATCH_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds: the promise for dispatch is in milliseconds, a waiting task may wait for minutes."""


class Metric(NamedTuple):
    """A figure that is watched.

    Attributes:
        name: As it is shown; never changed, see ``docs/reference``.
        kind: ``counter`` only grows; ``gauge`` is as it is now; ``histogram`` counts by size.
        labels: Names of its labels: none whose values could be many.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SUBMITTED: Final = Metric("collegium_runs_submitted_total", "counter", "Runs that were accepted here.")
RUNS: Final = Metric("collegium_runs_total", "counter", "Runs that were ended here, by status.", ("status",))
DISPATCH: Final = Metric(
    "collegium_dispatch_seconds",
    "histogram",
    "From the moment a task could be worked on to the start of its attempt.",
    buckets=DISPATCH_BUCKETS,
)
WAITING: Final = Metric(
    "collegium_tasks_waiting", "gauge", "Tasks on the bus that no worker has claimed.", ("capability",)
)
WORKERS: Final = Metric("collegium_workers", "gauge", "Worker processes over this store, by state.", ("state",))
LOAD: Final = Metric("collegium_worker_tasks", "gauge", "Tasks that all workers together work on.")
ROOM: Final = Metric("collegium_worker_slots", "gauge", "Tasks that all workers together could work on.")
LAG: Final = Metric("collegium_worker_lag_seconds", "gauge", "How late the event loop of the slowest worker runs.")
COMMITS: Final = Metric("collegium_store_commits_total", "counter", "Transactions that were committed to the store.")
FAILURES: Final = Metric("collegium_store_failures_total", "counter", "Transactions that the store did not take.")
STORE_UP: Final = Metric("collegium_store_up", "gauge", "1 while the store answers, 0 while it is away.", ("store",))
RESTARTS: Final = Metric("collegium_worker_restarts_total", "counter", "Worker processes that ended and came again.")
ALL: Final = (
    SUBMITTED, RUNS, DISPATCH, WAITING, WORKERS, LOAD, ROOM, LAG, COMMITS, FAILURES, STORE_UP, RESTARTS,
)  # fmt: skip
BY_NAME: Final = {metric.name: metric for metric in ALL}


class RedactedFormatter(logging.Formatter):
    """Formats a record with its traceback, and takes out the secrets: whatever a library logs passes through here.

    Attributes:
        redactor: What is known of the installation's secrets so far.
    """

    def __init__(self, fmt: str, redactor: Redactor | None = None) -> None:
        super().__init__(fmt)
        self.redactor = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines. What was formatted of the record for others is no part of it."""
        text = self.redactor.text(super().format(record))
        record.exc_text = None  # kept by ``logging`` for other handlers, and not redacted
        return text


def teach_logs(redactor: Redactor) -> None:
    """Has every handler of the root logger that redacts at all take out these secrets from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, RedactedFormatter):
            handler.formatter.redactor = redactor


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a metric for one set of labels; of a histogram the sum and the count of each bucket."""

    name: str
    labels: tuple[str, ...] = ()
    value: float = 0.0
    counts: tuple[int, ...] = ()
    """Of a histogram: how many fell into each bucket and no smaller one, those beyond all bounds last."""


class Meter:
    """Counts in this process; for one thread."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[str, ...]], float] = {}
        self._counts: dict[tuple[str, tuple[str, ...]], list[int]] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Counts ``amount`` more."""
        key = metric.name, labels
        self._values[key] = self._values.get(key, 0.0) + amount

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """The metric is ``value`` from now on."""
        self._values[metric.name, labels] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One more event of a histogram."""
        key = metric.name, labels
        counts = self._counts.setdefault(key, [0] * (len(metric.buckets) + 1))
        counts[bisect_left(metric.buckets, value)] += 1
        self._values[key] = self._values.get(key, 0.0) + value

    def readings(self) -> tuple[Reading, ...]:
        """Everything that was counted."""
        return tuple(
            Reading(name=key[0], labels=key[1], value=value, counts=tuple(self._counts.get(key, ())))
            for key, value in self._values.items()
        )


class Totals:
    """Readings of processes that come and go, added up: what one had counted stays counted when it ends.

    Gauges of a process that has ended are dropped.
    """

    def __init__(self) -> None:
        self._live: dict[str, tuple[Reading, ...]] = {}
        self._past: tuple[Reading, ...] = ()

    def take(self, source: str, readings: Iterable[Reading]) -> None:
        """The newest readings of ``source``, in place of its last ones."""
        self._live[source] = tuple(reading for reading in readings if reading.name in BY_NAME)

    def ended(self, source: str) -> None:
        """``source`` will send no more; twice is harmless."""
        last = self._live.pop(source, ())
        self._past = merged(self._past, (one for one in last if BY_NAME[one.name].kind != "gauge"))

    def readings(self) -> tuple[Reading, ...]:
        """The sums."""
        return merged(self._past, *self._live.values())


def merged(*sets: Iterable[Reading]) -> tuple[Reading, ...]:
    """The sums by name and labels."""
    sums: dict[tuple[str, tuple[str, ...]], Reading] = {}
    for reading in (one for readings in sets for one in readings):
        key = reading.name, reading.labels
        before = sums.get(key)
        if before is None or len(before.counts) != len(reading.counts):
            sums[key] = reading
            continue
        counts = tuple(a + b for a, b in zip(before.counts, reading.counts, strict=True))
        sums[key] = msgspec.structs.replace(before, value=before.value + reading.value, counts=counts)
    return tuple(sums.values())
