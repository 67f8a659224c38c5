"""What every test gets: no provider key, no setting of this machine, a data folder of its own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("collegium", deadline=None, print_blob=True)
settings.load_profile("collegium")

PROVIDER_VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_BASE_URL",
    "GEMINI_BASE_URL",
    "OPENAI_COMPATIBLE_API_KEY",
    "DATABASE_URL",
    "REDIS_URL",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Removes keys and ``COLLEGIUM_*`` and points the data folder to the test's own."""
    for name in list(os.environ):
        if name in PROVIDER_VARIABLES or name.startswith("COLLEGIUM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLLEGIUM_DATA_DIR", str(tmp_path / "collegium-data"))
