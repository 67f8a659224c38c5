"""Settings to keys of keys: what encrypts data keys and the keys of files."""

from __future__ import annotations

import os

from collegium.config import Settings
from collegium.ports import KeyEncryption


def present_kek(settings: Settings) -> KeyEncryption:
    """The key of keys that wraps new keys. Raises ``UsageError``."""
    from collegium.adapters.encryption.kek_environment import kek_from_environment
    from collegium.adapters.encryption.kek_file import kek_from_file
    from collegium.adapters.encryption.kms import kek_from_plugin

    wanted = settings.encryption
    if wanted.kek_file is not None:
        return kek_from_file(wanted.kek_file)
    if wanted.kek_variable is not None:
        return kek_from_environment(wanted.kek_variable, os.environ)
    return kek_from_plugin(str(wanted.kms), wanted.kms_options)


def previous_keks(settings: Settings) -> list[KeyEncryption]:
    """Those that may have wrapped older keys. Raises ``UsageError``."""
    from collegium.adapters.encryption.kek_environment import kek_from_environment
    from collegium.adapters.encryption.kek_file import kek_from_file

    wanted = settings.encryption
    previous: list[KeyEncryption] = [kek_from_file(path) for path in wanted.previous_kek_files]
    return previous + [kek_from_environment(name, os.environ) for name in wanted.previous_kek_variables]
