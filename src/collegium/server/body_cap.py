"""A cap on what a request brings: more is refused while it comes in, not once all of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collegium.server.problem import problem

SILENCE_S: Final = 20.0
"""A body of which nothing more comes for so long is given up."""
SLOWEST_BYTES_PER_S: Final = 256.0
"""After ``PATIENCE_S`` a body has to have come at least this fast: whoever trickles holds a place that others need."""
PATIENCE_S: Final = 30.0
DRAINED_BYTES: Final = 16 * 1024 * 1024
DRAINED_S: Final = 5.0
"""A body that is not much too large is read and thrown away: most clients look at the answer only then."""
_CLOSE: Final = {"connection": "close"}
"""What is still to come of the body is not waited for."""


class BodyCap:
    """Refuses bodies that are too large (413) or come too slowly (408).

    Args:
        app: What comes behind.
        usual: Most bytes of a body.
        others: The same by the beginning of the path, where it is another.
    """

    def __init__(self, app: ASGIApp, *, usual: int, others: Mapping[str, int]) -> None:
        self._app = app
        self._usual = usual
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; its body is counted while it is read."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        most = next((cap for begin, cap in self._others.items() if path.startswith(begin)), self._usual)
        told = dict(scope["headers"]).get(b"content-length", b"")
        if told.isdigit() and int(told[:20]) > most:
            is_drained = int(told) <= most + DRAINED_BYTES and await _drained(receive)
            headers = None if is_drained else _CLOSE
            refused = problem(Request(scope), 413, "too_large", _too_large(most), headers=headers)
            await refused(scope, receive, send)
            return
        size, began_s, is_whole = 0, asyncio.get_running_loop().time(), False

        async def counted() -> Message:
            nonlocal size, is_whole
            if is_whole:  # what comes now is that the caller has gone, whenever that may be
                return await receive()
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "nothing more of the body arrived", _CLOSE) from None
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            # These are the exceptions that pass through whoever reads bodies; each becomes a problem.
            if size > most:
                raise HTTPException(413, _too_large(most), _CLOSE)
            elapsed_s = asyncio.get_running_loop().time() - began_s
            if not is_whole and elapsed_s > PATIENCE_S and size < SLOWEST_BYTES_PER_S * elapsed_s:
                raise HTTPException(408, f"the body comes too slowly: {size:,} bytes in {elapsed_s:.0f} s", _CLOSE)
            return message

        await self._app(scope, counted, send)


def _too_large(most: int) -> str:
    return f"the body has more than {most:,} bytes, which is the most that is taken in here"


async def _drained(receive: Receive) -> bool:
    """Whether all of the body has come, before too long."""
    try:
        async with asyncio.timeout(DRAINED_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        return False
    return True
