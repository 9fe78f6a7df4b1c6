"""A homeserver in memory, as far as bots need one: for their tests. It knows transaction ids, aliases, state and
devices; it asks nobody for permission.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from typing_extensions import override

from appservices.bots.clock import Clock
from appservices.bots.errors import BotError, Refused
from appservices.bots.transport import Transport

Body = Mapping[str, Any]


class FakeHomeserver:
    """What it knows. `devices` False: it makes none for application services."""

    def __init__(self, name: str, clock: Clock, *, devices: bool = True) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        """Of all rooms, in order."""
        self.to_device: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        """(method, path) of all that was asked."""
        self.failing: BotError | None = None
        """What is answered to everything."""
        self._clock = clock
        self._makes_devices = devices
        self._numbers = itertools.count(1)
        self._state: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self._aliases: dict[str, str] = {}
        self._account_data: dict[tuple[str, str], dict[str, Any]] = {}
        self._done: dict[tuple[str, str], dict[str, Any]] = {}
        self._devices: set[tuple[str, str]] = set()

    def as_user(self, user_id: str) -> FakeTransport:
        """How somebody speaks to it."""
        return FakeTransport(self, user_id)

    def make_room(self, creator: str, members: list[str], content: Body | None = None) -> str:
        """A room; its id."""
        room_id = f"!{next(self._numbers)}:{self.name}"
        self._state[room_id] = {}
        self.add(room_id, creator, "m.room.create", dict(content or {}), "")
        for user in (creator, *members):
            self.add(room_id, user, "m.room.member", {"membership": "join"}, user)
        return room_id

    def add(
        self, room_id: str, sender: str, kind: str, content: Body, state_key: str | None = None
    ) -> dict[str, Any]:
        """An event."""
        event: dict[str, Any] = {
            "event_id": f"${next(self._numbers)}",
            "room_id": room_id,
            "sender": sender,
            "type": kind,
            "content": dict(content),
            "origin_server_ts": self._clock.now_ms(),
        }
        if state_key is not None:
            event["state_key"] = state_key
            self._state.setdefault(room_id, {})[kind, state_key] = dict(content)
        self.events.append(event)
        return event

    def members(self, room_id: str) -> list[str]:
        """Who is joined."""
        state = self._state.get(room_id, {})
        return [
            key
            for (kind, key), content in state.items()
            if kind == "m.room.member" and content["membership"] == "join"
        ]

    # --- requests ------------------------------------------------------------------------------------------------

    def answer(self, user_id: str, method: str, path: str, body: Body) -> dict[str, Any]:
        """Raises `Refused`."""
        self.requests.append((method, path))
        if self.failing is not None:
            raise self.failing
        parts = [unquote(part) for part in path.removeprefix("/_matrix/client/v3/").split("/")]
        once = (user_id, path)
        if method == "PUT" and once in self._done:
            return self._done[once]
        answer = self._route(user_id, method, parts, body)
        if method == "PUT" and ("send" in parts[:3] or "redact" in parts[:3] or parts[0] == "sendToDevice"):
            self._done[once] = answer
        return answer

    def _route(self, user_id: str, method: str, parts: list[str], body: Body) -> dict[str, Any]:
        match (method, parts):
            case ("PUT", ["rooms", room_id, "send", kind, _]):
                return {"event_id": self._member(room_id, user_id, kind, body)}
            case ("PUT", ["rooms", room_id, "redact", target, _]):
                return {
                    "event_id": self._member(
                        room_id, user_id, "m.room.redaction", {**body, "redacts": target}
                    )
                }
            case (_, ["rooms", room_id, "state", kind, key]):
                return self._of_state(user_id, method, (room_id, kind, key), body)
            case ("GET", ["rooms", room_id, "state", kind]):
                return self._of_state(user_id, method, (room_id, kind, ""), body)
            case ("GET", ["rooms", room_id, "joined_members"]):
                return {"joined": {user: {} for user in self.members(room_id)}}
            case ("PUT", ["rooms", _, "typing", _]):
                return {}
            case ("POST", ["rooms", room_id, act]) if act in {"invite", "leave"}:
                whom = body.get("user_id", user_id)
                self.add(room_id, user_id, "m.room.member", {"membership": act}, whom)
                return {}
            case ("POST", ["join", room]):
                return {"room_id": self._join(user_id, room)}
            case ("POST", ["createRoom"]):
                return {"room_id": self._create(user_id, body)}
            case ("GET", ["joined_rooms"]):
                return {"joined_rooms": [room for room in self._state if user_id in self.members(room)]}
            case ("PUT", ["sendToDevice", kind, _]):
                return self._send_to_device(user_id, kind, body)
        return self._of_account(user_id, method, parts, body)

    def _of_account(self, user_id: str, method: str, parts: list[str], body: Body) -> dict[str, Any]:
        match (method, parts):
            case ("GET", ["user", user, "account_data", kind]):
                if (user, kind) not in self._account_data:
                    raise Refused(404, "M_NOT_FOUND", "Not found")
                return self._account_data[user, kind]
            case ("PUT", ["user", user, "account_data", kind]):
                self._account_data[user, kind] = dict(body)
                return {}
            case ("PUT", ["devices", device]) if self._makes_devices:
                self._devices.add((user_id, device))
                return {}
            case ("GET", ["devices", device]) if (user_id, device) in self._devices:
                return {"device_id": device}
            case ("GET", ["account", "whoami"]):
                return {"user_id": user_id}
            case ("POST", ["register"]) | (_, ["profile", _, "displayname"]):
                return {}
        raise Refused(404, "M_UNRECOGNIZED", f"The testing kit knows no {method} {'/'.join(parts)}")

    def _member(self, room_id: str, user_id: str, kind: str, content: Body) -> str:
        if user_id not in self.members(room_id):
            raise Refused(403, "M_FORBIDDEN", "You are not in this room")
        return str(self.add(room_id, user_id, kind, content)["event_id"])

    def _of_state(self, user_id: str, method: str, key: tuple[str, str, str], body: Body) -> dict[str, Any]:
        room_id, kind, state_key = key
        if method == "PUT":
            return {"event_id": self.add(room_id, user_id, kind, body, state_key)["event_id"]}
        found = self._state.get(room_id, {}).get((kind, state_key))
        if found is None:
            raise Refused(404, "M_NOT_FOUND", "Not found")
        return found

    def _join(self, user_id: str, room: str) -> str:
        room_id = self._aliases.get(room, room)
        if room_id not in self._state:
            raise Refused(404, "M_NOT_FOUND", "There is no such room")
        if user_id not in self.members(room_id):
            self.add(room_id, user_id, "m.room.member", {"membership": "join"}, user_id)
        return room_id

    def _create(self, user_id: str, body: Body) -> str:
        alias = f"#{body['room_alias_name']}:{self.name}" if "room_alias_name" in body else None
        if alias is not None and alias in self._aliases:
            raise Refused(400, "M_ROOM_IN_USE", "Room alias already taken")
        room_id = self.make_room(user_id, [], body.get("creation_content"))
        if alias is not None:
            self._aliases[alias] = room_id
        for invited in body.get("invite", []):
            self.add(room_id, user_id, "m.room.member", {"membership": "invite"}, invited)
        return room_id

    def _send_to_device(self, user_id: str, kind: str, body: Body) -> dict[str, Any]:
        for user, devices in body["messages"].items():
            for device, content in devices.items():
                message = {
                    "type": kind,
                    "sender": user_id,
                    "user": user,
                    "device": device,
                    "content": content,
                }
                self.to_device.append(message)
        return {}


class FakeTransport(Transport):
    """Requests of one user."""

    def __init__(self, server: FakeHomeserver, user_id: str) -> None:
        self._server = server
        self._user_id = user_id

    @override
    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return self._server.answer(self._user_id, method, path, body or {})

    @override
    async def close(self) -> None:
        return
