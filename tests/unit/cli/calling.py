"""Commands called in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collegium.cli import entry


def collegium(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = entry.run(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    """The one document on standard output of a command that succeeds."""
    code, out, err = collegium(capsys, *argv, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found
