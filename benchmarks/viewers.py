"""People who look on: how soon they are told, what that costs, and what they see when their server dies.

    python benchmarks/viewers.py fan-out [--json] [--viewers N] [--slow N] [--per-s N] [--seconds S]
    python benchmarks/viewers.py reconnects [--json] [--rounds N] [--kills N] [--viewers N] [--seed N]

``fan-out``: see ``_viewers.py``; ``reconnects``: see ``_reconnects.py``. Each server is a process of its own, and the
viewers are on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform

import _reconnects
import _viewers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    fan_out = parts.add_parser("fan-out")
    fan_out.add_argument("--viewers", type=int, default=1_000, help="sockets that follow one run")
    fan_out.add_argument("--slow", type=int, default=100, help="sockets beside them that take nothing")
    fan_out.add_argument("--per-s", type=float, default=5.0, help="events of the run each second")
    fan_out.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    again = parts.add_parser("reconnects")
    again.add_argument("--rounds", type=int, default=1_000, help="how often viewers come again, in all")
    again.add_argument("--kills", type=int, default=50, help="how often the server is killed meanwhile")
    again.add_argument("--viewers", type=int, default=8, help="half of them streams, half sockets")
    again.add_argument("--seed", type=int, default=1, help="of their moods")
    for one in (fan_out, again):
        one.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    options = parser.parse_args()
    if options.part == "fan-out":
        found = _viewers.measure(options.viewers, options.slow, options.per_s, options.seconds)
        _viewers.show(found)
    else:
        found = asyncio.run(
            _reconnects.measure(rounds=options.rounds, kills=options.kills, viewers=options.viewers, seed=options.seed)
        )
        _reconnects.show(found)
    if options.json:
        about = {"benchmark": f"viewers {options.part}", "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({**about, **found}))


if __name__ == "__main__":
    main()
