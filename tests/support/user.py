"""A person in a test: one session (device) of one account, with the verbs of a chat as methods.

Tests read as plays: `room = await alice.create_room(); await alice.invite(room, bob); await bob.join(room)`.
Every request goes through the checked client, so each line of a play is a contract test too.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.support.client import Answer, CheckedClient, Expected

Event = dict[str, Any]
Reply = dict[str, Any]

_HERE = "the token of my last sync"
_transactions = count(1)


@dataclass
class User:
    """One logged-in device. `since` is the token of its last sync; `timeline` all events its syncs have shown per room."""

    client: CheckedClient
    user_id: str
    token: str
    device_id: str
    password: str = ""
    refresh_token: str | None = None
    since: str | None = None
    timeline: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    _seen: set[str] = field(default_factory=set, repr=False)

    @property
    def localpart(self) -> str:
        """`alice` of `@alice:example.org`."""
        return self.user_id[1:].partition(":")[0]

    @property
    def server_name(self) -> str:
        """`example.org` of `@alice:example.org`."""
        return self.user_id.partition(":")[2]

    # ------------------------------------------------------------------------------------------------ plain requests

    async def exchange(self, method: str, path: str, *args: str, **options: Any) -> Answer:
        """As `CheckedClient.exchange`, with this session's token."""
        return await self.client.exchange(method, path, *args, **{"token": self.token, **options})

    async def get(self, path: str, *args: str, **options: Any) -> Any:
        """As `CheckedClient.get`, with this session's token."""
        return await self.client.get(path, *args, **{"token": self.token, **options})

    async def post(self, path: str, *args: str, **options: Any) -> Any:
        """As `CheckedClient.post`, with this session's token."""
        return await self.client.post(path, *args, **{"token": self.token, **options})

    async def put(self, path: str, *args: str, **options: Any) -> Any:
        """As `CheckedClient.put`, with this session's token."""
        return await self.client.put(path, *args, **{"token": self.token, **options})

    async def delete(self, path: str, *args: str, **options: Any) -> Any:
        """As `CheckedClient.delete`, with this session's token."""
        return await self.client.delete(path, *args, **{"token": self.token, **options})

    # ------------------------------------------------------------------------------------------------------ sessions

    async def login(
        self, password: str | None = None, *, device_id: str | None = None, **fields: Any
    ) -> "User":
        """Logs in by password once more and returns that session; this one stays as it is."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": self.password if password is None else password,
            **({"device_id": device_id} if device_id else {}),
            **fields,
        }
        reply = await self.client.post("/login", json=body)
        return User(
            client=self.client,
            user_id=reply["user_id"],
            token=reply["access_token"],
            device_id=reply["device_id"],
            password=self.password if password is None else password,
            refresh_token=reply.get("refresh_token"),
        )

    async def new_device(self, device_id: str | None = None, **fields: Any) -> "User":
        """The same account on one more device."""
        return await self.login(device_id=device_id, **fields)

    async def logout(self) -> None:
        """Ends this session; its token is of no use afterwards."""
        await self.post("/logout")

    # --------------------------------------------------------------------------------------------------------- rooms

    async def create_room(self, *, expect: Expected = 200, **options: Any) -> str:
        """Creates a room; the keyword arguments are the request's body. Returns the room ID ("" when refused)."""
        reply = await self.post("/createRoom", json=options, expect=expect)
        return str(reply.get("room_id", ""))

    async def invite(self, room: str, whom: "User | str", *, expect: Expected = 200, **options: Any) -> Reply:
        """Invites somebody, who may be a `User` or a user ID."""
        body = {"user_id": _id(whom), **options}
        return dict(await self.post("/rooms/{}/invite", room, json=body, expect=expect))

    async def join(
        self, room: str, *, expect: Expected = 200, via: list[str] | None = None, **options: Any
    ) -> Reply:
        """Joins by room ID or alias."""
        return dict(await self.post("/join/{}", room, json=options, params={"via": via}, expect=expect))

    async def leave(self, room: str, *, expect: Expected = 200, **options: Any) -> Reply:
        """Leaves the room, or turns its invite down."""
        return dict(await self.post("/rooms/{}/leave", room, json=options, expect=expect))

    async def kick(self, room: str, whom: "User | str", *, expect: Expected = 200, **options: Any) -> Reply:
        """Kicks somebody out."""
        return await self._moderate("kick", room, whom, expect, options)

    async def ban(self, room: str, whom: "User | str", *, expect: Expected = 200, **options: Any) -> Reply:
        """Bans somebody."""
        return await self._moderate("ban", room, whom, expect, options)

    async def unban(self, room: str, whom: "User | str", *, expect: Expected = 200, **options: Any) -> Reply:
        """Lifts a ban."""
        return await self._moderate("unban", room, whom, expect, options)

    async def _moderate(
        self, verb: str, room: str, whom: "User | str", expect: Expected, options: dict[str, Any]
    ) -> Reply:
        body = {"user_id": _id(whom), **options}
        return dict(await self.post("/rooms/{}/" + verb, room, json=body, expect=expect))

    # -------------------------------------------------------------------------------------------------------- events

    async def send(self, room: str, text: str, *, expect: Expected = 200, **content: Any) -> str:
        """Says something; returns the event ID."""
        body = {"msgtype": "m.text", "body": text, **content}
        return await self.send_event(room, "m.room.message", body, expect=expect)

    async def send_event(
        self,
        room: str,
        kind: str,
        content: Event,
        *,
        txn: str | None = None,
        expect: Expected = 200,
        **params: Any,
    ) -> str:
        """Sends an event that is no state; a `txn` given twice is a retry. Returns the event ID ("" when refused)."""
        txn_id = txn or f"t{next(_transactions)}"
        path = "/rooms/{}/send/{}/{}"
        reply = await self.put(path, room, kind, txn_id, json=content, params=params, expect=expect)
        return str(reply.get("event_id", ""))

    async def state(
        self, room: str, kind: str | None = None, key: str = "", *, expect: Expected = 200
    ) -> Any:
        """One state event's content; without `kind` the list of all state events."""
        if kind is None:
            return await self.get("/rooms/{}/state", room, expect=expect)
        return await self.get("/rooms/{}/state/{}/{}", room, kind, key, expect=expect)

    async def put_state(
        self, room: str, kind: str, content: Event, key: str = "", *, expect: Expected = 200
    ) -> str:
        """Sets state; returns the event ID ("" when refused)."""
        reply = await self.put("/rooms/{}/state/{}/{}", room, kind, key, json=content, expect=expect)
        return str(reply.get("event_id", ""))

    async def redact(
        self,
        room: str,
        event_id: str,
        reason: str | None = None,
        *,
        txn: str | None = None,
        expect: Expected = 200,
    ) -> str:
        """Redacts an event; returns the redaction's event ID ("" when refused)."""
        body = {} if reason is None else {"reason": reason}
        txn_id = txn or f"t{next(_transactions)}"
        reply = await self.put("/rooms/{}/redact/{}/{}", room, event_id, txn_id, json=body, expect=expect)
        return str(reply.get("event_id", ""))

    async def event(self, room: str, event_id: str, *, expect: Expected = 200) -> Event:
        """One event by its ID."""
        return dict(await self.get("/rooms/{}/event/{}", room, event_id, expect=expect))

    async def messages(self, room: str, *, dir: str = "b", expect: Expected = 200, **params: Any) -> Reply:  # noqa: A002  # the spec's name
        """One page of history; `from_` stands for `from`."""
        if "from_" in params:
            params["from"] = params.pop("from_")
        return dict(await self.get("/rooms/{}/messages", room, params={"dir": dir, **params}, expect=expect))

    async def members(self, room: str, **params: Any) -> dict[str, str]:
        """User ID -> membership."""
        chunk = (await self.get("/rooms/{}/members", room, params=params))["chunk"]
        return {event["state_key"]: event["content"]["membership"] for event in chunk}

    # ---------------------------------------------------------------------------------------------------------- sync

    async def sync(self, *, since: str | None = _HERE, timeout: int = 0, **params: Any) -> Reply:
        """One /sync, from this session's last token on (`since=None`: from the beginning); `timeout` in milliseconds.

        A `filter` may be an object. The token and the events seen are kept in `since` and `timeline`.
        """
        token = self.since if since is _HERE else since
        expect = params.pop("expect", 200)
        query = {"since": token, "timeout": timeout, **params}
        reply = dict(await self.get("/sync", params=query, expect=expect))
        if "next_batch" in reply:
            self.since = reply["next_batch"]
            for section in ("join", "leave"):
                for room_id, room in reply.get("rooms", {}).get(section, {}).items():
                    self._remember(room_id, room.get("timeline", {}).get("events", []))
        return reply

    def _remember(self, room_id: str, events: list[Event]) -> None:
        new = [event for event in events if event.get("event_id") not in self._seen]
        self._seen.update(event["event_id"] for event in new if "event_id" in event)
        self.timeline[room_id] += new

    async def sync_until(
        self, predicate: Callable[[Reply], object], *, timeout: float = 60, **params: Any
    ) -> Reply:
        """Long-polls until an answer satisfies the predicate, and returns that answer; AssertionError after `timeout` s."""
        return await _within(
            timeout, f"no sync of {self.user_id} was as awaited", lambda: self._poll(predicate, params)
        )

    async def _poll(self, predicate: Callable[[Reply], object], params: dict[str, Any]) -> Reply:
        while True:
            reply = await self.sync(**{"timeout": 5_000, **params})
            if predicate(reply):
                return reply

    async def sees(self, room: str, what: str | Callable[[Event], object], *, timeout: float = 60) -> Event:
        """The event with this body or event ID (or that satisfies the predicate), once a sync has shown it."""
        matches = (
            what
            if callable(what)
            else lambda event: what in (event["content"].get("body"), event["event_id"])
        )

        async def look() -> Event:
            while True:
                for event in self.timeline[room]:
                    if matches(event):
                        return event
                await self.sync(timeout=5_000)

        return await _within(timeout, f"{self.user_id} never saw {what} in {room}", look)


def _id(whom: User | str) -> str:
    return whom.user_id if isinstance(whom, User) else whom


async def _within(
    seconds: float, otherwise: str, act: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            return await act()
    except TimeoutError:
        raise AssertionError(f"{otherwise} within {seconds} s") from None
