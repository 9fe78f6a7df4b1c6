"""Running a bot as a process: its command line, and starting and ending in good order."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from appservices.bots.client import Client, whoami
from appservices.bots.clock import SystemClock
from appservices.bots.errors import BotError
from appservices.bots.registration import Registration, read
from appservices.bots.runner import Runner
from appservices.bots.server import BotServer
from appservices.bots.store import Store
from appservices.bots.transport import HttpTransport

if TYPE_CHECKING:
    from appservices.bots.bot import Bot

_log = logging.getLogger("atrium.bots")
DEFAULT_HOMESERVER: Final = "http://127.0.0.1:8008"
_ENDS_WITHIN: Final = 1.0
"""Seconds that requests under way have to end."""


class Settings(NamedTuple):
    """How a bot runs. `homeserver`: its address; `data`: the file of its state; `address`: where it listens."""

    registration: Registration
    homeserver: str
    data: Path
    address: tuple[str, int]
    encryption: bool = False


def main(bot: Bot, arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exits with 1 and a sentence if it cannot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(bot, settings(arguments)))
    except BotError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None


def settings(arguments: Sequence[str] | None) -> Settings:
    """Of a command line. Raises `NotConfigured`."""
    parser = argparse.ArgumentParser(description="A Matrix bot.")
    parser.add_argument(
        "--registration", type=Path, default=Path("registration.yaml"), help="The registration file."
    )
    parser.add_argument(
        "--homeserver",
        default=os.environ.get("MATRIX_HOMESERVER", DEFAULT_HOMESERVER),
        help="The address of the homeserver (MATRIX_HOMESERVER).",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("bot.db"), help="Where the bot keeps what it must not forget."
    )
    parser.add_argument("--listen", default=None, help="HOST:PORT, if not that of the registration's url.")
    parser.add_argument(
        "--encryption", action="store_true", help="Answer in encrypted rooms: atrium-homeserver[bots]."
    )
    found = parser.parse_args(arguments)
    registration = read(found.registration)
    address = registration.address
    if found.listen is not None:
        host, _, port = found.listen.rpartition(":")
        if not port.isdecimal():
            parser.error("--listen: HOST:PORT is expected")
        address = (host or "127.0.0.1", int(port))
    return Settings(registration, found.homeserver, found.data, address, found.encryption)


async def serve(bot: Bot, settings: Settings) -> None:
    """Answer until the process is told to end. Raises `BotError`."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    clock = SystemClock()
    transport = HttpTransport(settings.homeserver, settings.registration.as_token, clock)
    store = Store(settings.data)
    try:
        client = Client(transport, await whoami(transport))
        await client.register()
        await client.set_displayname(bot.name)
        await _serve(Runner(bot, client, store, clock), settings, ending)
    finally:
        await transport.close()
        store.close()


async def _serve(runner: Runner, settings: Settings, ending: asyncio.Event) -> None:
    web_runner = web.AppRunner(
        BotServer(runner, settings.registration.hs_token).application(),
        access_log=None,
        shutdown_timeout=_ENDS_WITHIN,
    )
    await web_runner.setup()
    try:
        async with _encryption(runner, settings), runner.running():
            await web.TCPSite(web_runner, *settings.address).start()
            device_id = f"{settings.registration.id}_STREAMS"
            if await runner.client.make_device(device_id, f"{runner.bot.name}, answers that grow"):
                await runner.offer_streams(device_id)
            _log.info("%s answers", runner.client.user_id)
            await ending.wait()
            # First no more is taken, then what is under way stops: it is begun again by the next process.
            await web_runner.cleanup()
    finally:
        await web_runner.cleanup()


@contextlib.asynccontextmanager
async def _encryption(runner: Runner, settings: Settings) -> AsyncIterator[None]:
    """The keys of the bot, if it is to have any."""
    if not settings.encryption:
        yield
        return
    from appservices.bots.encryption import NioCrypto

    folder = settings.data.with_name(settings.data.name + ".keys")
    crypto = NioCrypto(runner.client, settings.homeserver, folder)
    async with crypto.running(f"{settings.registration.id}_KEYS", runner.bot.name):
        runner.client.crypto = crypto
        yield
