"""Draws docs/images/demo.svg: what the command of `make demo` prints, run now, in a terminal of 100 columns.

.venv/bin/python examples/draw_demo.py
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
GOAL = re.search(r"^DEMO_GOAL \?= (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
WIDTH = 100


def terminal(command: list[str], environ: dict[str, str]) -> str:
    """What ``command`` writes to a terminal, all frames of its live view included."""
    main, child = pty.openpty()
    os.set_inheritable(child, True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=child, stderr=child, env=environ, cwd=ROOT)
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    process.wait()
    return written.decode("utf-8", "replace")


def last_frame(written: str) -> str:
    """The screen at the end: the live view is drawn over itself with cursor movements, of which the last counts."""
    lines: list[str] = [""]
    row = 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif (up := re.fullmatch(r"\x1b\[(\d*)A", piece)) is not None:
            row = max(0, row - int(up[1] or 1))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece == "\r" or re.fullmatch(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", piece):
            continue
        else:
            lines[row] += piece
    return "\n".join(lines)


def main() -> None:
    """Runs the demo and writes the picture."""
    goal = GOAL[1] if GOAL is not None else ""
    command = ["run", goal, "--files", "examples/handbook/docs", "--model", "local:smollm2-135m-instruct"]
    with tempfile.TemporaryDirectory() as data:
        size = {"COLUMNS": str(WIDTH), "LINES": "60", "TERM": "xterm-256color"}
        environ = {**os.environ, **size, "COLLEGIUM_DATA_DIR": data}
        subprocess.run(
            [sys.executable, "-m", "collegium.cli", "models", "pull", "smollm2-135m-instruct"],
            env=environ, check=True, capture_output=True,
        )  # fmt: skip
        out = last_frame(terminal([sys.executable, "-m", "collegium.cli", *command], environ))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f'$ collegium run "{goal}" --files examples/handbook/docs', style="bold"))
    console.print(Text.from_ansi(out.strip("\n")))
    (ROOT / "docs" / "images" / "demo.svg").write_text(console.export_svg(title="collegium"), "utf-8")


if __name__ == "__main__":
    main()
