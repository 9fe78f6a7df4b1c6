"""mautrix-telegram, a bridge that nobody here wrote, never logged in to Telegram: its bot answers, in clear and to what is
encrypted, in each of the ways in which bridges of its family have their keys: by sync, by devices of MSC4190, by transactions
(MSC3202).
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nio
import pytest
import yaml
from psycopg import conninfo

from tests.conftest import StartServer
from tests.interop.nio_person import NioPerson, accepted
from tests.support.pip_program import installed
from tests.support.postgres import Postgres
from tests.support.process import free_port
from tests.support.programs import running
from tests.support.server import Server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOT = "@telegrambot:localhost"
MODES: dict[str, dict[str, Any]] = {
    "sync": {"appservice": False, "msc4190": False},
    "msc4190": {"appservice": False, "msc4190": True},
    "msc3202": {"appservice": True, "msc4190": True},
}


@dataclass
class Bridge:
    """The bridge as it is set up; `log` is what it says."""

    server: Server
    log: Path


def configure(commands: Path, folder: Path, database: str, mode: dict[str, Any]) -> tuple[Path, Path]:
    """Its configuration, and the registration it makes of that."""
    example = next((commands.parent / "lib").rglob("mautrix_telegram/example-config.yaml"))
    raw = yaml.safe_load(example.read_text())
    port = free_port()
    raw["homeserver"] |= {"address": "http://127.0.0.1:1", "domain": "localhost"}
    raw["appservice"] |= {
        "address": f"http://127.0.0.1:{port}",
        "hostname": "127.0.0.1",
        "port": port,
        "database": database,
    }
    raw["bridge"]["permissions"] = {"localhost": "full"}
    raw["bridge"]["encryption"] |= {"allow": True, **mode}
    raw["telegram"] |= {"api_id": 1, "api_hash": "0" * 32}
    config, registration = folder / "telegram.yaml", folder / "telegram-registration.yaml"
    config.write_text(yaml.safe_dump(raw))
    made = subprocess.run(
        [
            str(commands / "python"),
            "-m",
            "mautrix_telegram",
            "-c",
            str(config),
            "-r",
            str(registration),
            "-g",
        ],
        capture_output=True,
        check=False,
        cwd=folder,  # where it writes its log
    )
    assert registration.exists(), made.stderr.decode()
    if mode["appservice"]:
        # The bridge leaves it to the administrator to ask for it.
        registration.write_text(registration.read_text() + "org.matrix.msc3202: true\n")
    return config, registration


@pytest.fixture(params=list(MODES))
async def bridge(
    request: pytest.FixtureRequest, start_server: StartServer, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Bridge]:
    commands = installed("mautrix-telegram", "mautrix-telegram[e2be]==0.15.3")
    name = f"telegram_{request.param}"
    dsn = conninfo.conninfo_to_dict(postgres.create(name))
    where = urlencode(
        {key: str(value) for key, value in dsn.items() if key in {"host", "port", "user", "password"}}
    )
    config, registration = configure(commands, tmp_path, f"postgres:///{name}?{where}", MODES[request.param])
    server = await start_server(appservices={"registration_files": [str(registration)]})
    raw = yaml.safe_load(config.read_text())
    raw["homeserver"]["address"] = server.url
    config.write_text(yaml.safe_dump(raw))
    log = tmp_path / "bridge.log"
    command = [
        str(commands / "python"),
        "-m",
        "mautrix_telegram",
        "-n",
        "-c",
        str(config),
        "-r",
        str(registration),
    ]
    async with running(*command, log=log, folder=tmp_path):
        yield Bridge(server, log)
    postgres.drop(name)


def said_by_bot(person: NioPerson, room_id: str, words: str, since: int = 0) -> Any:
    """What the bot has said in a room with these words in it, after so many events."""
    for room, event in person.events[since:]:
        by_bot = room == room_id and isinstance(event, nio.RoomMessage) and event.sender == BOT
        if by_bot and words in str(event.source["content"].get("body")):
            return event
    return None


async def asked(person: NioPerson, room_id: str, word: str, answers: str) -> Any:
    """Says a word; the bot answers with another in it."""
    before = len(person.events)
    await person.says(room_id, word)
    return await person.until(f'an answer to "{word}"', lambda: said_by_bot(person, room_id, answers, before))


async def with_bot(person: NioPerson, room_id: str) -> None:
    """Waits until the bot is in a room."""

    def there() -> bool:
        room = person.client.rooms.get(room_id)
        return room is not None and BOT in room.users and BOT not in room.invited_users

    await person.until("the bot to come in", there)
    # It reads who is in the room for that; asked meanwhile, it trips over itself.
    await person.until("its greeting", lambda: said_by_bot(person, room_id, ""))


async def test_its_bot_answers(bridge: Bridge, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    alice = await NioPerson.register(bridge.server.url, "alice", store)
    try:
        clear = accepted(await alice.client.room_create(is_direct=True, invite=[BOT])).room_id
        await with_bot(alice, clear)
        await asked(alice, clear, "help", "login")
        await asked(alice, clear, "ping", "not logged in")
        secret = accepted(await alice.client.room_create(is_direct=True, invite=[BOT])).room_id
        await with_bot(alice, secret)
        algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
        accepted(await alice.client.room_put_state(secret, "m.room.encryption", algorithm))
        await alice.until("encryption", lambda: alice.client.rooms[secret].encrypted)
        for word, answer in (("help", "login"), ("ping", "not logged in")):
            # What it is asked it has to decrypt; what its bot answers to commands this bridge never encrypts.
            await asked(alice, secret, word, answer)
    finally:
        await alice.close()
