"""TLS of the listener: versions, clients' certificates, renewed files, and what is said of files that will not do."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from collegium.config import ServerSection
from collegium.domain.errors import UsageError
from collegium.server.listener import Listener, listen, url_of
from collegium.server.tls import Certificates


class Files:
    """An authority, and a certificate of its in files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.renew()

    def renew(self) -> None:
        """Writes a new certificate."""
        made = self.authority.issue_cert("127.0.0.1")
        made.private_key_pem.write_to_path(self.key)
        for n, pem in enumerate(made.cert_chain_pems):
            pem.write_to_path(self.cert, append=n > 0)

    def client(self, *, is_certified: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if is_certified:
            self.authority.issue_cert("ada@example.org").configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.scheme)


@asynccontextmanager
async def served(certificates: Certificates) -> AsyncIterator[str]:
    socket = listen("127.0.0.1", 0)
    listener = Listener(Starlette(routes=[Route("/", _hello)]), socket, tls=certificates.context)
    listener.start()
    try:
        yield url_of(socket, is_tls=True)
    finally:
        await listener.aclose()


async def get(url: str, context: ssl.SSLContext) -> str:
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(url)).text


async def serial(url: str, context: ssl.SSLContext) -> str:
    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host)
    found: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return found


async def test_https_is_answered_and_http_is_not(files: Files) -> None:
    async with served(Certificates(files.cert, files.key)) as url:
        assert await get(url, files.client()) == "https"
        with pytest.raises(httpx.HTTPError):
            await get(url.replace("https", "http"), files.client())
        with pytest.raises(httpx.ConnectError):
            await get(url, ssl.create_default_context())


async def test_old_versions_and_weak_ciphers_are_refused(files: Files) -> None:
    async with served(Certificates(files.cert, files.key)) as url:
        weak = files.client()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await get(url, weak) == "https"
        weak.set_ciphers("AES256-SHA")
        with pytest.raises(httpx.ConnectError):
            await get(url, weak)
    context = Certificates(files.cert, files.key).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    suites = [c["name"] for c in context.get_ciphers()]
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in suites)


async def test_clients_need_a_certificate_where_an_authority_is_named(files: Files, tmp_path: Path) -> None:
    async with served(Certificates(files.cert, files.key, files.ca)) as url:
        assert await get(url, files.client(is_certified=True)) == "https"
        with pytest.raises(httpx.HTTPError):
            await get(url, files.client())
        (tmp_path / "other").mkdir()
        other = Files(tmp_path / "other").authority
        stranger = files.client()
        other.issue_cert("eve@example.org").configure_cert(stranger)
        with pytest.raises(httpx.HTTPError):
            await get(url, stranger)


async def test_a_renewed_certificate_is_used_by_the_next_connection(files: Files) -> None:
    certificates = Certificates(files.cert, files.key, files.ca, look_s=0.0)
    async with served(certificates) as url:
        client = files.client(is_certified=True)
        before = await serial(url, client)
        assert await serial(url, client) == before
        files.renew()
        os.utime(files.cert, ns=(1, 1))
        assert await serial(url, client) != before
        with pytest.raises((ssl.SSLError, OSError)):
            await get_uncertified(url, files)


async def get_uncertified(url: str, files: Files) -> None:
    """After a renewal too nobody gets in without a certificate."""
    try:
        await get(url, files.client())
    except httpx.HTTPError as error:
        raise OSError(str(error)) from error


async def test_a_broken_renewal_leaves_what_was_there(files: Files) -> None:
    certificates = Certificates(files.cert, files.key, look_s=0.0)
    async with served(certificates) as url:
        before = await serial(url, files.client())
        files.cert.write_text("half written")
        assert await serial(url, files.client()) == before
        assert not certificates.reload()


def test_files_that_will_not_do_are_named(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tls_cert = .* cannot be read"):
        Certificates(tmp_path / "none.pem", files.key)
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"tls_cert = .* cannot be used"):
        Certificates(tmp_path / "text.pem", files.key)
    with pytest.raises(UsageError, match=r"tls_client_ca = .* cannot be used"):
        Certificates(files.cert, files.key, tmp_path / "text.pem")
    other = trustme.CA().issue_cert("127.0.0.1")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(UsageError, match="made for the certificate"):
        Certificates(files.cert, tmp_path / "other.pem")


@pytest.mark.parametrize("given", [{"tls_cert": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}])
def test_half_of_the_settings_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="go together"):
        ServerSection.model_validate(given)
