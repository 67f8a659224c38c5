"""A key service that somebody else has written, named as ``module:factory``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from collegium.domain.errors import UsageError
from collegium.ports import KeyEncryption


def kek_from_plugin(name: str, options: Mapping[str, str]) -> KeyEncryption:
    """What ``factory(**options)`` gives. Raises ``UsageError`` where that is no ``KeyEncryption``."""
    module, separator, attribute = name.partition(":")
    if not separator or not module or not attribute:
        raise UsageError(f"[encryption] kms = {name!r}: write it as module:factory", kms=name)
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"[encryption] kms = {name!r} cannot be loaded: {error}", kms=name) from error
    try:
        made = factory(**options)
    except TypeError as error:
        raise UsageError(f"[encryption] kms = {name!r} does not take the options: {error}", kms=name) from error
    if not all(hasattr(made, part) for part in ("id", "wrap", "unwrap")):
        raise UsageError(f"[encryption] kms = {name!r} gave {type(made).__name__}, which has no id, wrap and unwrap")
    return cast("KeyEncryption", made)
