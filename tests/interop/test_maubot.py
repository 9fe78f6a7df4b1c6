"""maubot, a host for bots that nobody here wrote, through its own management interface: it makes the bot's account by the shared
secret, logs it in, takes a plugin and runs it; the bot joins on invite and answers, in clear and encrypted, also after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nio
import pytest
import yaml

from tests.conftest import StartServer
from tests.interop.nio_person import NioPerson, accepted
from tests.support.pip_program import installed
from tests.support.process import free_port
from tests.support.programs import running
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOT = "@kettle:localhost"
PASSWORD = "tea for two"
SECRET = "secret of this test"
PLUGIN_ID = "test.kettle"
PLUGIN = """
from maubot import MessageEvent, Plugin
from maubot.handlers import command
from mautrix.util.async_db import UpgradeTable

upgrades = UpgradeTable()


@upgrades.register(description="How often each word was asked for")
async def first(connection) -> None:
    await connection.execute("CREATE TABLE asked (word TEXT PRIMARY KEY, times INTEGER NOT NULL)")


class Kettle(Plugin):
    @classmethod
    def get_db_upgrade_table(cls):
        return upgrades

    @command.new("boil", help="Boils something")
    @command.argument("what", pass_raw=True)
    async def boil(self, event: MessageEvent, what: str) -> None:
        await event.mark_read()
        await event.react("\\N{HOT BEVERAGE}")
        times = await self.database.fetchval(
            "INSERT INTO asked VALUES ($1, 1) ON CONFLICT (word) DO UPDATE SET times = asked.times + 1 RETURNING times",
            what,
        )
        await event.reply(f"**{what}** is ready, {times}")
"""


def plugin() -> bytes:
    """The plugin as maubot takes it."""
    meta = {
        "maubot": "0.6.0",
        "id": PLUGIN_ID,
        "version": "1.0.0",
        "license": "MIT",
        "modules": ["kettle"],
        "main_class": "Kettle",
        "database": True,
        "database_type": "asyncpg",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("maubot.yaml", yaml.safe_dump(meta))
        archive.writestr("kettle.py", PLUGIN)
    return packed.getvalue()


@dataclass
class Maubot:
    """A maubot that is set up; `start` may be asked for again and again."""

    folder: Path
    commands: Path
    port: int
    token: str = ""

    @classmethod
    def configured(cls, folder: Path, commands: Path, homeserver: str) -> Maubot:
        folder.mkdir()
        (folder / "plugins").mkdir()
        example = next((commands.parent / "lib").rglob("maubot/example-config.yaml"))
        raw = yaml.safe_load(example.read_text())
        port = free_port()
        raw["server"] |= {"hostname": "127.0.0.1", "port": port}
        raw["plugin_directories"]["trash"] = "delete"
        raw["homeservers"] = {"localhost": {"url": homeserver, "secret": SECRET}}
        raw["admins"] = {"root": "", "admin": PASSWORD}
        (folder / "config.yaml").write_text(yaml.safe_dump(raw))
        return cls(folder, commands, port)

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Runs it until the block ends; one is logged in to its management interface."""
        command = [str(self.commands / "python"), "-m", "maubot", "-c", "config.yaml"]
        async with running(*command, log=self.folder / "maubot.out", folder=self.folder):
            await until(self._logged_in, within=60)
            yield

    async def _logged_in(self) -> bool:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            answer = await self.asked("POST", "auth/login", {"username": "admin", "password": PASSWORD})
            self.token = answer["token"]
            return True
        return False

    async def asked(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> Any:
        """What its management interface answers."""
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session,
            session.request(
                method,
                f"/_matrix/maubot/v1/{path}",
                headers={"Authorization": f"Bearer {self.token}"},
                **content,
            ) as answer,
        ):
            reply = await answer.json()
            assert answer.status < 300, reply
            return reply


