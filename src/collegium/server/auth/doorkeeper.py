"""The doorkeeper: tells who asks, by a key, a token, a session of the console or a ticket; and when nobody need say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from starlette.requests import HTTPConnection

from collegium.app import Collegium
from collegium.domain.api_key import PREFIX
from collegium.domain.errors import NotAllowed, NotAuthenticated, StoreUnavailable
from collegium.domain.principal import Principal, local
from collegium.ports import Clock
from collegium.runtime.keys import Keys
from collegium.server.auth.cookies import Cookies
from collegium.server.auth.login import Login
from collegium.server.auth.oidc import MAX_TOKEN_CHARS, Oidc
from collegium.server.auth.origin import check_sender
from collegium.server.auth.slips import NewSlip, Slips

TICKET_S: Final = 30.0
_SHOW: Final = "show an API key or a token: `Authorization: Bearer ...`; `collegium keys create` makes a key"


class Secrets(NamedTuple):
    """What credentials are kept with.

    Attributes:
        pepper: The installation's secret.
        entropy: ``entropy(n)`` returns n random bytes.
    """

    pepper: bytes
    entropy: Callable[[int], bytes]


class DoorPolicy(NamedTuple):
    """Who may come in.

    Attributes:
        tenant: Whose data those see who need not say who they are.
        may_be_open: Whether nobody need say as long as there is no key; on loopback alone.
        session_s: A session of the console lasts so long.
        public_url: What browsers know the server by, where it is not ``Host``.
    """

    tenant: str
    may_be_open: bool
    session_s: float = 28_800.0
    public_url: str | None = None


class _Desk(NamedTuple):
    app: Collegium
    keys: Keys
    sessions: Slips
    tickets: Slips


class Doorkeeper:
    """Implements ``Authenticator``.

    Args:
        opened: Gives the Collegium in whose stores keys are kept, once they answer.
        policy: Who may come in.
        secrets: What credentials are kept with.
        clock: Tells what has expired.
        oidc: Checks tokens of the identity provider; without one there are none.
        login: Logs people in there; without one they log in by key alone.
    """

    def __init__(
        self,
        opened: Callable[[], Collegium | None],
        policy: DoorPolicy,
        *,
        secrets: Secrets,
        clock: Clock,
        oidc: Oidc | None = None,
        login: Login | None = None,
    ) -> None:
        self.policy = policy
        self.login = login
        self.cookies = Cookies(policy.public_url, pepper=secrets.pepper)
        self._opened = opened
        self._secrets = secrets
        self._clock = clock
        self._oidc = oidc
        self._made: _Desk | None = None

    @property
    def keys(self) -> Keys:
        """The API keys. Raises ``StoreUnavailable`` as long as the stores have not answered."""
        return self._desk.keys

    async def is_open(self) -> bool:
        """Whether nobody need say who they are: until the first key is made, on loopback."""
        return self.policy.may_be_open and not await self.keys.any()

    async def identify(self, connection: HTTPConnection) -> Principal:
        """Whoever asks.

        A credential that is shown counts, and is never passed over for another one. Tickets are for sockets and event
        streams, which browsers give no header.

        Raises:
            NotAuthenticated: nothing is shown, or nothing that holds.
            NotAllowed: a change with a session's cookie that no page of this server has sent.
            StoreUnavailable: the stores have not answered yet.
        """
        shown = connection.headers.getlist("authorization")
        if shown:
            return await self._by_header(shown)
        if await self.is_open():
            return local(self.policy.tenant)
        ticket = connection.query_params.get("ticket")
        if ticket is not None and _may_show_ticket(connection):
            return await self._by_ticket(ticket)
        text = self.cookies.session(connection)
        if text is not None:
            principal = await self.by_session(text)
            check_sender(connection, self.policy.public_url, self.cookies.token(text))
            return principal
        raise NotAuthenticated(_SHOW)

    async def still_valid(self, principal: Principal) -> bool:
        """Whether what it showed once still holds: to be asked now and then for whoever stays connected."""
        if principal.is_over(self._clock.now()):
            return False
        if principal.kind == "local":
            return await self.is_open()
        if principal.session and await self._desk.sessions.find(principal.session) is None:
            return False
        kind, _, name = principal.credential.partition(":")
        return kind != "key" or await self.keys.principal(name) is not None

    async def open_session(self, principal: Principal) -> NewSlip:
        """A session of the console for ``principal``."""
        return await self._desk.sessions.make(principal, self.policy.session_s)

    async def by_session(self, text: str) -> Principal:
        """Whoever has this session. Raises ``NotAuthenticated``."""
        digest = self._desk.sessions.digest(text)
        slip = await self._desk.sessions.find(digest)
        found = None if slip is None else await self._now(slip.principal)
        if slip is None or found is None:
            raise NotAuthenticated("the session is over: log in again")
        return msgspec.structs.replace(found, expires_at=slip.expires_at, session=digest)

    async def end_session(self, text: str) -> None:
        """Ends a session, at once; one that is over is no error."""
        await self._desk.sessions.drop(self._desk.sessions.digest(text))

    async def make_ticket(self, principal: Principal) -> NewSlip:
        """A ticket for one socket or stream of ``principal``, within half a minute."""
        return await self._desk.tickets.make(principal, TICKET_S)

    async def _by_header(self, shown: list[str]) -> Principal:
        scheme, _, token = shown[0].strip().partition(" ")
        token = token.strip()
        if len(shown) > 1 or scheme.lower() != "bearer" or not token:
            raise NotAuthenticated(_SHOW)
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise NotAuthenticated(f"a token has at most {MAX_TOKEN_CHARS:,} characters of ASCII")
        if token.startswith(PREFIX):
            return await self.keys.identify(token)
        if self._oidc is None:
            raise NotAuthenticated("this is no API key, and tokens of an identity provider are not taken here")
        return await self._oidc.identify(token)

    async def _by_ticket(self, text: str) -> Principal:
        slip = await self._desk.tickets.take(text)
        # Only for this moment was it bound to half a minute: what came in by it stays as long as its own credential.
        if slip is None or not await self.still_valid(slip.principal):
            raise NotAuthenticated("the ticket was used, is older than half a minute, or is none: ask for another one")
        return slip.principal

    async def _now(self, principal: Principal) -> Principal | None:
        """What a principal may do now: a key is looked at again."""
        kind, _, name = principal.credential.partition(":")
        return await self.keys.principal(name) if kind == "key" else principal

    @property
    def _desk(self) -> _Desk:
        app = self._opened()
        if app is None:
            raise StoreUnavailable("the stores do not answer yet: try again")
        if self._made is None or self._made.app is not app:
            records = app.stores.records
            pepper, entropy = self._secrets
            self._made = _Desk(
                app,
                Keys(records, clock=self._clock, pepper=pepper, entropy=entropy),
                Slips(records, "session", clock=self._clock, pepper=pepper, entropy=entropy),
                Slips(records, "ticket", clock=self._clock, pepper=pepper, entropy=entropy),
            )
        return self._made


def _may_show_ticket(connection: HTTPConnection) -> bool:
    if connection.scope["type"] == "websocket":
        return True
    is_stream = "text/event-stream" in connection.headers.get("accept", "")
    if connection.scope["method"] != "GET" or not is_stream:
        raise NotAllowed("tickets are for sockets and event streams: show the key itself")
    return True
