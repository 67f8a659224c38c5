"""``python -m tests.chaos.lone FOLDER``: one attempt that a worker orders on standard input."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from collegium.wiring import work_alone
from tests.chaos.far_side import FarSide, chaos_tools

if __name__ == "__main__":
    asyncio.run(work_alone(sys.stdin.buffer.read(), tools=chaos_tools(FarSide(Path(sys.argv[1])))))
