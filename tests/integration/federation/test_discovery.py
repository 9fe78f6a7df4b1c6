"""Well-known files and connections, over TLS: whom a request reaches, whose certificate counts, what is refused."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from federation.ports import NotPermitted, Unreachable
from federation.transport.connections import Connections, Message
from federation.transport.names import HostPort
from federation.transport.routes import Route, Target
from federation.transport.tls import TlsTrust, pin_of, pinned
from federation.transport.well_known import WellKnown
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import FakeClock
from homeserver.web.outbound import Outbound, OutboundSettings, Purpose, trusting
from tests.integration.web.test_outbound import Names
from tests.support.certificates import self_signed

ONE = ServerName("one.test")


class Host:
    """Serves TLS on a loopback port, for every name."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self._tls = self_signed(folder, "host", dns=["one.test", "two.test"])
        self.said: Any = {}
        self.asked: list[tuple[str, str]] = []
        self.sni: list[str | None] = []

        def note(_sock: object, name: str | None, _context: object) -> None:
            self.sni.append(name)

        self._tls.sni_callback = note

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port: int = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.headers["Host"], request.raw_path))
        said = self.said(request) if callable(self.said) else self.said
        if asyncio.iscoroutine(said):
            said = await said
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    await host.start()
    yield host
    await host.stop()


def settings(host: Host, **changes: Any) -> OutboundSettings:
    allowed = {Purpose.FEDERATION: ["127.0.0.0/8"]}
    return replace(OutboundSettings(allow_private=allowed, ca_files=[host.certificate]), **changes)


@pytest.fixture
async def connections(host: Host) -> AsyncIterator[Connections]:
    made = Connections(Outbound(settings(host)), Names())
    yield made
    await made.close()


def route(host: Host, **changes: Any) -> Route:
    made = Route(
        targets=(Target("srv.test", host.port),), host_header="one.test", tls_name="one.test", step="4"
    )
    return replace(made, **changes)


MESSAGE = Message(method="GET", target="/x?y=%20z", headers={}, timeout=5)


async def ask(connections: Connections, to: Route, name: ServerName = ONE) -> int:
    async with connections.exchange(name, to, MESSAGE) as response:
        return response.status


async def test_host_and_certificate_are_of_the_name_not_of_the_target(
    host: Host, connections: Connections
) -> None:
    """DISC-05, DISC-08"""
    assert await ask(connections, route(host)) == 200
    assert host.asked == [("one.test", "/x?y=%20z")]
    assert host.sni == ["one.test"]
    with pytest.raises(Unreachable, match="certificate"):
        await ask(connections, route(host, tls_name="three.test"))
    # A connection that was made for one name is not used for another.
    assert await ask(connections, route(host, tls_name="two.test", host_header="two.test")) == 200
    assert host.sni == ["one.test", "three.test", "two.test"]


async def test_an_address_is_no_name_to_ask_for(host: Host, connections: Connections) -> None:
    """DISC-08: no SNI for IP literals, and the certificate names the address."""
    to = route(host, targets=(Target("127.0.0.1", host.port),), tls_name="127.0.0.1", host_header="127.0.0.1")
    assert await ask(connections, to) == 200
    assert host.sni == [None]


async def test_a_connection_is_used_again(host: Host, connections: Connections) -> None:
    host.said = {"a": "b"}
    for _ in range(3):
        async with connections.exchange(ONE, route(host), MESSAGE) as response:
            await response.read()
    assert len(host.sni) == 1


async def test_the_next_target_is_tried(host: Host, connections: Connections) -> None:
    closed = Target("closed.test", 1)
    assert await ask(connections, route(host, targets=(closed, Target("srv.test", host.port)))) == 200
    with pytest.raises(Unreachable):
        await ask(connections, route(host, targets=(closed, closed)))


async def test_names_that_lead_inwards_are_refused(host: Host) -> None:
    """Whatever the name, the record or the address: it is judged where the socket is made."""
    made = Connections(Outbound(settings(host, allow_private={})), Names())
    for target in ("srv.test", "127.0.0.1", "::ffff:127.0.0.1"):
        with pytest.raises(NotPermitted):
            await ask(made, route(host, targets=(Target(target, host.port),)))
    assert not host.asked
    await made.close()


