"""A room on a scripted server: signed for real, and as large or as false as a test wants it.

room = RemoteRoom(remote, "12")                     # public, its creator is `remote.user("someone")`
room.members(2_000)
room.serves()                                       # make_join, send_join, make_leave, send_leave
room.answer = lambda told: {**told, "state": []}    # changes what send_join says
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import reference_to
from homeserver.events.event import Event, StateKey
from homeserver.events.parse import parse_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.ids import RoomId
from tests.support.remote_server import Asked, RemoteServer, status

Told = dict[str, Any]


class RemoteRoom:
    """One branch of a room, built by its server."""

    def __init__(self, remote: RemoteServer, version: str = "12", *, join_rule: str = "public") -> None:
        self.remote = remote
        self.version = ROOM_VERSIONS[version]
        self.creator = remote.user("someone")
        self.state: dict[StateKey, Event] = {}
        self.events: list[Event] = []
        self.ends: list[Event] = []
        """What the next event stands on, if not on the newest alone."""
        self.joins: list[Event] = []
        """What was accepted through `send_join`."""
        self.answered_at = 0.0
        """`time.monotonic` of the last answer to `send_join` of a frozen room."""
        self._frozen = b""
        self.answer: Callable[[Told], Any] = lambda told: told
        self.room_id = RoomId(f"!room:{remote.name}")
        content = {"creator": self.creator} if self.version.creator_in_content else {}
        create = self.send("m.room.create", {**content, "room_version": version}, "")
        self.room_id = create.room_id
        self.member(self.creator, "join")
        users = {} if self.version.privileged_creators else {self.creator: 100}
        self.send("m.room.power_levels", {"users": users}, "")
        self.send("m.room.join_rules", {"join_rule": join_rule}, "")

    @property
    def name(self) -> str:
        return str(self.room_id)

    def send(self, kind: str, content: Mapping[str, Any], key: str | None = None, by: str = "") -> Event:
        """The next event of the room."""
        event = self.draft(kind, content, key, by)
        self.events.append(event)
        if event.key is not None:
            self.state[event.key] = event
        return event

    def draft(self, kind: str, content: Mapping[str, Any], key: str | None = None, by: str = "") -> Event:
        """The same, outside of the room."""
        sender = by or self.creator
        keys = auth_keys_for(kind, key, sender, content, self.version)
        prev = self.ends or self.events[-1:]
        creates = kind == "m.room.create" and self.version.room_id_is_create_hash
        return self.remote.event(
            self.version.id,
            kind,
            content,
            state_key=key,
            sender=sender,
            room_id=None if creates else self.room_id,
            prev=[reference_to(each) for each in prev],
            auth=[reference_to(self.state[each]) for each in keys if each in self.state],
            depth=len(self.events) + 1,
        )

    def member(self, user: str, membership: str, by: str = "", **content: Any) -> Event:
        return self.send("m.room.member", {"membership": membership, **content}, user, by or user)

    def members(self, count: int) -> None:
        """So many users of the server join."""
        for number in range(count):
            self.member(self.remote.user(f"member{number}"), "join", displayname=f"Member {number}")

    def invite(self, user: str) -> tuple[str, Told]:
        """URI and body of an invite to another server."""
        event = self.member(user, "invite", by=self.creator)
        shown = [dict(each.fields) for key, each in self.state.items() if key[1] == ""]
        uri = f"/_matrix/federation/v2/invite/{self.room_id}/{event.event_id}"
        return uri, {
            "room_version": self.version.id,
            "event": dict(event.fields),
            "invite_room_state": shown,
        }

    # --- serving ---

    def serves(self) -> None:
        """Answer who wants to join or leave."""
        for verb, version in (("join", "v1"), ("leave", "v1"), ("knock", "v1")):
            self.remote.answers("GET", f"/_matrix/federation/{version}/make_{verb}/*", self._make(verb))
        self.remote.answers("PUT", "/_matrix/federation/v2/send_join/*", self._send_join)
        self.remote.answers("PUT", "/_matrix/federation/v2/send_leave/*", self._send_leave)

    def _make(self, membership: str) -> Callable[[Asked], Any]:
        def answer(asked: Asked) -> Any:
            room_id, user = (unquote(each) for each in asked.path.split("/")[-2:])
            if room_id != self.room_id:
                return status(404, {"errcode": "M_NOT_FOUND", "error": "Unknown room"})
            template = self.draft("m.room.member", {"membership": membership}, user, user)
            fields = {
                k: v for k, v in template.fields.items() if k not in ("hashes", "signatures", "event_id")
            }
            return {"room_version": self.version.id, "event": {**fields, "origin": self.remote.name}}

        return answer

    def freeze(self) -> None:
        """Make the answer of `send_join` once, for large rooms."""
        state = b",".join(event.pdu for event in self.state.values())
        chain = b",".join(event.pdu for event in self.events if event.key is not None)
        self._frozen = b'{"state":[%b],"auth_chain":[%b]}' % (state, chain)

    def _send_join(self, asked: Asked) -> Any:
        join = parse_event(asked.body, self.version)
        if self._frozen:
            self.answered_at = time.monotonic()
            answer = self._frozen
            self._take(join)
            self.freeze()  # who joins next is told of this one, on which their own join rests
            return answer
        told = {
            "state": [json.loads(event.pdu) for event in self.state.values()],
            "auth_chain": [json.loads(event.pdu) for event in self.events if event.key is not None],
            "event": json.loads(asked.body),
        }
        said = self.answer(told)
        self._take(join)
        return said

    def _send_leave(self, asked: Asked) -> Any:
        self._take(parse_event(asked.body, self.version))
        return {}

    def _take(self, event: Event) -> None:
        self.joins.append(event)
        self.events.append(event)
        assert event.key is not None
        self.state[event.key] = event
