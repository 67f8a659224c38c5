"""Messages of protocol buffers as plain documents, and back."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict  # type: ignore[import-untyped]  # has no types
from google.protobuf.struct_pb2 import Value  # type: ignore[import-untyped]  # has no types

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def document(message: object) -> Any:
    """A message as JSON has it; a ``Value`` as what it holds."""
    return MessageToDict(message)


def plain(value: object) -> Any:
    """Any value as JSON has it."""
    return msgspec.json.decode(_ENCODER.encode(value))


def data(value: object) -> Any:
    """Any value as the ``Value`` of a data part."""
    return ParseDict(plain(value), Value())
