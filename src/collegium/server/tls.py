"""TLS of the listener: 1.2 and newer, ciphers with forward secrecy, clients' certificates where an authority is named.

Certificates are renewed every few weeks: the files are looked at again before handshakes, at most once a second, and
connections that are made from then on have the new ones.

Source: RFC 9325 sections 3.1 and 4.2.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from collegium.domain.errors import UsageError

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
LOOK_S: Final = 1.0
_log = logging.getLogger("collegium.tls")


class Certificates:
    """The files of a listener and the context that is made of them.

    Args:
        cert: Certificate and its chain (PEM).
        key: Its private key (PEM), without a password.
        client_ca: Authorities of which every client needs a certificate; None where clients need none.
        look_s: How often the files are looked at, at most.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None = None,
        *,
        look_s: float = LOOK_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._look_s, self._monotonic = look_s, monotonic
        self._seen = self._stamps()
        self._current = self._made()
        self._looked_at = monotonic()
        # The one that the listener holds; each handshake then goes on with the newest.
        self.context = self._made()
        self.context.sni_callback = self._before_handshake

    def reload(self) -> bool:
        """Whether the files can be used; where they cannot, what was there before stays in use."""
        try:
            self._seen = self._stamps()
            self._current = self._made()
        except UsageError as error:
            _log.error("the new certificate is not used: %s", error)
            return False
        _log.info("a new certificate is in use")
        return True

    def _before_handshake(
        self, handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        now = self._monotonic()
        if now - self._looked_at >= self._look_s:
            self._looked_at = now
            if self._stamps() != self._seen:
                self.reload()
        handshake.context = self._current

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in (self._cert, self._key, *([self._client_ca] if self._client_ca else [])):
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0))
            else:
                found.append((stat.st_mtime_ns, stat.st_ino))
        return tuple(found)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        _load(self._cert, "tls_cert", lambda: context.load_cert_chain(self._cert, self._key, password=_no_password))
        ca = self._client_ca
        if ca is not None:
            _load(ca, "tls_client_ca", lambda: context.load_verify_locations(ca))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _load(path: Path, setting: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise UsageError(
            f"[server] {setting} = {path} cannot be used: {error.reason or error}. It has to be PEM, the key without a "
            "password and made for the certificate",
            path=str(path),
        ) from error
    except OSError as error:
        raise UsageError(
            f"[server] {setting} = {path} (or its key) cannot be read: {error.strerror}", path=str(path)
        ) from error


def _no_password() -> str:
    raise UsageError("[server] tls_key has a password: give a key without one, readable by this user alone")
