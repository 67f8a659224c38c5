"""The limiter: takes from the caller's buckets before a request is answered."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from collegium.domain.errors import RateLimited, StoreError
from collegium.domain.principal import Principal
from collegium.domain.rate import Rate
from collegium.ports import Clock, Quota
from collegium.server.headers import STANDING
from collegium.server.problem import problem
from collegium.server.rates.allowance import Allowance, Standing
from collegium.server.rates.policy import Bound, RatePolicy, bounds

SOON_S: Final = 0.25
"""Whoever meets the cap on requests at the same time tries again this soon."""
_STREAMING: Final = ("/mcp", "/a2a", "/agui")
_WHAT: Final = {
    "key": "requests with this key",
    "tenant": "requests of this tenant",
    "route": "requests of this kind",
    "refusals": "failed attempts from this address",
}
_MOST_ASKED: Final = 2_000


class Stood(NamedTuple):
    """How every bucket stands that a request took from.

    Attributes:
        policy: What is allowed, as a header.
        taken: From which, and how it stands.
    """

    policy: tuple[bytes, bytes]
    taken: Sequence[tuple[Bound, Standing]]


_log = logging.getLogger("collegium.rates")


class Limiter:
    """Counts requests, and refuses what is too much.

    Args:
        policy: What is allowed.
        quota: Gives the shared buckets, once they can be reached.
        clock: Tells when.
    """

    def __init__(self, policy: RatePolicy, *, quota: Callable[[], Quota | None], clock: Clock) -> None:
        self.policy = policy
        self._quota = quota
        self._clock = clock
        self._allowance: Allowance | None = None
        self._under_way: dict[str, int] = {}
        self._asked: dict[tuple[str, str, str, str], tuple[Sequence[Bound], tuple[bytes, bytes]]] = {}

    def counts(self, principal: Principal) -> bool:
        """Whether requests of ``principal`` are counted: whoever uses this machine alone harms nobody else."""
        return principal.kind != "local"

    async def take(self, principal: Principal, method: str, path: str) -> Stood | None:
        """How every bucket stands after the request was counted. Raises ``RateLimited``; then nothing was."""
        allowance = self._open()
        if allowance is None or not self.counts(principal):
            return None
        stood: list[tuple[Bound, Standing]] = []
        asked, policy = self._bounds(principal, method, path)
        for bound in asked:
            try:
                standing = await allowance.take(bound.bucket, bound.rate, bound.cost)
            except StoreError as error:
                # Whoever counts is away: the work goes on, as everything does without Redis.
                _log.warning("requests are not counted now: %s", error)
                return None
            if standing.wait_s > 0.0:
                for taken, _ in stood:
                    allowance.give_back(taken.bucket, taken.cost)
                raise _refused(bound, standing)
            stood.append((bound, standing))
        if allowance.is_crowded:
            await allowance.sweep()
        return Stood(policy, stood) if stood else None

    def _bounds(self, principal: Principal, method: str, path: str) -> tuple[Sequence[Bound], tuple[bytes, bytes]]:
        """What a request takes from, and the header that says so; the same for requests that are alike."""
        credential = principal.credential or principal.id
        place = (principal.tenant, credential, method, path if self.policy.routes else "")
        found = self._asked.get(place)
        if found is None:
            asked = bounds(self.policy, tenant=principal.tenant, credential=credential, method=method, path=path)
            said = ", ".join(
                f'"{b.name}";q={b.rate.burst:.0f};w={math.ceil(b.rate.burst / b.rate.per_s)}' for b in asked
            )
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            found = self._asked[place] = (asked, (b"ratelimit-policy", said.encode()))
        return found

    def enter(self, tenant: str) -> None:
        """One more request of ``tenant`` is being answered. Raises ``RateLimited`` for one too many."""
        most, now = self.policy.concurrent, self._under_way.get(tenant, 0)
        if most is not None and now >= most:
            raise RateLimited(
                f"{most} requests of this tenant are being answered already: wait for one of them",
                retry_after_s=SOON_S,
                limit="concurrent",
            )
        self._under_way[tenant] = now + 1

    def leave(self, tenant: str) -> None:
        """One request of ``tenant`` was answered."""
        now = self._under_way[tenant] - 1
        if now:
            self._under_way[tenant] = now
        else:
            del self._under_way[tenant]

    def require_trusted(self, address: str) -> None:
        """Raises ``RateLimited`` where there were too many failed attempts from ``address``."""
        rate, allowance = self.policy.refusals, self._allowance
        if rate is None or allowance is None:
            return
        wait_s = allowance.closed_s(_refusals_of(address))
        if wait_s > 0.0:
            raise _refused(Bound("refusals", _refusals_of(address), rate, 0.0), Standing(wait_s, 0.0))

    async def note_failure(self, address: str) -> None:
        """Counts a failed attempt from ``address``."""
        rate, allowance = self.policy.refusals, self._open()
        if rate is None or allowance is None or not address:
            return
        try:
            standing = await allowance.take(_refusals_of(address), rate, 1.0)
        except StoreError as error:
            _log.warning("refusals are not counted now: %s", error)
            return
        if standing.wait_s > 0.0:
            _log.warning("too many failed attempts from %s; a proxy is to be named in server.trusted_proxies", address)

    def _open(self) -> Allowance | None:
        if self._allowance is None and (quota := self._quota()) is not None:
            self._allowance = Allowance(quota, clock=self._clock)
        return self._allowance


def is_stream(scope: Scope) -> bool:
    """Whether the answer may last as long as a run does."""
    if scope["path"].startswith(_STREAMING):
        return True
    for name, value in scope["headers"]:  # noqa: SIM110  asked of each request: a generator costs as much as all the rest
        if name == b"accept" and b"text/event-stream" in value:
            return True
    return False


async def refuse(scope: Scope, receive: Receive, send: Send, error: RateLimited) -> None:
    """Answers 429 with what to wait for; a socket is closed."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": error.code})
        return
    headers = {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    limit = error.fields.get("limit")
    await problem(Request(scope), 429, error.code, error.message, headers=headers, limit=limit)(scope, receive, send)


def _refusals_of(address: str) -> str:
    """The bucket of failed attempts from there."""
    return f"api:refusals:{address}"


def _refused(bound: Bound, standing: Standing) -> RateLimited:
    what = {"key": "this key", "tenant": "this tenant", "route": "this route", "refusals": "failed attempts"}[
        bound.name
    ]
    return RateLimited(
        f"too many requests: {what} allows {_words(bound.rate)}; try again in {max(0.1, standing.wait_s):.1f} s",
        retry_after_s=standing.wait_s,
        limit=bound.name,
    )


def _words(rate: Rate) -> str:
    return f"{rate.per_s * 60:g} a minute and {rate.burst:g} at once"


def told(stood: Stood) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """Headers that say how the buckets stand; the last of them is another one each time.

    Source: RateLimit header fields for HTTP, draft-ietf-httpapi-ratelimit-headers-10.
    """
    said = ", ".join(
        [
            f'"{b.name}";r={math.floor(s.left)};t={math.ceil(max(0.0, b.rate.burst - s.left) / b.rate.per_s)}'
            for b, s in stood.taken
        ]
    )
    return stood.policy, (STANDING, said.encode())
