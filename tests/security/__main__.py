"""``python -m tests.security``: planted secrets and tamperings, with their counts.

``python -m tests.security --tamperings 1000 --postgres postgresql://...`` (an empty database) as well.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.security.planted import drive
from tests.security.tampering import Trials, on_postgres, on_sqlite


async def main(tamperings: int, postgres: str | None) -> bool:
    """Whether nothing leaked and everything was found."""
    is_good = True
    with tempfile.TemporaryDirectory() as folder:
        found = await drive(Path(folder))
        for channel, leaks in found.leaks.items():
            print(f"{channel:<10} {found.sizes[channel]:>9,} characters: {len(leaks)} of {found.planted} secrets found")
            is_good = is_good and not leaks
        trials: list[tuple[str, Trials]] = [("sqlite", await on_sqlite(Path(folder), tamperings))]
        if postgres is not None:
            trials.append(("postgresql", await on_postgres(postgres, max(1, tamperings // 10))))
    for name, outcome in trials:
        print(f"{name}: {outcome.found} of {outcome.made} tamperings found, {outcome.named} named at the first bad row")
        for what, count in sorted(outcome.kinds.items()):
            print(f"    {what:<32} {count:>4}")
        for miss in outcome.missed:
            print(f"    missed: {miss}")
        is_good = is_good and not outcome.missed
    return is_good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tamperings", type=int, default=1_000)
    parser.add_argument("--postgres", help="URL of an empty database")
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.tamperings, given.postgres)) else 1)
