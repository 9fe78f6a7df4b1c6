"""A bot in encrypted rooms signs its device (docs/bots.md)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import counting_bot
from tests.support.bots import BotProcess
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

BOT = "@counter:localhost"
DEVICE = "counter_KEYS"

pytestmark = pytest.mark.timeout(120)


async def signed(alice: User, *, other_than: str = "") -> str:
    """Waits until the bot's device is signed by a key that its master key has signed; the name of the master key."""
    found: dict[str, str] = {}

    async def holds() -> bool:
        keys = await alice.post("/keys/query", json={"device_keys": {BOT: []}})
        found["master"] = master_in(keys)
        return found["master"] not in {"", other_than}

    await until(holds, within=60)
    return found["master"]


def master_in(keys: dict[str, Any]) -> str:
    """The master key of the bot if its device is signed, else nothing."""
    device = keys["device_keys"].get(BOT, {}).get(DEVICE, {})
    signing = keys.get("self_signing_keys", {}).get(BOT, {"keys": {}})
    by_owner = set(signing["keys"]) & set(device.get("signatures", {}).get(BOT, {}))
    if not by_owner:
        return ""
    [master] = keys["master_keys"][BOT]["keys"]
    assert master in signing["signatures"][BOT]  # the server has checked all of them
    return str(master)


async def started(start_server: StartServer, bot: BotProcess) -> Server:
    server = await start_server(appservices={"registration_files": [str(bot.registration)]})
    bot.homeserver = server.url
    bot.start()
    return server


async def test_it_signs_its_device_and_stays_who_it_is(start_server: StartServer, tmp_path: Path) -> None:
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter", options=["--encryption"])
    server = await started(start_server, bot)
    try:
        alice = await server.register("alice")
        first = await signed(alice)
        file = tmp_path / "bot.db.keys" / "cross-signing.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert await asyncio.to_thread(bot.stop) == 0
        bot.start()
        assert await signed(alice) == first
        await asyncio.to_thread(bot.stop)
        # One that has lost its keys is somebody new, on the same account: clients tell people so.
        file.unlink()
        bot.start()
        await signed(alice, other_than=first)
    finally:
        bot.kill9()


async def test_keys_that_cannot_be_read_are_said(start_server: StartServer, tmp_path: Path) -> None:
    bot = BotProcess(Path(counting_bot.__file__), tmp_path, "counter", options=["--encryption"])
    keys = tmp_path / "bot.db.keys"
    keys.mkdir()
    (keys / "cross-signing.json").write_text('{"master": 1}')
    await started(start_server, bot)
    try:
        await until(
            lambda: asyncio.to_thread(lambda: "cross-signing.json holds no keys" in bot.log), within=60
        )
    finally:
        bot.kill9()
