"""Each import contract of pyproject.toml is seen to fail on a planted violation, and holds without one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {c["id"]: c["name"] for c in PYPROJECT["tool"]["importlinter"]["contracts"]}

# The staircase, top to bottom; the rooms of one step may not know each other.
STAIRCASE = [
    ["cli", "testing"],
    ["client"],
    ["wiring"],
    ["config", "server", "adapters"],
    ["app"],
    ["learning"],
    ["runtime"],
    ["agents"],
    ["oversight", "tools", "knowledge"],
    ["bus"],
    ["telemetry"],
    ["ports"],
    ["domain"],
]
SINGLE_FILES = {"app", "telemetry"}


@dataclass(frozen=True)
class Violation:
    """Imports planted in modules (dotted, below collegium), and the contract they must break."""

    contract: str
    imports: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.contract}: " + ", ".join(f"{module} > {statement}" for module, statement in self.imports)


def inside(room: str, number: int) -> str:
    """Returns a module of the room in which to plant."""
    return room if room in SINGLE_FILES else f"{room}.planted{number}"


UPWARD = [(lower, upper) for above, below in pairwise(STAIRCASE) for upper in above for lower in below]
SIDEWAYS = [(a, b) for step in STAIRCASE for a in step for b in step if a != b]
FORBIDDEN = next(c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "vendors")
VENDORS = [Violation("vendors", (("agents.planted", f"import {v}"),)) for v in FORBIDDEN["forbidden_modules"]]
OTHERS = [
    Violation("staircase", (("attic.planted", "import json"),)),
    Violation("vendors", (("domain.planted", "from google import genai"),)),
    Violation("vendors", (("cli.planted", "from subprocess import run"),)),
    Violation("vendors", (("client.planted", "import aiohttp"),)),
    Violation(
        "adapters",
        (("cli.planted", "from collegium.adapters import planted"), ("adapters.planted", "import json")),
    ),
    Violation(
        "adapters",
        (("app", "import collegium.adapters.planted.deep"), ("adapters.planted.deep", "import json")),
    ),
    Violation("terminal", (("runtime.planted", "import rich.console"),)),
    Violation("terminal", (("app", "import click"),)),
    Violation("settings", (("knowledge.planted", "import pydantic_settings"),)),
    Violation("settings", (("wiring.planted", "import pydantic_settings"),)),
    Violation("client", (("client.planted", "import collegium.ports.planted"), ("ports.planted", "import json"))),
    Violation("client", (("client.planted", "import collegium.app"), ("app", "import json"))),
    Violation(
        "cycles",
        (
            ("domain.planted", "import collegium.domain.weed"),
            ("domain.weed", "import collegium.domain.planted"),
        ),
    ),
    Violation(
        "cycles",
        (
            ("adapters.a.planted", "import collegium.adapters.b.planted"),
            ("adapters.b.planted", "import collegium.adapters.a.planted"),
        ),
    ),
]
ALLOWED = [
    ("adapters.planted", "import aiohttp, sqlite3, subprocess, google.genai"),
    ("server.planted", "import starlette.routing"),
    ("client.planted", "import httpx"),
    ("cli.planted", "import click, rich.live, collegium.wiring"),
    ("config.planted", "import pydantic_settings"),
    ("wiring.planted", "import collegium.adapters.planted"),
    ("testing.planted", "import collegium.adapters.planted"),
    ("runtime.planted", "import msgspec, asyncio, collegium.bus.planted"),
    ("bus.planted", "import json"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources and of the contracts, free to be damaged."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, module: str, statement: str) -> None:
    """Appends the import to the module, which is made, with its packages, where it does not exist."""
    *packages, name = module.split(".")
    folder = tree / "src" / "collegium"
    for package in packages:
        folder /= package
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
    file = folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
    with file.open("a") as out:
        out.write(f"\n{statement}\n")


def lint(tree: Path) -> tuple[int, set[str], str]:
    """Returns the exit code, the ids of the broken contracts and the output of lint-imports."""
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert set(verdicts) == set(CONTRACTS.values()), done.stdout + done.stderr
    return done.returncode, {i for i, name in CONTRACTS.items() if verdicts[name] == "BROKEN"}, done.stdout


def test_the_contracts_hold(tree: Path):
    code, broken, output = lint(tree)
    assert (code, broken) == (0, set()), output


def test_what_is_allowed_is_allowed(tree: Path):
    for module, statement in ALLOWED:
        plant(tree, module, statement)
    code, broken, output = lint(tree)
    assert (code, broken) == (0, set()), output


def test_every_step_up_or_aside_is_refused(tree: Path):
    """Each is planted in modules of its own, and named: it is the graph that takes long, and one does for all."""
    wanted = set()
    for number, (room, other) in enumerate(UPWARD + SIDEWAYS):
        module, target = inside(room, number), inside(other, number)
        plant(tree, module, f"import collegium.{target}")
        plant(tree, target, "import json")
        wanted.add(f"collegium.{module} -> collegium.{target}")
    code, broken, output = lint(tree)
    assert code == 1
    assert "staircase" in broken
    assert wanted - set(re.findall(r"(collegium[.\w]* -> collegium[.\w]*) \(l\.\d+\)", output)) == set(), output


@pytest.mark.parametrize("violation", OTHERS, ids=str)
def test_a_planted_violation_breaks_its_contract(tree: Path, violation: Violation):
    for module, statement in violation.imports:
        plant(tree, module, statement)
    code, broken, output = lint(tree)
    assert code == 1
    assert violation.contract in broken, output


def test_every_vendor_is_refused(tree: Path):
    for number, violation in enumerate(VENDORS):
        for _, statement in violation.imports:
            plant(tree, f"agents.planted{number}", statement)
    _, broken, output = lint(tree)
    assert "vendors" in broken
    refused = {name for name in FORBIDDEN["forbidden_modules"] if f"is not allowed to import {name}:" in output}
    assert refused == set(FORBIDDEN["forbidden_modules"])


def test_every_contract_has_a_violation():
    assert {v.contract for v in OTHERS} == set(CONTRACTS)
