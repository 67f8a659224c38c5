"""The house keeps its habits: names of rooms, size of files, a start without vendors."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "collegium"
MODULES = sorted(SOURCES.rglob("*.py"))
BANNED_NAMES = {
    "utils",
    "util",
    "core",
    "base",
    "common",
    "helpers",
    "helper",
    "manager",
    "internal",
    "_internal",
    "misc",
}
LIMIT_LINES = 400


def vendors() -> set[str]:
    """Returns the third-party modules that some room may not import, and numpy."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = {m for c in contracts if c["type"] == "forbidden" for m in c["forbidden_modules"] if "." not in m}
    return (forbidden | {"numpy"}) - sys.stdlib_module_names


def loaded_by(statement: str) -> set[str]:
    """Returns the top-level modules in a fresh interpreter after the statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_room_has_a_name_that_says_nothing():
    named = {path for path in SOURCES.rglob("*") if path.stem in BANNED_NAMES}
    assert not named, f"name them by a noun of the glossary: {sorted(map(str, named))}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(SOURCES).as_posix())
def test_a_source_file_is_one_noun(module: Path):
    lines = len(module.read_text().splitlines())
    assert lines <= LIMIT_LINES, f"{lines} lines, at most {LIMIT_LINES}: usually two nouns; split the file"


def test_every_package_says_what_it_is():
    silent = [m for m in MODULES if m.read_text().strip() and not ast.get_docstring(ast.parse(m.read_text()))]
    assert not silent, f"no module docstring: {silent}"


def test_adapters_are_reached_by_their_own_module():
    """`from collegium.adapters import X` would load every vendor and slip past the contract."""
    package = SOURCES / "adapters" / "__init__.py"
    body = ast.parse(package.read_text()).body if package.exists() else []
    assert len(body) <= 1, "collegium/adapters/__init__.py holds its docstring and nothing else"


def test_import_loads_no_vendor():
    assert loaded_by("import collegium") & vendors() == set()


def test_commands_that_call_no_model_start_without_its_vendors():
    """`collegium runs ls` opens everything but a model: aiohttp alone would cost it a fifth of a second."""
    loaded = loaded_by("import collegium.wiring, collegium.cli.listing")
    assert loaded & {"aiohttp", "numpy", "openai", "pydantic_ai", "xllamacpp"} == set()


def test_the_vendor_check_sees_a_vendor():
    assert "pydantic_settings" in loaded_by("import pydantic_settings") & vendors()
