"""Reads: lean routes, answered straight behind the gate.

A router asks one route after the other in layers that hand on exceptions and messages. What is read most is looked for
here first and answered without them, by the same functions; whatever is not found goes the router's way. Answers that
are made of the store alone are sent again until anything is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial

from starlette.convertors import StringConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.domain.errors import CollegiumError
from collegium.domain.principal import Principal
from collegium.server.live.hub import Hub
from collegium.server.problem import from_error
from collegium.server.rest.openapi import Lean


class Reads:
    """Answers ``GET`` of lean routes whose answers are at hand; everything else goes to ``app``.

    Args:
        app: The router with all routes, these among them.
        routes: The lean ones, in their order.
        hub: Gives where documents are kept that were made a moment ago.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Lean], hub: Callable[[], Hub]) -> None:
        self._app = app
        self._hub = hub
        self._routes = [
            (one.route.path_regex, one.route.endpoint, one.is_of_store)
            for one in routes
            if "GET" in (one.route.methods or ()) and _is_plain(one.route)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a read that is no stream."""
        if scope["method"] != "GET" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        place = _place(scope)
        response = None if place is None else self._kept(place)
        if response is None:
            response = await self._made(scope, receive, place)
        await (self._app if response is None else response)(scope, receive, send)

    def _kept(self, place: Hashable) -> Response | None:
        """What was answered there before, and would be answered now."""
        try:
            found: Response | None = self._hub().snapshots.ready.kept(place)
        except CollegiumError:
            return None  # the stores have not answered yet, or do not: whoever needs them says so
        return found

    async def _made(self, scope: Scope, receive: Receive, place: Hashable | None) -> Response | None:
        """What is answered by a lean route; None where there is none."""
        for regex, endpoint, is_of_store in self._routes:
            if found := regex.match(scope["path"]):
                scope["path_params"] = found.groupdict()
                request = Request(scope, receive)
                make: Callable[[], Awaitable[Response]] = partial(endpoint, request)
                try:
                    if place is None or not is_of_store:
                        return await make()
                    return await self._hub().snapshots.ready.get(place, make, size=_size)
                except CollegiumError as error:
                    return from_error(request, error)
        return None


def _place(scope: Scope) -> Hashable | None:
    """What is asked, and all by which it is decided what the caller may see; None for what is asked on a condition."""
    principal: Principal | None = scope["state"].get("principal")
    if principal is None:
        return None
    for name, _ in scope["headers"]:
        if name == b"if-none-match":
            return None
    seen = (principal.tenant, principal.projects, principal.scopes)
    return ("answer", *seen, scope["path"], scope["query_string"])


def _size(response: Response) -> int | None:
    return len(response.body) if response.status_code == 200 else None


def _is_plain(route: Route) -> bool:
    """Whether the parts of its path are taken as they are."""
    return all(isinstance(one, StringConvertor) for one in route.param_convertors.values())
