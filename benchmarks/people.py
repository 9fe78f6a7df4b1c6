"""The people of a benchmark: accounts that register, make rooms, join, speak and listen, each on a connection of its own.

spec: client-server-api/, through paths every homeserver has; nothing here asks which homeserver it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from benchmarks.wire import Connection, RequestFailed, Response, Target

CLIENT = "/_matrix/client/v3"
PASSWORD = "benchmark-password-7"
TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind. "


@dataclass
class Person:
    """Somebody logged in on one device."""

    target: Target
    user_id: str
    device_id: str
    token: str
    connection: Connection = field(init=False)
    _transaction: itertools.count[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self.connection = Connection(self.target)

    def another_connection(self) -> Person:
        """The same device over a second connection, as a client that syncs while it sends."""
        return Person(self.target, self.user_id, self.device_id, self.token)

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """A prepared request under /_matrix/client/v3."""
        return self.target.request(method, CLIENT + path, token=self.token, body=body)

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask and answer the parsed JSON; anything but 200 raises RequestFailed."""
        return (await self.connection.succeed(self.request(method, path, body))).json()

    async def make_room(self, **options: object) -> str:
        """Create a room, answer its id; `options` are the body of /createRoom."""
        answer = await self.call("POST", "/createRoom", options)
        return str(answer["room_id"])

    async def join(self, room: str) -> Response:
        return await self.connection.succeed(self.request("POST", f"/join/{quote(room)}", {}))

    async def say(self, room: str, text: str = TEXT) -> Response:
        """Send a text message."""
        # A transaction id belongs to the device, which two connections may share: the connection's identity is in it.
        transaction = f"b{id(self):x}-{next(self._transaction)}"
        path = f"/rooms/{quote(room)}/send/m.room.message/{transaction}"
        return await self.connection.succeed(self.request("PUT", path, {"msgtype": "m.text", "body": text}))

    async def use_filter(self, body: Mapping[str, object]) -> str:
        """Upload a filter, answer its id."""
        answer = await self.call("POST", f"/user/{quote(self.user_id)}/filter", body)
        return str(answer["filter_id"])

    async def sync(
        self, *, since: str | None = None, filter_id: str | None = None, timeout: int = 0
    ) -> Response:
        """One /sync; `timeout` in milliseconds."""
        query = f"/sync?timeout={timeout}"
        if filter_id is not None:
            query += f"&filter={quote(filter_id)}"
        if since is not None:
            query += f"&since={quote(since)}"
        return await self.connection.succeed(self.request("GET", query))

    async def log_in_again(self) -> Person:
        """A new device of the same user."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": PASSWORD,
        }
        answer = await self.call("POST", "/login", body)
        return Person(self.target, self.user_id, answer["device_id"], answer["access_token"])

    async def log_out(self) -> None:
        await self.call("POST", "/logout", {})
        self.connection.close()


def registration(target: Target, name: str, *, session: str | None = None, token: str | None = None) -> bytes:
    """The request that registers `name`: with `m.login.dummy`, or with a registration token where the server wants one."""
    auth: dict[str, str] = {"type": "m.login.dummy"}
    if token is not None:
        auth = {"type": "m.login.registration_token", "token": token}
    if session is not None:
        auth["session"] = session
    body = {"username": name, "password": PASSWORD, "auth": auth}
    return target.request("POST", f"{CLIENT}/register", body=body)


async def register(connection: Connection, name: str, *, token: str | None = None) -> Person:
    """Register `name`; a server that insists on a UIA session first gets it, as a client would.

    spec: client-server-api/#user-interactive-api-in-the-rest-api
    """
    response = await connection.send(registration(connection.target, name, token=token))
    for _ in range(2):  # a registration token is one stage, m.login.dummy may be the next
        if response.status != 401:
            break
        session = response.json()["session"]
        done = response.json().get("completed", [])
        stage = None if "m.login.registration_token" in done else token
        response = await connection.send(registration(connection.target, name, session=session, token=stage))
    if response.status != 200:
        raise RequestFailed(f"register {name}: {response.status} {response.body[:300]!r}")
    answer = response.json()
    return Person(connection.target, answer["user_id"], answer["device_id"], answer["access_token"])
