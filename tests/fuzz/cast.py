"""The proper world that hostile requests are thrown into, so that each is wrong in one place only.

Two users share a room with some history. Parameters that an attack does not touch name real things in it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote

from homeserver.web.endpoint import Endpoint
from tests.support.spec import load
from tests.support.user import User

Register = Callable[[str], Awaitable[User]]
_numbers = count(1)


@dataclass(frozen=True)
class Cast:
    """Who and what a request can name. `attacker` sends the requests."""

    attacker: User
    victim: User
    room: str
    event: str
    filter: str

    def parameter(self, name: str) -> str:
        """A sensible value for a path or query parameter of that name (not yet percent-encoded)."""
        known = {
            "roomId": self.room,
            "roomIdOrAlias": self.room,
            "eventId": self.event,
            "userId": self.attacker.user_id,
            "deviceId": self.attacker.device_id,
            "filterId": self.filter,
            "eventType": "m.room.message",
            "stateKey": "some key",
            "type": "m.some.type",
            "tag": "m.favourite",
            "receiptType": "m.read",
            "relType": "m.annotation",
            "roomAlias": f"#alias{next(_numbers)}:{self.attacker.server_name}",
            "keyName": "displayname",
            "serverName": self.attacker.server_name,
            "mediaId": "abcdefghijklmnop",
            "scope": "global",
            "kind": "override",
            "ruleId": ".m.rule.master",
            "version": "1",
            "visibility": "private",
            "dir": "b",
            "limit": "5",
            "user_id": self.victim.user_id,
            "username": f"name{next(_numbers)}",
        }
        return known.get(name, f"x{next(_numbers)}")

    def path(self, template: str, replaced: str = "", value: str = "") -> str:
        """The template with real values; the parameter `replaced` gets `value` as it is."""
        parts = [self._part(part, replaced, value) for part in template.split("/")]
        return "/".join(parts)

    def _part(self, part: str, replaced: str, value: str) -> str:
        if not part.startswith("{"):
            return part
        name = part.strip("{}")
        return value if name == replaced else quote(self.parameter(name), safe="")

    def body(self, endpoint: Endpoint) -> dict[str, Any]:
        """A proper body: the specification's example with this world's names; `{}` for what is not specified."""
        known = self._known_bodies().get(endpoint.operation_id)
        if known is not None:
            return known
        spec = load()
        found = spec.find(endpoint.method, self.path(endpoint.paths[0])) if spec else []
        example = found[0].sample_request() if found else {}
        if not isinstance(example, dict):
            return {}
        real = {"user_id": self.victim.user_id, "event_id": self.event, "room_id": self.room}
        return {**example, **{key: value for key, value in real.items() if key in example}}

    def _known_bodies(self) -> dict[str, dict[str, Any]]:
        """Bodies whose keys are names of people, rooms and devices, which no schema can tell."""
        user, device = self.attacker.user_id, self.attacker.device_id
        signed = {
            "algorithms": ["m.olm.v1"],
            "keys": {f"ed25519:{device}": "A" * 43},
            "signatures": {user: {}},
        }
        session = {
            "first_message_index": 1,
            "forwarded_count": 0,
            "is_verified": False,
            "session_data": {"a": "b"},
        }
        return {
            "uploadKeys": {
                "device_keys": {**signed, "user_id": user, "device_id": device},
                "one_time_keys": {
                    f"signed_curve25519:{next(_numbers)}": {"key": "A" * 43, "signatures": {user: {}}}
                },
                "fallback_keys": {
                    "signed_curve25519:f": {"key": "A" * 43, "fallback": True, "signatures": {}}
                },
            },
            "queryKeys": {"device_keys": {user: [], self.victim.user_id: []}},
            "claimKeys": {"one_time_keys": {user: {device: "signed_curve25519"}}},
            "sendToDevice": {"messages": {self.victim.user_id: {"*": {"text": "hi"}}}},
            "putRoomKeys": {"rooms": {self.room: {"sessions": {"session": session}}}},
            "putRoomKeysByRoomId": {"sessions": {"session": session}},
            "putRoomKeyBySessionId": session,
            "setReadMarker": {"m.fully_read": self.event, "m.read": self.event, "m.read.private": self.event},
            "deleteDevices": {"devices": [device]},
            "register": {
                "username": f"name{next(_numbers)}",
                "password": "secret",
                "auth": {"type": "m.login.dummy"},
            },
            "joinRoom": {"reason": "because"},
            "joinRoomById": {"reason": "because"},
            "knockRoom": {"reason": "because"},
        }


async def assemble(register: Register) -> Cast:
    """Registers the users and lets them talk a little."""
    attacker, victim = await register("attacker"), await register("victim")
    room = await attacker.create_room(preset="public_chat")
    await victim.join(room)
    await victim.send(room, "hello")
    event = await attacker.send(room, "hello yourself")
    created = await attacker.post(
        "/user/{}/filter", attacker.user_id, json={"room": {"timeline": {"limit": 3}}}
    )
    return Cast(attacker, victim, room, event, created["filter_id"])
