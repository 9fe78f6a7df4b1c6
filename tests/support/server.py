"""A running homeserver as tests see it: where it is, and how people come to have accounts on it.

`Server` knows nothing of how it was started. `run` starts the real one in this process, on a free loopback port and a
database of its own; `homeserver_process` looks at one in processes of its own.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from homeserver.config import Config, dev_config
from tests.support.client import CheckedClient, Expected
from tests.support.process import HomeserverProcess
from tests.support.user import User

if TYPE_CHECKING:
    from homeserver.app import App

PASSWORD = "correct horse battery staple"
# A name is never given twice, on whichever server: not in this run, nor by another on a server that outlives them.
_RUN = os.urandom(3).hex()
_numbers = count(1)


@dataclass
class Server:
    """A homeserver that answers at `url`. `dsn` is its database; `app` the application, if it runs in this process."""

    url: str
    dsn: str = ""
    app: "App | None" = None
    client: CheckedClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = CheckedClient(self.url)

    @property
    def name(self) -> str:
        """Its server name, if it runs in this process: what stands behind the colon in identifiers."""
        assert self.app is not None
        return self.app.config.server.name

    async def register(self, name: str, password: str = PASSWORD, **fields: Any) -> User:
        """Makes an account the way a client does, and logs it in.

        The user ID is made unique: `register("alice")` may give `@alice.7.d41d8c:localhost`. `fields` go into the request.
        """
        return await self.register_exactly(f"{name}.{next(_numbers)}.{_RUN}", password, **fields)

    async def register_exactly(
        self, username: str, password: str = PASSWORD, *, expect: Expected = 200, **fields: Any
    ) -> User:
        """As `register`, with just this name."""
        body = {"username": username, "password": password, **fields}
        question = await self.client.post("/register", json=body, expect=401)
        auth = {"type": "m.login.dummy", "session": question["session"]}
        reply = await self.client.post("/register", json={**body, "auth": auth}, expect=expect)
        return self.user(reply, password)

    async def login(
        self, user: str, password: str = PASSWORD, *, expect: Expected = 200, **fields: Any
    ) -> User:
        """Logs in by user ID or local part."""
        identifier = {"type": "m.id.user", "user": user}
        body = {"type": "m.login.password", "identifier": identifier, "password": password, **fields}
        return self.user(await self.client.post("/login", json=body, expect=expect), password)

    def user(self, reply: dict[str, Any], password: str = "") -> User:
        """The session that an answer of /register or /login opened."""
        return User(
            client=self.client,
            user_id=str(reply.get("user_id", "")),
            token=str(reply.get("access_token", "")),
            device_id=str(reply.get("device_id", "")),
            password=password,
            refresh_token=reply.get("refresh_token"),
        )

    async def close(self) -> None:
        """Closes the client's connections; the homeserver runs on."""
        await self.client.close()


@contextlib.asynccontextmanager
async def run(dsn: str, folder: Path, **sections: Any) -> AsyncIterator[Server]:
    """The real homeserver in this process, on a migrated database, until the block ends.

    It has the configuration of `atrium serve --dev`, but for what `sections` change: `registration={"guests": False}`.
    """
    config = dev_config(port=0, data=folder, address="127.0.0.1").with_database(dsn)
    async with running(changed(config, **sections)) as server:
        yield server


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Server]:
    """A homeserver in this process with this very configuration, whose database is migrated, until the block ends."""
    from homeserver.app import App

    dsn = config.database.url
    assert dsn is not None
    app = App(config)
    await app.start()
    server = Server(app.url, dsn, app)
    try:
        yield server
    finally:
        await server.close()
        await app.stop()


def changed(config: Config, **sections: Any) -> Config:
    """The configuration with parts of its sections replaced, validated as if it had been written so."""
    update = {}
    for name, changes in sections.items():
        before = getattr(config, name)
        if before is None:
            update[name] = TypeAdapter(Config.model_fields[name].annotation).validate_python(changes)
            continue
        if not isinstance(before, BaseModel):
            raise TypeError(f"{name} is no section that can be changed in parts")
        update[name] = type(before).model_validate(_merged(before.model_dump(), changes))
    return config.model_copy(update=update)


def _merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return before | {
        key: _merged(before[key], value)
        if isinstance(value, dict) and isinstance(before.get(key), dict)
        else value
        for key, value in changes.items()
    }


def of_process(process: HomeserverProcess) -> Server:
    """The homeserver that runs in a process (or several) of its own."""
    return Server(process.base_url)
