"""Figures of several processes are added up, and stay counted when a process ends."""

from __future__ import annotations

import msgspec

from collegium.telemetry import ALL, BY_NAME, DISPATCH, RUNS, WORKERS, Meter, Reading, Totals, merged


def meter(runs: int, *seconds: float, workers: int = 1) -> Meter:
    made = Meter()
    made.add(RUNS, "succeeded", amount=runs)
    made.set(WORKERS, "ready", value=workers)
    for one in seconds:
        made.observe(DISPATCH, one)
    return made


def value(readings: tuple[Reading, ...], name: str) -> float:
    return sum(one.value for one in readings if one.name == name)


def test_every_metric_has_its_own_name() -> None:
    assert len(BY_NAME) == len(ALL)
    for metric in ALL:
        assert metric.name.startswith("collegium_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_readings_survive_the_journey_between_processes() -> None:
    sent = meter(3, 0.02).readings()
    assert msgspec.json.decode(msgspec.json.encode(sent), type=tuple[Reading, ...]) == sent


def test_processes_are_added_up() -> None:
    sum_ = merged(meter(3, 0.02, 0.02).readings(), meter(4, 0.02, 100.0).readings())
    assert value(sum_, RUNS.name) == 7
    (dispatch,) = [one for one in sum_ if one.name == DISPATCH.name]
    assert sum(dispatch.counts) == 4
    assert dispatch.counts[-1] == 1


def test_a_process_that_ended_stays_counted_once_and_its_gauges_go() -> None:
    totals = Totals()
    totals.take("worker-1/1", meter(3).readings())
    totals.take("worker-1/1", meter(5).readings())
    totals.ended("worker-1/1")
    totals.ended("worker-1/1")
    assert value(totals.readings(), RUNS.name) == 5
    assert value(totals.readings(), WORKERS.name) == 0
    totals.take("worker-1/2", meter(1).readings())
    assert value(totals.readings(), RUNS.name) == 6
    assert value(totals.readings(), WORKERS.name) == 1


def test_what_another_version_counts_is_left_out() -> None:
    totals = Totals()
    totals.take("worker-1/1", (Reading(name="collegium_of_tomorrow", value=1.0),))
    assert totals.readings() == ()
