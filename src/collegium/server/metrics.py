"""Metrics as Prometheus reads them: a registry of our own, filled from readings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from collegium.ports import Clock
from collegium.telemetry import BY_NAME, Metric, Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 1.0

Read = Callable[[], Awaitable[Iterable[Reading]]]


class Metrics:
    """The page at ``/metrics``.

    Args:
        read: Gives all readings; asked at most once a second, however many ask for the page. It must not take long.
        clock: Tells how old the readings are.
    """

    def __init__(self, read: Read, *, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._readings: tuple[Reading, ...] = ()
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(_Readings(lambda: self._readings))

    async def page(self) -> bytes:
        """The page, in Prometheus' text format."""
        async with self._looking:
            if self._clock.monotonic() - self._looked_s >= FRESH_S:
                self._readings = tuple(await self._read())
                self._looked_s = self._clock.monotonic()
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, readings: Callable[[], Iterable[Reading]]) -> None:
        self._now = readings

    def describe(self) -> Iterable[Family]:
        """Nothing: what there is is known only when it is read."""
        return ()

    def collect(self) -> Iterator[Family]:
        """A family for each metric that was read."""
        groups: dict[str, list[Reading]] = {}
        for reading in self._now():
            groups.setdefault(reading.name, []).append(reading)
        for name, readings in groups.items():
            metric = BY_NAME.get(name)
            if metric is not None:
                yield _family(metric, readings)


def _family(metric: Metric, readings: Iterable[Reading]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
        for reading in readings:
            histogram.add_metric(reading.labels, _buckets(metric, reading), reading.value)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for reading in readings:
        family.add_metric(reading.labels, reading.value)
    return family


def _buckets(metric: Metric, reading: Reading) -> list[tuple[str, float]]:
    """The cumulated counts by upper bound, as the format wants them."""
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    cumulated, total = [], 0
    for bound, count in zip(bounds, reading.counts, strict=True):
        total += count
        cumulated.append((bound, float(total)))
    return cumulated
