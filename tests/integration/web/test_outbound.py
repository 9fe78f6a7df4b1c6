"""Asking other parties: what may be reached, how far redirects are followed, how much is taken."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from homeserver.web.listener import Listener, Tls
from homeserver.web.outbound import (
    AnswerTooLarge,
    HttpRequest,
    Outbound,
    OutboundSettings,
    Purpose,
    Refused,
    Unreachable,
)
from tests.integration.web.sample import C, running
from tests.integration.web.test_lifecycle import write_certificate

LOOPBACK = {Purpose.PUSH: ["127.0.0.0/8"]}


class Names(AbstractResolver):
    """Every name means loopback, as an attacker's DNS would say."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None: ...


class Party:
    """Another server: answers what a path says, remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.method, request.path, dict(request.headers), await request.read()))
        if request.path == "/loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        if request.path.startswith("/to"):
            status = int(request.query.get("status", "302"))
            return web.Response(status=status, headers={"Location": request.query["url"]})
        if request.path == "/big":
            return web.Response(body=b"x" * 10_000)
        if request.path == "/chunked":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(10):
                await response.write(b"x" * 1000)
            return response
        if request.path == "/bomb":
            return web.Response(body=gzip.compress(b"x" * 1_000_000), headers={"Content-Encoding": "gzip"})
        if request.path == "/slow":
            await asyncio.Event().wait()
        return web.Response(body=b"hello", headers={"Set-Cookie": "a=b"})


@pytest.fixture
async def party() -> AsyncIterator[Party]:
    found = Party()
    server = web.Server(found.answer, access_log=None)
    sockets = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
    yield found
    sockets.close()
    await server.shutdown(0.1)


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    asks = Outbound(OutboundSettings(allow_private=LOOPBACK, user_agent="test"), Names())
    yield asks
    await asks.close()


async def test_a_permitted_party_is_asked(outbound: Outbound, party: Party) -> None:
    request = HttpRequest(method="POST", url=party.url + "/x", headers={"X-Thing": "1"}, body=b"abc")
    answer = await outbound.request(Purpose.PUSH, request)
    assert (answer.status, answer.body) == (200, b"hello")
    ((method, path, headers, body),) = party.seen
    assert (method, path, body) == ("POST", "/x", b"abc")
    assert (headers["User-Agent"], headers["X-Thing"]) == ("test", "1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "attacker.example", "localhost", "[::ffff:127.0.0.1]", "2130706433"]
)
async def test_a_private_address_is_refused_however_it_is_named(
    outbound: Outbound, party: Party, host: str
) -> None:
    """MEDIA-13"""
    url = party.url.replace("127.0.0.1", host)
    with pytest.raises(Refused):
        await outbound.request(Purpose.PREVIEWS, HttpRequest(method="GET", url=url))
    assert party.seen == []


async def test_each_purpose_has_its_own_networks(outbound: Outbound, party: Party) -> None:
    assert (await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url))).status == 200
    with pytest.raises(Refused):
        await outbound.request(Purpose.FEDERATION, HttpRequest(method="GET", url=party.url))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "http://", "//a/b", "nonsense", "http://u:p@a/", "http://[::1"]
)
async def test_only_plain_web_addresses_are_asked(outbound: Outbound, url: str) -> None:
    with pytest.raises(Refused):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=url))


async def test_a_redirect_is_returned_unless_it_may_be_followed(outbound: Outbound, party: Party) -> None:
    url = f"{party.url}/to?url=/x"
    assert (await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=url))).status == 302
    answer = await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=url, redirects=1))
    assert (answer.body, answer.url) == (b"hello", f"{party.url}/x")


@pytest.mark.parametrize(("status", "method"), [(302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_a_redirect_keeps_the_method_as_http_says(
    outbound: Outbound, party: Party, status: int, method: str
) -> None:
    request = HttpRequest(
        method="POST", url=f"{party.url}/to?status={status}&url=/x", body=b"abc", redirects=1
    )
    await outbound.request(Purpose.PUSH, request)
    assert party.seen[-1][0] == method


async def test_credentials_do_not_follow_to_another_origin(outbound: Outbound, party: Party) -> None:
    elsewhere = party.url.replace("127.0.0.1", "elsewhere.example")
    headers = {"authorization": "Bearer x", "X-Thing": "1"}
    for target, carried in ((party.url, True), (elsewhere, False)):
        request = HttpRequest(
            method="GET", url=f"{party.url}/to?url={target}/x", headers=headers, redirects=1
        )
        await outbound.request(Purpose.PUSH, request)
        assert ("authorization" in {name.lower() for name in party.seen[-1][2]}) == carried


@pytest.mark.parametrize(
    "target", ["http://10.0.0.1/", "http://[::1]/", "file:///etc/passwd", "http://169.254.169.254/latest"]
)
async def test_a_redirect_into_the_private_network_is_refused(
    outbound: Outbound, party: Party, target: str
) -> None:
    """MEDIA-13"""
    with pytest.raises(Refused):
        await outbound.request(
            Purpose.PUSH, HttpRequest(method="GET", url=f"{party.url}/to?url={target}", redirects=3)
        )


async def test_redirects_end(outbound: Outbound, party: Party) -> None:
    with pytest.raises(Refused, match="too often"):
        await outbound.request(
            Purpose.PUSH, HttpRequest(method="GET", url=f"{party.url}/loop", redirects=100)
        )
    assert len(party.seen) == 6


@pytest.mark.parametrize("path", ["/big", "/chunked", "/bomb"])
async def test_no_more_is_taken_than_was_asked_for(outbound: Outbound, party: Party, path: str) -> None:
    with pytest.raises(AnswerTooLarge):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url + path, max_bytes=5_000))


async def test_a_party_that_does_not_answer_is_given_up(outbound: Outbound, party: Party) -> None:
    with pytest.raises(Unreachable):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url + "/slow", timeout=0.1))
    with pytest.raises(Unreachable):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url="http://127.0.0.1:1/"))


async def test_cookies_are_not_kept(outbound: Outbound, party: Party) -> None:
    for _ in range(2):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url))
    assert "Cookie" not in party.seen[-1][2]


async def test_a_certificate_is_checked_against_the_files_named(tmp_path: Path) -> None:
    files = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_certificate(files, serial=7)
    async with running(Listener(port=0, tls=files)) as server:
        request = HttpRequest(method="GET", url=f"https://127.0.0.1:{server.port}{C}/echo")
        allow = {purpose: ["127.0.0.0/8"] for purpose in Purpose}
        for settings, purpose, accepted in (
            (OutboundSettings(allow_private=allow), Purpose.PUSH, False),
            (OutboundSettings(allow_private=allow, ca_files=[files.certificate]), Purpose.PUSH, True),
            (OutboundSettings(allow_private=allow, verify_federation=False), Purpose.PUSH, False),
            (OutboundSettings(allow_private=allow, verify_federation=False), Purpose.FEDERATION, True),
        ):
            asks = Outbound(settings)
            if accepted:
                assert (await asks.request(purpose, request)).status == 200
            else:
                with pytest.raises(Unreachable):
                    await asks.request(purpose, request)
            await asks.close()


async def test_nobody_is_asked_any_more_when_all_is_closed(party: Party) -> None:
    """What still runs while a process ends must not open connections that nobody closes."""
    outbound = Outbound(OutboundSettings(allow_private=LOOPBACK))
    await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url + "/hello"))
    await outbound.close()
    with pytest.raises(Unreachable):
        await outbound.request(Purpose.PUSH, HttpRequest(method="GET", url=party.url + "/hello"))
