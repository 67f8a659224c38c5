"""What a vendor's module gives to ``rich.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from pydantic_ai.models import Model as VendorModel
from pydantic_ai.settings import ModelSettings

from collegium.domain.chat import ModelRequest

AnyVendorModel = VendorModel[Any]
"""The parameter is the SDK's client, which nobody touches here."""


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """One vendor's model, ready to be called.

    Attributes:
        model: Of pydantic-ai.
        settings: What this vendor is told beside the messages of a request.
        close: Closes the SDK's client.
        marks_prefix: Whether the end of ``cached_prefix`` is marked in the messages (Anthropic).
        has_stop: Whether the vendor takes stop texts; otherwise the reply is cut here.
    """

    model: AnyVendorModel
    settings: Callable[[ModelRequest], ModelSettings]
    close: Callable[[], Awaitable[None]]
    marks_prefix: bool = False
    has_stop: bool = True