async def test_dns_rebinding_reaches_nothing(host: Host) -> None:
    """The first look-up says a public address, the second a private one: each connection is judged by what it goes to."""

    class Rebinding(Names):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
            found = await super().resolve(host, port, family)
            return [{**each, "host": "192.0.2.1" if len(self.asked) == 1 else each["host"]} for each in found]

    policy = settings(host, allow_private={Purpose.FEDERATION: ["192.0.2.0/24"]})
    made = Connections(Outbound(policy), Rebinding())
    quick = replace(MESSAGE, timeout=0.3)
    with pytest.raises(Unreachable):
        async with made.exchange(ONE, route(host, targets=(Target("a.test", host.port),)), quick):
            pass
    made_again = Connections(Outbound(policy), Names())
    with pytest.raises(NotPermitted):
        await ask(made_again, route(host))
    assert not host.asked
    await made.close()
    await made_again.close()


async def test_a_partner_has_its_own_authority_and_pinned_certificate(host: Host, tmp_path: Path) -> None:
    """DISC-08: an admin override list is possible."""
    right, wrong = pin_of(ssl.PEM_cert_to_DER_cert(host.certificate.read_text())), "A" * 43 + "="

    class Partner:
        trust: TlsTrust | None = None

        def of(self, name: ServerName) -> TlsTrust | None:
            return self.trust if name == ONE else None

    partner = Partner()
    made = Connections(Outbound(settings(host, ca_files=())), Names(), partner)
    with pytest.raises(Unreachable, match="certificate"):
        await ask(made, route(host))
    partner.trust = TlsTrust(trusting([host.certificate]))
    assert await ask(made, route(host)) == 200
    with pytest.raises(Unreachable, match="certificate"):
        await ask(made, route(host), ServerName("two.test"))
    partner.trust = TlsTrust(pinned(trusting([host.certificate]), frozenset({right})))
    assert await ask(made, route(host)) == 200
    asked = len(host.asked)
    partner.trust = TlsTrust(pinned(trusting([host.certificate]), frozenset({wrong})))
    with pytest.raises(Unreachable):
        await ask(made, route(host))
    assert len(host.asked) == asked
    await made.close()


