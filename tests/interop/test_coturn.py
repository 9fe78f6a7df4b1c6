"""The passwords of /voip/turnServer at a real coturn (CHECKLIST VOIP-01; docs/calls.md): `apt install coturn`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from homeserver.calls.api import CallsApi
from homeserver.config.calls import TurnSection
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import FakeClock, SystemClock
from homeserver.web.auth import Requester
from tests.conftest import StartServer
from tests.interop.turn_client import Address, Refused, TurnClient

pytestmark = pytest.mark.interop

SECRET = "as-turnserver.conf-has-it"  # of this test


def _free_port() -> int:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", udp.getsockname()[1]))
        return int(udp.getsockname()[1])


@contextlib.contextmanager
def _started(program: str, folder: Path) -> Iterator[Address]:
    port = _free_port()
    configuration = folder / "turnserver.conf"
    configuration.write_text(
        f"listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\nrealm=turn.example.com\n"
        f"use-auth-secret\nstatic-auth-secret={SECRET}\nno-tls\nno-dtls\nno-cli\nallow-loopback-peers\n"
        f"log-file=stdout\npidfile={folder}/pid\nuserdb={folder}/turndb\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(configuration)], stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        yield "127.0.0.1", port
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[Address]:
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed: apt install coturn")
    with _started(program, tmp_path) as address:
        yield address


async def given(start_server: StartServer, coturn: Address, **section: Any) -> dict[str, Any]:
    """What a client is told of the TURN server."""
    turn = {"uris": [f"turn:{coturn[0]}:{coturn[1]}?transport=udp"], "shared_secret": SECRET, **section}
    server = await start_server(calls={"turn": turn})
    alice = await server.register("alice")
    return dict(await alice.get("/voip/turnServer"))


async def test_voip_01_two_people_are_relayed_to_each_other(
    start_server: StartServer, coturn: Address
) -> None:
    told = await given(start_server, coturn)
    assert told["uris"] == [f"turn:127.0.0.1:{coturn[1]}?transport=udp"]

    def talk() -> tuple[bytes, bytes]:
        clients = [TurnClient(coturn, told["username"], told["password"]) for _ in range(2)]
        places = [client.allocate() for client in clients]
        for client, other in zip(clients, reversed(places), strict=True):
            client.let(other)
        heard = []
        for here, there in ((0, 1), (1, 0)):
            for _ in range(20):  # UDP may lose any of it
                clients[here].send(places[there], b"hello %d" % here)
                with contextlib.suppress(TimeoutError):
                    heard.append(clients[there].receive())
                    break
        for client in clients:
            client.udp.close()
        return heard[0], heard[1]

    assert await asyncio.to_thread(talk) == (b"hello 0", b"hello 1")


async def test_voip_01_a_wrong_and_an_expired_password_are_refused(
    start_server: StartServer, coturn: Address
) -> None:
    told = await given(start_server, coturn)
    until, _, user = told["username"].partition(":")
    forged = f"{int(until) + 86_400}:{user}"
    wrong = [(told["username"], "x" * 28), (forged, told["password"]), ("5:" + user, told["password"])]
    other = await given(start_server, coturn, shared_secret="another")  # of this test
    wrong.append((other["username"], other["password"]))

    def refusals() -> list[int]:
        codes = []
        for username, password in wrong:
            client = TurnClient(coturn, username, password)
            with pytest.raises(Refused) as refused:
                client.allocate()
            client.udp.close()
            codes.append(refused.value.code)
        return codes

    assert await asyncio.to_thread(refusals) == [401] * len(wrong)


async def test_voip_01_a_password_ends_with_its_time(coturn: Address) -> None:
    uri = f"turn:{coturn[0]}:{coturn[1]}"
    section = TurnSection(uris=(uri,), shared_secret=SecretStr(SECRET), lifetime=3600)
    alice = Requester(user_id=UserId("@alice:example.com"), user_nid=1)

    async def may_use(ago: int) -> bool:
        """Who was given it so many seconds ago."""
        told = await CallsApi(section, FakeClock(SystemClock().now_ms() - ago * 1000)).turn_server(alice)
        client = TurnClient(coturn, told.username, told.password)
        try:
            await asyncio.to_thread(client.allocate)
        except Refused:
            return False
        finally:
            client.udp.close()
        return True

    assert [await may_use(ago) for ago in (7200, 0)] == [False, True]
