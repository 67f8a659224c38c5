"""Cron expressions: which moments they name where clocks are put forth and back, and what is said of bad ones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.errors import UsageError
from collegium.runtime.cron import NAMES, Cron

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 29, tzinfo=BERLIN)  # 02:00 becomes 03:00
AUTUMN = datetime(2026, 10, 25, tzinfo=BERLIN)  # 03:00 becomes 02:00


def clock_times(cron: str, day: datetime, tz: str = "Europe/Berlin") -> list[str]:
    """What a clock on the wall shows at the moments of ``cron`` on ``day``, with the offset from UTC."""
    times, moment, end = Cron(cron, tz), day - timedelta(seconds=1), (day + timedelta(days=1)).astimezone(UTC)
    shown = []
    while (moment := times.next(moment)) < end:
        shown.append(f"{moment.astimezone(BERLIN):%H:%M%z}"[:-2])
    return shown


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["03:00+02"]),
        ("0,30 2 * * *", ["03:00+02"]),
        ("0 2,3 * * *", ["03:00+02"]),
        ("30 1 * * *", ["01:30+01"]),
        ("30 3 * * *", ["03:30+02"]),
        ("30 0-4 * * *", ["00:30+01", "01:30+01", "03:00+02", "03:30+02", "04:30+02"]),
        ("*/30 1-3 * * *", ["01:00+01", "01:30+01", "03:00+02", "03:30+02"]),
    ],
)
def test_a_time_that_the_clock_skips_is_the_first_one_after_it(cron: str, expected: list[str]):
    assert clock_times(cron, SPRING) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["02:30+02"]),
        ("0,30 2 * * *", ["02:00+02", "02:30+02"]),
        ("0 2,3 * * *", ["02:00+02", "03:00+01"]),
        ("*/30 2 * * *", ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ("30 1 * * *", ["01:30+02"]),
    ],
)
def test_a_time_that_the_clock_shows_twice_comes_once_unless_it_follows_the_minutes(cron: str, expected: list[str]):
    assert clock_times(cron, AUTUMN) == expected


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_every_hour_is_every_hour(day: datetime, hours: int):
    assert len(clock_times("@hourly", day)) == hours
    assert len(clock_times("0 * * * *", day, "UTC")) == hours


def test_asked_in_the_second_of_two_equal_hours_it_does_not_go_back():
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert Cron("30 2 * * *", "Europe/Berlin").next(second) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


MOMENTS = st.integers(0, 365 * 86_400).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
EXPRESSIONS = st.sampled_from([
    "* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */5 * * MON", "0 0 L * *",
])  # fmt: skip


@given(EXPRESSIONS, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]), MOMENTS)
def test_the_next_moment_is_the_same_wherever_one_begins(cron: str, tz: str, after: datetime):
    times = Cron(cron, tz)
    moment = times.next(after)
    assert after < moment
    assert (moment.second, moment.microsecond) == (0, 0)
    assert times.next(after + (moment - after) / 2) == moment


@given(EXPRESSIONS, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3)), st.integers(1, 30))
def test_the_newest_moments_are_the_last_of_all(cron: str, since: datetime, span: timedelta, count: int):
    times, until = Cron(cron, "Europe/Berlin"), since + span
    every, moment = [], since - timedelta(microseconds=1)
    while (moment := times.next(moment)) <= until:
        every.append(moment)
    assert times.newest(since, until, count) == tuple(every[-count:])


def test_the_newest_moments_of_a_long_time_ago():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = Cron("* * * * *").newest(datetime(1990, 1, 1, tzinfo=UTC), now, 3)
    assert found == (now - timedelta(minutes=2), now - timedelta(minutes=1), now)
    assert Cron("0 0 29 2 *").newest(datetime(1990, 1, 1, tzinfo=UTC), now, 1) == (datetime(2024, 2, 29, tzinfo=UTC),)


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str):
    after = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    assert Cron(name.upper()).next(after) == Cron(NAMES[name]).next(after)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("61 * * * *", "the minute '61'"),
        ("* 25 * * *", "the hour '25'"),
        ("* * 32 * *", "the day of the month '32'"),
        ("* * * FOO *", "the month 'FOO'"),
        ("* * * * 9", "the day of the week '9'"),
        ("*/0 * * * *", "the minute '*/0'"),
        ("0 0 \u00b2 * *", "the day of the month"),
        ("* * * *", "has 4 fields and needs 5"),
        ("* * * * * *", "has 6 fields and needs 5"),
        ("", "has 0 fields"),
        ("@never", "there are @yearly"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("1," * 200 + "1 * * * *", "the cap is 200"),
    ],
)
def test_what_cannot_be_read_is_said_by_field(cron: str, said: str):
    with pytest.raises(UsageError) as error:
        Cron(cron)
    assert said in error.value.message


@pytest.mark.parametrize(
    ("tz", "said"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("Berlin", "did you mean Europe/Berlin"),
        ("New York", "did you mean America/New_York"),
        ("Mars", "names are such as"),
        ("../../etc/passwd", "there is no time zone"),
        ("/etc/passwd", "there is no time zone"),
        ("Europe", "there is no time zone"),
        ("\ud800", "there is no time zone"),
        ("", "there is no time zone"),
    ],
)
def test_a_time_zone_that_is_none_is_said_with_near_ones(tz: str, said: str):
    with pytest.raises(UsageError) as error:
        Cron("@daily", tz)
    assert said in error.value.message
