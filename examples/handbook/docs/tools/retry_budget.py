"""Work out when notify-relay tries a failed webhook again.

This file is the single place in which the numbers for webhook retries are
defined. notify-relay reads it when it is built, and the support desk runs it
by hand in order to tell a customer when the next attempt is due:

    python retry_budget.py --failed 3

A delivery counts as failed when the endpoint does not answer with a 2xx
status within ten seconds. The pause before the next attempt grows by the
factor GROWTH_FACTOR each time. notify-relay gives up after 8 attempts and
moves the message to the dead-letter topic of its channel. All pauses together
come to about 73 minutes, which is long enough for a customer to restart a
server and short enough for the news to be still worth having.
"""

from __future__ import annotations

import argparse
import random

#: Number of attempts in total, including the first one. It was 5 until
#: December 2025, when customers asked for more time during maintenance.
MAX_ATTEMPTS = 8

#: Pause in seconds after the first failed attempt.
BASE_DELAY_SECONDS = 4

#: Each pause is this many times as long as the one before.
GROWTH_FACTOR = 3

#: No pause is longer than this, whatever the other numbers say.
CAP_SECONDS = 3600

#: Each pause is shortened or lengthened at random by up to 20 percent, so
#: that endpoints are not hit by every waiting message in the same second.
JITTER_FRACTION = 0.20


def pause_after(failed_attempts: int) -> float | None:
    """Return the pause in seconds after so many failures, without jitter.

    The answer is None when the budget is used up and the message has to be
    moved to the dead-letter topic.
    """
    if failed_attempts < 1:
        raise ValueError("at least one attempt must have failed")
    if failed_attempts >= MAX_ATTEMPTS:
        return None
    pause = BASE_DELAY_SECONDS * GROWTH_FACTOR ** (failed_attempts - 1)
    return float(min(pause, CAP_SECONDS))


def with_jitter(pause: float, source: random.Random) -> float:
    """Spread a pause by JITTER_FRACTION in either direction."""
    return pause * source.uniform(1 - JITTER_FRACTION, 1 + JITTER_FRACTION)


def total_budget() -> float:
    """Return the sum of all pauses in seconds, without jitter."""
    pauses = (pause_after(n) for n in range(1, MAX_ATTEMPTS))
    return sum(p for p in pauses if p is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--failed", type=int, default=1, help="attempts that have failed so far")
    failed = parser.parse_args().failed
    pause = pause_after(failed)
    if pause is None:
        print("No further attempt; the message is in the dead-letter topic.")
        return
    print(f"Next attempt in about {pause:.0f} seconds.")
    print(f"All pauses together come to {total_budget() / 60:.0f} minutes.")


if __name__ == "__main__":
    main()
