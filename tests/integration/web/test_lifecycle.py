"""Clients that go away, servers that stop, and listeners that carry different things."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from homeserver.web.listener import Listener, Tls
from homeserver.web.resources import Resource
from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import RawConnection


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what happens here has no event to wait for
            await asyncio.sleep(0.005)


async def begin(web: Running, method: str, path: str) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await asyncio.wait_for(web.api.entered.wait(), 60)
    return writer


async def test_a_long_poll_ends_when_its_client_goes_away(web: Running) -> None:
    writer = await begin(web, "GET", f"{C}/wait")
    writer.close()
    await asyncio.wait_for(web.api.cancelled.wait(), 60)
    await until(lambda: bool(web.lines))
    assert web.lines[-1]["status"] == 499
    assert web.metrics.in_flight == 0


async def test_a_write_runs_to_its_end_when_its_client_goes_away(web: Running) -> None:
    writer = await begin(web, "POST", f"{C}/write")
    writer.close()
    await asyncio.sleep(0.05)
    web.api.proceed.set()
    await asyncio.wait_for(web.api.finished.wait(), 60)
    assert not web.api.cancelled.is_set()
    await until(lambda: bool(web.lines))


async def test_stopping_answers_long_polls_at_once(web: Running, ask: Client) -> None:
    poll = asyncio.create_task(ask.full("GET", f"{C}/wait"))
    await web.api.entered.wait()
    async with asyncio.timeout(30):
        await web.web.stop(grace=60)
        answer = await poll
    assert answer.json == {"values": {"closing": True}}
    assert answer.headers["connection"] == "close"


async def test_stopping_lets_a_write_finish_and_takes_no_new_requests(web: Running, ask: Client) -> None:
    write = asyncio.create_task(ask.full("POST", f"{C}/write"))
    await web.api.entered.wait()
    stopping = asyncio.create_task(web.web.stop(grace=60))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", web.port)
    web.api.proceed.set()
    assert (await write).json == {"values": {"written": True}}
    await stopping


async def test_stopping_ends_what_does_not_end_by_itself(web: Running) -> None:
    writer = await begin(web, "POST", f"{C}/write")
    async with asyncio.timeout(30):
        await web.web.stop(grace=0.1)
    assert web.api.cancelled.is_set()
    writer.close()


async def test_stopping_does_not_wait_for_a_body_that_never_ends(web: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"POST {C}/act HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode())
    await until(lambda: bool(web.lines))
    async with asyncio.timeout(30):
        await web.web.stop(grace=60)
    writer.close()


async def test_stopping_closes_idle_connections(web: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET {C}/echo HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(30):
        await web.web.stop(grace=60)
        await reader.read()
    writer.close()


async def test_each_listener_carries_its_own_resources() -> None:
    client = Listener(port=0, resources=frozenset({Resource.CLIENT}))
    federation = Listener(port=0, resources=frozenset({Resource.FEDERATION, Resource.MEDIA}))
    async with running(client, federation) as web:
        ports = {listener: port for listener, _, port in web.web.addresses}
        for listener, path, status in (
            (client, f"{C}/echo", 200),
            (client, "/_matrix/media/v3/file", 404),
            (client, "/_matrix/federation/v1/send/1", 404),
            (client, "/_synapse/admin/v1/thing", 404),
            (federation, f"{C}/echo", 404),
            (federation, "/_matrix/media/v3/file", 200),
            (federation, "/_matrix/federation/v1/send/1", 405),
        ):
            async with RawConnection(f"http://127.0.0.1:{ports[listener]}") as connection:
                assert (await connection.request("GET", path)).status == status


async def test_several_servers_share_a_port() -> None:
    async with (
        running(Listener(port=0, reuse_port=True)) as first,
        running(Listener(port=first.port, reuse_port=True)) as second,
    ):
        assert second.port == first.port


async def test_an_address_that_is_taken_leaves_nothing_listening() -> None:
    async with running() as web:
        free = Listener(port=0)
        with pytest.raises(OSError, match="in use"):
            async with running(free, Listener(port=web.port)):
                pass


async def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    async with running(Listener(unix_socket=path)) as web:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            forwarded = {"X-Forwarded-For": "198.51.100.7"}
            async with session.get(f"http://localhost{C}/echo", headers=forwarded) as answer:
                assert (await answer.json())["values"]["ip"] == "198.51.100.7"
        assert web.lines[-1]["ip"] == "198.51.100.7"


async def test_tls_is_served_and_a_renewed_certificate_is_taken(tmp_path: Path) -> None:
    files = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_certificate(files, serial=1)
    async with running(Listener(port=0, tls=files)) as web:
        assert await certificate_serial(web.port) == 1
        write_certificate(files, serial=2)
        web.web.reload_certificates()
        assert await certificate_serial(web.port) == 2
        files.certificate.write_text("broken")
        with pytest.raises(ssl.SSLError):
            web.web.reload_certificates()
        assert await certificate_serial(web.port) == 2


async def certificate_serial(port: int) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 404")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number


def write_certificate(files: Tls, serial: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.key.write_bytes(private)
