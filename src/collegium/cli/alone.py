"""``python -m collegium.cli.alone``: works on the one attempt that a worker orders on standard input, and ends.

No command for people: workers start it for tasks that have killed their worker twice.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from collegium.wiring import work_alone


def main() -> None:
    """Carries out the order on standard input."""
    asyncio.run(_until_stopped(sys.stdin.buffer.read()))


async def _until_stopped(order: bytes) -> None:
    working = asyncio.ensure_future(work_alone(order))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    await asyncio.wait([working])
    if not working.cancelled():
        working.result()


if __name__ == "__main__":
    main()