async def set_up(maubot: Maubot) -> None:
    """What somebody does in its pages: an account for the bot, a session with keys, the plugin, an instance of it."""
    who = {"username": "kettle", "password": PASSWORD}
    made = await maubot.asked("POST", "client/auth/localhost/register", who)
    assert made["user_id"] == BOT
    client = await maubot.asked("POST", "client/auth/localhost/login?update_client=true", who)
    assert client["started"]
    assert client["fingerprint"]
    await maubot.asked("PUT", f"client/{BOT}", {"displayname": "The kettle"})
    await maubot.asked("POST", "plugins/upload", plugin())
    instance = {"type": PLUGIN_ID, "primary_user": BOT, "enabled": True}
    assert (await maubot.asked("PUT", "instance/kettle", instance))["started"]


async def said_by_bot(person: NioPerson, room_id: str, words: str) -> Any:
    """What the bot says with these words in it, when it does."""

    def found() -> Any:
        said = person.seen(room_id, nio.RoomMessage)
        return next((event for event in said if event.sender == BOT and words in event.body), None)

    return await person.until(f'the bot to say "{words}"', found)


async def asked_until_answered(person: NioPerson, room_id: str, words: str, answer: str) -> None:
    """Says something again and again until the bot answers."""
    for _ in range(20):
        await person.says(room_id, words)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                return await said_by_bot(person, room_id, answer)
    raise AssertionError(f"the bot never said {answer}")


async def in_room_with_bot(person: NioPerson, *state: Mapping[str, Any]) -> str:
    """A room into which the bot has come."""
    created = await person.client.room_create(invite=[BOT], initial_state=state)
    room_id = str(accepted(created).room_id)

    def there() -> bool:
        room = person.client.rooms.get(room_id)
        return room is not None and BOT in room.users and BOT not in room.invited_users

    await person.until("the bot to come in", there)
    return room_id


@pytest.fixture
async def alice(maubot: Maubot, tmp_path: Path) -> AsyncIterator[NioPerson]:
    config = yaml.safe_load((maubot.folder / "config.yaml").read_text())
    store = tmp_path / "store"
    store.mkdir()
    person = await NioPerson.register(config["homeservers"]["localhost"]["url"], "alice", store)
    yield person
    await person.close()


@pytest.fixture
async def maubot(start_server: StartServer, tmp_path: Path) -> Maubot:
    commands = await asyncio.to_thread(installed, "maubot", "maubot[encryption]==0.6.0")
    server = await start_server(registration={"shared_secret": SECRET})
    return Maubot.configured(tmp_path / "maubot", commands, server.url)


async def test_its_bot_joins_on_invite_and_answers(maubot: Maubot, alice: NioPerson) -> None:
    async with maubot.started():
        await set_up(maubot)
        room = await in_room_with_bot(alice)
        asked = await alice.says(room, "!boil water")
        answer = await said_by_bot(alice, room, "is ready, 1")
        content = answer.source["content"]
        assert content["m.relates_to"]["m.in_reply_to"]["event_id"] == asked
        assert "<strong>water</strong>" in content["formatted_body"]
        await alice.until("a reaction", lambda: [*alice.seen(room, nio.ReactionEvent)])
        assert alice.client.rooms[room].users[BOT].display_name == "The kettle"
    async with maubot.started():
        # Of its first answer to a sync it passes over all by its own choice; what its plugin knew it knows again.
        await asked_until_answered(alice, room, "!boil water", "is ready, 2")


async def test_it_signs_its_device_and_answers_encrypted(maubot: Maubot, alice: NioPerson) -> None:
    async with maubot.started():
        await set_up(maubot)
        key = await maubot.asked("POST", f"client/{BOT}/generate_recovery_key")
        assert key["recovery_key"]
        client = await maubot.asked("GET", f"client/{BOT}")
        assert client["trust_state"] == "cross-signed-tofu"
        encrypted = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room = await in_room_with_bot(alice, encrypted)
        await alice.says(room, "!boil milk")
        assert (await said_by_bot(alice, room, "is ready, 1")).decrypted