async def test_through_a_proxy(host: Host) -> None:
    """The proxy is told the target, looks it up, and sees nothing but TLS for the name."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        there, back = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        tasks.add(asyncio.create_task(pipe(reader, back)))
        await pipe(there, writer)

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    made = Connections(Outbound(settings(host, proxy=address, allow_private={})), Names())
    assert await ask(made, route(host)) == 200
    assert asked == [f"CONNECT srv.test:{host.port} HTTP/1.1".encode()]
    assert host.sni == ["one.test"]
    assert host.asked == [("one.test", "/x?y=%20z")]
    await made.close()
    proxy.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_handshake_that_never_ends_is_cut(host: Host, connections: Connections) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable):
        async with connections.exchange(
            ONE, route(host, targets=(Target("srv.test", port),)), replace(MESSAGE, timeout=1)
        ):
            pass
    assert asyncio.get_running_loop().time() - began < 30
    server.close()


# --- well-known ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def files(host: Host, connections: Connections, clock: FakeClock) -> AsyncIterator[WellKnown]:
    made = WellKnown(connections, clock, port=host.port)
    yield made
    await made.close()


TWO = HostPort("two.test", 8448, literal=False)


async def test_a_file_delegates_and_is_remembered(host: Host, files: WellKnown, clock: FakeClock) -> None:
    """DISC-06: whatever its content type; DISC-07"""
    host.said = lambda _: web.Response(text='{"m.server": "two.test:8448", "x": 1}', content_type="text/html")
    found = await asyncio.gather(*(files.find(ONE, "one.test") for _ in range(20)))
    assert found == [TWO] * 20
    assert host.asked == [(f"one.test:{host.port}", "/.well-known/matrix/server")]
    await clock.advance(86_000)
    assert await files.find(ONE, "one.test") == TWO
    assert len(host.asked) == 1
    await clock.advance(1000)
    assert await files.find(ONE, "one.test") == TWO
    assert len(host.asked) == 2


async def test_what_was_said_holds_on_for_a_while_when_the_host_is_silent(
    host: Host, files: WellKnown, clock: FakeClock
) -> None:
    host.said = {"m.server": "two.test:8448"}
    assert await files.find(ONE, "one.test") == TWO

    def cut(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    host.said = cut
    await clock.advance(86_401)
    assert await files.find(ONE, "one.test") == TWO
    await clock.advance(3601)
    assert await files.find(ONE, "one.test") is None


@pytest.mark.parametrize(
    "said",
    [
        web.Response(status=404, text='{"m.server": "two.test"}'),
        web.Response(status=500),
        web.Response(text="<html>"),
        web.Response(text="[]"),
        web.Response(text='{"m.server": 5}'),
        web.Response(text='{"m.server": ""}'),
        web.Response(text='{"m.server": "https://two.test"}'),
        web.Response(text='{"m.server": "two.test:99999"}'),
        web.Response(text='{"m.server": "two.test/../"}'),
        web.Response(text='{"m.server": "two.test", "x": "' + "a" * 60_000 + '"}'),
        web.Response(text="[" * 20_000),
        web.Response(status=302, headers={"Location": "http://two.test/"}),
        web.Response(status=302, headers={"Location": "/.well-known/matrix/server"}),
        web.Response(status=302, headers={"Location": "https://u:p@two.test/"}),
        web.Response(status=302, headers={"Location": "file:///etc/passwd"}),
        web.Response(status=302),
    ],
)
async def test_what_says_nothing_is_no_failure(
    host: Host, files: WellKnown, clock: FakeClock, said: web.Response
) -> None:
    """DISC-06: falls through; DISC-07: remembered, longer each time, up to an hour"""
    answer = {
        "status": said.status,
        "text": said.text,
        "headers": {k: v for k, v in said.headers.items() if k == "Location"},
    }
    host.said = lambda _: web.Response(**answer)
    asked = 0
    for pause in (60, 240, 960, 3600, 3600):
        for _ in range(2):
            assert await files.find(ONE, "one.test") is None
        assert len(host.asked) > asked
        asked = len(host.asked)
        await clock.advance(pause - 1)
        assert await files.find(ONE, "one.test") is None
        assert len(host.asked) == asked
        await clock.advance(2)


async def test_redirects_are_followed_to_where_they_may_lead(host: Host, files: WellKnown) -> None:
    """DISC-06; redirect to 127.0.0.1 on another port, to another host's file"""

    def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/.well-known/matrix/server":
            return web.Response(
                status=301, headers={"Location": f"https://two.test:{host.port}/elsewhere?a=b"}
            )
        return web.json_response({"m.server": "two.test:8448"})

    host.said = answer
    assert await files.find(ONE, "one.test") == TWO
    assert [path for _, path in host.asked] == ["/.well-known/matrix/server", "/elsewhere?a=b"]


async def test_a_redirect_inwards_is_refused(host: Host, clock: FakeClock) -> None:
    """Of all loopback addresses one is allowed, and it redirects to another."""
    made = Connections(
        Outbound(settings(host, allow_private={Purpose.FEDERATION: ["127.0.0.1/32"]})), Names()
    )
    files = WellKnown(made, clock, port=host.port)
    host.said = lambda _: web.Response(status=302, headers={"Location": f"https://127.0.0.2:{host.port}/"})
    assert await files.find(ONE, "one.test") is None
    assert len(host.asked) == 1
    await made.close()


async def test_a_file_that_never_ends_is_cut(
    host: Host, files: WellKnown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.transport.well_known.SECONDS", 0.5)

    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    host.said = drip
    async with asyncio.timeout(30):
        assert await files.find(ONE, "one.test") is None
