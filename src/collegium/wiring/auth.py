"""Who may use a Collegium: keys and their pepper, from settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from collegium.adapters.clock import SystemClock
from collegium.adapters.pepper import check_pepper, read_or_make_pepper, read_pepper
from collegium.app import Collegium
from collegium.config import Settings
from collegium.runtime.keys import Keys

PEPPER_VARIABLE = "COLLEGIUM_PEPPER"


def pepper_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> bytes:
    """The pepper: of the file that the settings name, of the environment, or of the data folder, where it is made.

    Raises ``UsageError``, ``StoreReadOnly``.
    """
    if settings.auth.pepper_file is not None:
        return read_pepper(settings.auth.pepper_file)
    if given := environ.get(PEPPER_VARIABLE, ""):
        return check_pepper(given.encode(), PEPPER_VARIABLE)
    return read_or_make_pepper(settings.data_dir / "pepper")


def keys_of(app: Collegium, settings: Settings) -> Keys:
    """The API keys in the stores of ``app``."""
    return Keys(app.stores.records, clock=SystemClock(), pepper=pepper_of(settings), entropy=os.urandom)
