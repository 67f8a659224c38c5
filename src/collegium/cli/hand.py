"""``python -m collegium.cli.hand``: a worker of the process that started it, and that holds its standard input.

No command for people: ``collegium serve`` starts it.
"""

from __future__ import annotations

import sys

from collegium.cli import failure
from collegium.cli.options import Options
from collegium.cli.process import run_process
from collegium.domain.errors import CollegiumError
from collegium.wiring.hand import Hand


def main() -> int:
    """Carries out the order on standard input; returns the exit code."""
    hand = Hand()
    try:
        return run_process(hand.work, name=hand.name)
    except CollegiumError as error:
        return failure.report_error(error, options=Options())


if __name__ == "__main__":
    sys.exit(main())
