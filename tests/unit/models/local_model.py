"""The real default model for tests, pulled once for this user into a cache folder."""

import os
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.catalogue import DEFAULT_LOCAL_MODEL
from collegium.adapters.models.pull import pull
from collegium.domain.errors import ModelUnavailable

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "collegium-tests" / "models"


async def default_model() -> Path:
    """The path of the model file; skips the test without xllamacpp or an index, except where CI is set."""
    pytest.importorskip("xllamacpp")
    try:
        return await pull(DEFAULT_LOCAL_MODEL, models_dir=CACHE, clock=SystemClock())
    except ModelUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
