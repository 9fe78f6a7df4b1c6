"""heisenbridge, a bridge to IRC that nobody here wrote: messages go both ways. With Debian's ngircd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import StartServer
from tests.support.pip_program import installed
from tests.support.process import free_port
from tests.support.programs import running
from tests.support.server import Server
from tests.support.user import Event, User

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOT = "@heisenbridge:localhost"


@pytest.fixture
async def irc(tmp_path: Path) -> AsyncIterator[int]:
    """The port of an IRC server."""
    program = shutil.which("ngircd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("ngircd is not installed: apt-get install ngircd")
    port, config = free_port(), tmp_path / "ngircd.conf"
    config.write_text(
        f"[Global]\nName = irc.example.test\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\n"
        "[Options]\nDNS = no\nIdent = no\nPAM = no\nRequireAuthPing = no\n"
    )
    config.chmod(0o644)
    async with running(program, "-n", "-f", str(config), log=tmp_path / "ngircd.log"):
        for _ in range(100):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            await asyncio.sleep(0.1)
        yield port


class IrcPerson:
    """Somebody on IRC."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def enter(cls, port: int, nick: str, channel: str) -> IrcPerson:
        person = cls(*await asyncio.open_connection("127.0.0.1", port))
        person.says(f"NICK {nick}")
        person.says(f"USER {nick} 0 * :{nick}")
        await person.reads(" 001 ")
        person.says(f"JOIN {channel}")
        await person.reads(" 366 ")
        return person

    def says(self, line: str) -> None:
        self._writer.write(line.encode() + b"\r\n")

    async def reads(self, what: str) -> str:
        """The first line that has this in it."""
        async with asyncio.timeout(60):
            while line := (await self._reader.readline()).decode():
                if line.startswith("PING"):
                    self.says("PONG" + line[4:].rstrip())
                if what in line:
                    return line
        raise AssertionError(f"the connection ended before {what}")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def invited(user: User, known: set[str]) -> str:
    """The next room that somebody invites a user to; they go there."""
    reply = await user.sync_until(lambda r: set(r.get("rooms", {}).get("invite", {})) - known, timeout=60)
    room = (set(reply["rooms"]["invite"]) - known).pop()
    known.add(room)
    await user.join(room)
    return str(room)


def says(word: str, sender: str | None = None) -> object:
    def holds(event: Event) -> bool:
        return word in str(event["content"].get("body")) and sender in {None, event["sender"]}

    return holds


async def bridge_file(commands: Path, tmp_path: Path, port: int) -> Path:
    """The registration that heisenbridge makes for itself."""
    path = tmp_path / "heisenbridge.yaml"
    async with running(
        str(commands / "heisenbridge"),
        "-c",
        str(path),
        "--generate",
        "-p",
        str(port),
        log=tmp_path / "made.log",
    ):
        for _ in range(300):
            if path.exists() and path.stat().st_size:
                break
            await asyncio.sleep(0.1)
    raw = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**raw, "url": f"http://127.0.0.1:{port}"}))
    return path


async def test_messages_go_both_ways(start_server: StartServer, irc: int, tmp_path: Path) -> None:
    commands = installed("heisenbridge", "heisenbridge==1.15.4")
    port = free_port()
    registration = await bridge_file(commands, tmp_path, port)
    server: Server = await start_server(appservices={"registration_files": [str(registration)]})
    alice = await server.register_exactly("alice")
    command = [str(commands / "heisenbridge"), "-v", "-c", str(registration), "-o", alice.user_id, server.url]
    async with running(*command, log=tmp_path / "bridge.log"):
        known: set[str] = set()
        # It opens this room for its owner when it has started: what comes before that, it may not survive.
        control = await invited(alice, known)
        await alice.sees(control, lambda e: e["sender"] == BOT and e["type"] == "m.room.message", timeout=60)
        for line in ("addnetwork test", f"addserver test 127.0.0.1 {irc}", "open test"):
            await alice.send(control, line)
        network = await invited(alice, known)
        await alice.send(network, "nick alice")
        await alice.send(network, "connect")
        await alice.sees(network, says("irc.example.test"), timeout=60)
        await alice.send(network, "join #kitchen")
        channel = await invited(alice, known)
        bob = await IrcPerson.enter(irc, "bob", "#kitchen")
        bob.says("PRIVMSG #kitchen :hello from IRC")
        heard = await alice.sees(channel, says("hello from IRC"), timeout=60)
        assert heard["sender"].startswith("@irc_")
        await alice.send(channel, "hello from Matrix")
        line = await bob.reads("hello from Matrix")
        assert line.startswith(":alice!")
        await bob.close()
