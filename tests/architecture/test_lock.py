"""The lock files are in step with pyproject.toml, name no host, and keep torch out."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[str]] = PYPROJECT["dependency-groups"]
NOT_IN_ALL = {"finetune", "all"}
LOCKS = {
    "lock": (sorted(set(EXTRAS) - NOT_IN_ALL - {"pinecone", "weaviate", "langchain", "otlp"}), ["dev"]),
    "all": (sorted(set(EXTRAS) - NOT_IN_ALL), []),
    "bench": (["local", "server", "postgres", "redis", "openai"], ["bench"]),
}
HEAVY = re.compile(r"^(torch|triton|nvidia-|tensorflow|jax|cuda)")


def asked(lock: str) -> list[Requirement]:
    """Returns what pyproject.toml asks of the lock: the base, the extras and the groups."""
    extras, groups = LOCKS[lock]
    lines = list(PYPROJECT["project"]["dependencies"])
    lines += [line for extra in extras for line in EXTRAS[extra]]
    lines += [line for group in groups for line in GROUPS[group]]
    return [Requirement(line) for line in lines]


def locked(lock: str) -> dict[str, tuple[list[str], bool]]:
    """Returns, per distribution, its pinned versions and whether pyproject.toml asked for it by name."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    found: dict[str, tuple[list[str], bool]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", text):
        pin = re.match(r"([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ \\]+)", block)
        if not pin:
            continue
        versions, direct = found.get(pin[1], ([], False))
        found[pin[1]] = ([*versions, pin[2]], direct or "(pyproject.toml" in block)
        assert "--hash=sha256:" in block, f"{pin[1]} has no hash"
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_is_in_step(lock: str):
    pins = locked(lock)
    requirements = asked(lock)
    for requirement in requirements:
        versions, _ = pins.get(canonicalize_name(requirement.name), ([], False))
        assert versions, f"{requirement} is not in requirements/{lock}.txt: run `make lock`"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: run `make lock`"
    names = {canonicalize_name(r.name) for r in requirements}
    assert {name for name, (_, direct) in pins.items() if direct} == names, "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_host_and_no_path(lock: str):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ |\s/", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_nothing_heavy_slips_in(lock: str):
    assert [name for name in locked(lock) if HEAVY.match(name)] == []


def test_all_is_every_extra_but_finetune():
    (line,) = EXTRAS["all"]
    assert Requirement(line).extras == set(EXTRAS) - NOT_IN_ALL


def test_the_build_backend_is_in_the_development_tools():
    """`make setup` installs collegium without build isolation."""
    backend = {Requirement(line).name for line in PYPROJECT["build-system"]["requires"]}
    assert backend <= {Requirement(line).name for line in GROUPS["dev"]}
