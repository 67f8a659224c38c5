"""The command line.

Nothing heavy is imported before a command needs it: ``collegium --help`` has to be there at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs ``collegium`` with the process's arguments and ends the process with its exit code."""
    from collegium.cli.entry import run

    sys.exit(run(sys.argv[1:]))
