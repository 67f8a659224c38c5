"""Server-sent events, as far as model APIs use them: the ``data`` of each event, under a cap of bytes.

Source: WHATWG HTML Living Standard, section 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

from collegium.domain.errors import ModelReplyError


class EventParser:
    """Bytes in, the data of whole events out; comments, names, ids and empty events are skipped.

    Args:
        max_bytes: What a server may send in all.
        where: Named in the error.
    """

    def __init__(self, *, max_bytes: int, where: str) -> None:
        self._max_bytes = max_bytes
        self._where = where
        self._total = 0
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that ``chunk`` completes.

        Raises:
            ModelReplyError: the server has sent more than ``max_bytes``.
        """
        self._total += len(chunk)
        if self._total > self._max_bytes:
            raise ModelReplyError(
                f"{self._where} sent more than {self._max_bytes:,} bytes without ending its reply; "
                "the call was given up",
                url=self._where,
            )
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events

    def end(self) -> list[bytes]:
        """A last event without its closing blank line: the standard drops it, several servers forget that line."""
        last = self._rest.strip()
        if last.startswith(b"data:"):
            self._data.append(last[5:].removeprefix(b" "))
        return [b"\n".join(self._data)] if self._data else []
