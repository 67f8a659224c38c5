"""Cron expressions in a time zone: which moments they name."""

from __future__ import annotations

import difflib
import zoneinfo
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

from collegium.domain.errors import UsageError

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: Final = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L for the last one"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 (both Sunday) or SUN to SAT"),
)
_MAX_CHARS: Final = 200
_ANY_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_LOOK_BACK: Final = timedelta(hours=1)
_SHOWN_ZONES: Final = 3


class Cron:
    """The moments of a cron expression by the wall clock of a time zone.

    A time that the clock skips in spring is the first moment after the gap; a time that it shows twice in autumn is the
    first of both. With ``*`` as minute or hour the expression follows the time that passes: every 20 minutes is every
    20 minutes, whatever the clock shows. So do Debian's cron and ``cronsim``.

    Args:
        expression: Five fields (minute, hour, day of the month, month, day of the week) or a name such as ``@daily``.
        tz: Name of a time zone, as ``Europe/Berlin``.

    Raises:
        UsageError: the expression cannot be read (the text names the field) or never comes, or there is no such zone.
    """

    def __init__(self, expression: str, tz: str = "UTC") -> None:
        self.expression = " ".join(expression.split())
        self._fields = _checked(self.expression)
        self._zone = zone_of(tz)
        try:
            next(CronSim(self._fields, _ANY_DAY))
        except (CronSimError, StopIteration) as error:
            raise UsageError(
                f"the schedule {self.expression!r} never comes: there is no such day in these months",
                cron=self.expression,
            ) from error

    def next(self, after: datetime) -> datetime:
        """The first moment behind ``after``; both are aware, the result is in UTC."""
        return next(self._behind(after))

    def newest(self, since: datetime, until: datetime, count: int) -> tuple[datetime, ...]:
        """The last ``count`` moments from ``since`` to ``until``, both included, oldest first.

        However long ago ``since`` is, not many more than these are gone through.
        """
        back = _FIRST_LOOK_BACK
        while True:
            start = max(since, until - back)
            kept: deque[datetime] = deque(maxlen=count)
            for moment in self._behind(start - timedelta(microseconds=1)):
                if moment > until:
                    break
                kept.append(moment)
            if len(kept) == count or start == since:
                return tuple(kept)
            back *= 8

    def _behind(self, after: datetime) -> Iterator[datetime]:
        last = after
        for local in CronSim(self._fields, after.astimezone(self._zone)):
            moment = local.astimezone(UTC)
            # Asked in the second of two equal hours, the library names the first one: it is over.
            if moment > last:
                last = moment
                yield moment


def zone_of(name: str) -> tzinfo:
    """The time zone of that name. Raises ``UsageError`` with names that are near."""
    if name == "UTC":
        return UTC  # also where there is no data of time zones
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = sorted(zoneinfo.available_timezones())
        if not known:
            raise UsageError(
                f"the time zone {name!r} cannot be looked up: this machine has no data of time zones; install tzdata",
                tz=name,
            ) from error
        near = _near(name, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "names are such as Europe/Berlin or UTC"
        raise UsageError(f"there is no time zone {name!r}; {hint}", tz=name, near=near) from error


def _near(name: str, known: list[str]) -> list[str]:
    """Names that end like ``name`` (a city) or are spelt nearly like it."""
    wanted = name.strip().replace(" ", "_").casefold()
    by_fold = {zone.casefold(): zone for zone in known}
    cities = [zone for zone in known if zone.casefold().rpartition("/")[2] == wanted]
    spelt = [by_fold[fold] for fold in difflib.get_close_matches(wanted, by_fold, n=_SHOWN_ZONES, cutoff=0.7)]
    ends = {zone.casefold().rpartition("/")[2]: zone for zone in known if "/" in zone}
    typed = [ends[end] for end in difflib.get_close_matches(wanted, ends, n=_SHOWN_ZONES, cutoff=0.7)]
    return list(dict.fromkeys([*cities, *spelt, *typed]))[:_SHOWN_ZONES]


def _checked(expression: str) -> str:
    """The five fields. Raises ``UsageError`` naming the one that cannot be read."""
    if len(expression) > _MAX_CHARS:
        raise UsageError(f"the schedule has {len(expression)} characters and the cap is {_MAX_CHARS}")
    if expression.startswith("@"):
        if expression.lower() not in NAMES:
            raise UsageError(
                f"there is no schedule {expression!r}; there are {', '.join(NAMES)}, and five fields", cron=expression
            )
        return NAMES[expression.lower()]
    fields = expression.split()
    if len(fields) != len(FIELDS):
        names = ", ".join(name for name, _ in FIELDS)
        raise UsageError(
            f"the schedule {expression!r} has {len(fields)} fields and needs {len(FIELDS)}: {names}; "
            "put it in quotes, as '30 7 * * MON-FRI'",
            cron=expression,
        )
    for place, (name, values) in enumerate(FIELDS):
        alone = ["*"] * len(FIELDS)
        alone[place] = fields[place]
        try:
            CronSim(" ".join(alone), _ANY_DAY)
        except CronSimError as error:
            raise UsageError(
                f"the {name} {fields[place]!r} of the schedule {expression!r} cannot be read: {values}, "
                "alone or as 1,5 or 1-5 or */5",
                cron=expression,
                field=name,
            ) from error
    return " ".join(fields)
