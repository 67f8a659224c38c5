"""The wheel, installed outside the checkout, runs, and the base install stays small."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_DISTRIBUTIONS = 25
LIMIT_BYTES = 60 * 1024 * 1024

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

MEASURE = """
import importlib.metadata as metadata, json, pathlib, sys
sizes = {}
for distribution in metadata.distributions():
    name = distribution.metadata["Name"].lower()
    if name not in ("pip", "setuptools"):
        files = (pathlib.Path(distribution.locate_file(f)) for f in distribution.files or ())
        sizes[name] = sum(f.stat().st_size for f in files if f.exists())
print(json.dumps(sizes))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs outside the checkout, with nothing of it on the path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sources with the locked build backend."""
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment outside the checkout that holds the base install and nothing else."""
    home = tmp_path_factory.mktemp("base")
    venv.create(home / "venv")
    pip = (sys.executable, "-m", "pip", "--python", home / "venv/bin/python")
    done = run(*pip, "install", "--quiet", wheel, cwd=home)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot install the base: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return home


def test_the_base_install_is_small(installed: Path):
    done = run(installed / "venv/bin/python", "-c", MEASURE, cwd=installed)
    sizes: dict[str, int] = json.loads(done.stdout)
    total = sum(sizes.values())
    print(f"base install: {len(sizes)} distributions, {total / 1024 / 1024:.1f} MB")
    assert "numpy" not in sizes
    assert len(sizes) <= LIMIT_DISTRIBUTIONS, sorted(sizes)
    assert total <= LIMIT_BYTES, sorted(sizes.items(), key=lambda item: -item[1])[:5]


def test_the_base_install_imports(installed: Path):
    script = "import collegium; print(collegium.__file__, collegium.__version__)"
    done = run(installed / "venv/bin/python", "-c", script, cwd=installed)
    assert done.returncode == 0, done.stderr
    file, version = done.stdout.split()
    assert Path(file).is_relative_to(installed)
    assert version


def test_the_wheel_carries_types_and_licence(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert "collegium/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("collegium/", "collegium-"))]


def test_the_command_runs(installed: Path):
    done = run(installed / "venv/bin/collegium", "version", cwd=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_names_every_way_in(installed: Path):
    done = run(installed / "venv/bin/collegium", "--help", cwd=installed)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


SCRIPT = """
[profile]
can_plan = false

[[step]]
expect = ["Ann owns the payments service."]
reply = "Ann owns the payments service [1]."
"""


def test_the_base_install_answers_over_files_with_a_model_it_is_given(installed: Path):
    home = installed / "use"
    (home / "docs").mkdir(parents=True)
    (home / "docs/owners.md").write_text("# Owners\n\nAnn owns the payments service.\n")
    (home / "script.toml").write_text(SCRIPT)
    asked = ("run", "Who owns the payments service?", "--files", "docs", "--model", "scripted:script.toml")
    done = run(installed / "venv/bin/collegium", *asked, "--data-dir", home / "data", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["status"] == "succeeded"
    (place,) = report["answer"]["citations"]
    assert (home / "docs" / place["document"]).read_text()[place["start"] : place["end"]] == place["quote"]


def test_the_base_install_without_a_model_names_the_extra_and_fetches_nothing(installed: Path):
    data = installed / "bare"
    done = run(installed / "venv/bin/collegium", "run", "hello", "--data-dir", data, cwd=installed)
    assert done.returncode == 2
    assert "collegium[local]" in done.stderr
    assert not list(data.glob("models/*"))
