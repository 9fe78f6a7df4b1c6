"""Rooms between a server under measurement and peers: a peer's user in a room of the server, and a room of a peer's own."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peer import ROOM_VERSION, VERSION, Peer, event_of, key_of, path_of
from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.events.hashing import content_hash, signed_bytes
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind. "
Signs = tuple[str, SigningKey]
"""A server's name and key."""


class Seat:
    """A user of a peer in a room of a server: speaks on top of what it has said last."""

    def __init__(self, peer: Peer, server: str, room_id: str, user: str) -> None:
        self.peer = peer
        self.server = server
        self.room_id = room_id
        self.user = user
        self._auth: list[str] = []
        self._last = ""
        self._depth = 0

    @property
    def joined(self) -> str:
        """The event by which the user has joined."""
        return self._auth[-1]

    @classmethod
    async def take(cls, peer: Peer, server: str, room_id: str, localpart: str) -> Seat:
        """The user joins. spec: server-server-api/#joining-rooms"""
        seat = cls(peer, server, room_id, peer.user(localpart))
        uri = path_of("v1", "make_join", room_id, seat.user) + f"?ver={VERSION}"
        template = (await peer.ask(server, "GET", uri))["event"]
        join = signed({**template, "origin_server_ts": _now()}, peer)
        uri = path_of("v2", "send_join", room_id, join.event_id)
        answer = await peer.ask(server, "PUT", uri, join.fields)
        state = {(each["type"], each["state_key"]): each for each in answer["state"]}
        wanted: list[StateKey] = [("m.room.create", ""), ("m.room.power_levels", "")]
        seat._auth = [*[event_of(state[key]).event_id for key in wanted], join.event_id]
        seat._last, seat._depth = join.event_id, join.depth
        return seat

    def says(self, count: int, *, key: SigningKey | None = None) -> list[Event]:
        """Messages, each on the one before. `key`: what signs them; None: the peer's."""
        return [self._message(number, key) for number in range(count)]

    def elsewhere(self, room_id: str) -> Seat:
        """One in a room that the server does not know, with what there is in this one."""
        seat = copy.copy(self)
        seat.room_id = room_id
        return seat

    def on_top_of(self, event_id: str) -> Event:
        """A message on another event than the last."""
        self._last = event_id
        return self._message(self._depth, None)

    def _message(self, number: int, key: SigningKey | None) -> Event:
        self._depth += 1
        event = build_event(
            EventDraft("m.room.message", None, UserId(self.user), _text(f"{number} {TEXT}")),
            room_id=RoomId(self.room_id),
            room_version=ROOM_VERSION,
            prev=[self._last],  # type: ignore[list-item]  # an id
            auth=self._auth,  # type: ignore[arg-type]  # likewise
            depth=self._depth,
            origin_server_ts=_now(),
            server_name=self.peer.name,
            signing_key=key or self.peer.key,
        )
        self._last = event.event_id
        return event


class LargeRoom:
    """A public room of a peer with many members, as it answers who joins."""

    def __init__(
        self, peer: Peer, number: int, members: int, *, home: Callable[[int], str] | None = None
    ) -> None:
        """`home`: of a member's number, on which server they are, which need not be there; None: all are the peer's."""
        self.room_id = f"!large{number}:{peer.name}"
        self.answered_at = 0.0
        """When it has answered a join (`time.perf_counter`)."""
        self._peer = peer
        self._members = members
        self._home = home
        self._state: dict[StateKey, Event] = {}
        self._last: Event | None = None
        self._answer = b""

    async def open(self) -> None:
        """Make its events, and answer from now on."""
        await asyncio.to_thread(self._build)
        self._peer.joins[self.room_id] = self._asked

    def close(self) -> None:
        """Nobody can join any more."""
        del self._peer.joins[self.room_id]
        self._state.clear()
        self._answer = b""

    def _build(self) -> None:
        peer: Signs = self._peer.name, self._peer.key
        creator = self._peer.user("creator")
        self._say("m.room.create", {"room_version": VERSION}, "", creator, peer)
        self._say("m.room.member", {"membership": "join"}, creator, creator, peer)
        self._say("m.room.power_levels", {"users": {creator: 100}}, "", creator, peer)
        self._say("m.room.join_rules", {"join_rule": "public"}, "", creator, peer)
        for number in range(self._members):
            home = self._home(number) if self._home else peer[0]
            user = f"@member{number}:{home}"
            content = {"membership": "join", "displayname": f"Member number {number}"}
            self._say("m.room.member", content, user, user, (home, key_of(home)) if self._home else peer)
        events = b",".join(event.pdu for event in self._state.values())
        self._answer = b'"state":[' + events + b'],"auth_chain":[' + events + b'],"members_omitted":false}'

    def _say(self, kind: str, content: Mapping[str, Any], key: str, sender: str, signs: Signs) -> None:
        event = build_event(
            EventDraft(kind, key, UserId(sender), content),
            room_id=RoomId(self.room_id),
            room_version=ROOM_VERSION,
            prev=[reference_to(self._last)] if self._last is not None else [],
            auth=self._auth_of(kind, key, sender, content),
            depth=len(self._state) + 1,
            origin_server_ts=_now(),
            server_name=ServerName(signs[0]),
            signing_key=signs[1],
        )
        self._state[kind, key] = self._last = event

    def _auth_of(self, kind: str, key: str, sender: str, content: Mapping[str, Any]) -> list[Any]:
        keys = auth_keys_for(kind, key, UserId(sender), content, ROOM_VERSION)
        return [reference_to(self._state[each]) for each in keys if each in self._state]

    async def _asked(self, user: str, join: Event | None) -> bytes:
        if join is not None:
            self.answered_at = time.perf_counter()
            return b'{"origin":"%b","event":%b,' % (self._peer.name.encode(), join.pdu) + self._answer
        assert self._last is not None
        template = {
            "type": "m.room.member",
            "content": {"membership": "join"},
            "room_id": self.room_id,
            "sender": user,
            "state_key": user,
            "auth_events": self._auth_of("m.room.member", user, user, {"membership": "join"}),
            "prev_events": [reference_to(self._last)],
            "depth": self._last.depth + 1,
            "origin_server_ts": _now(),
        }
        return json.dumps({"room_version": VERSION, "event": template}).encode()


def signed(fields: Mapping[str, Any], peer: Peer) -> Event:
    """An event made of a template."""
    made = {
        name: value
        for name, value in fields.items()
        if name not in {"hashes", "signatures", "event_id", "unsigned"}
    }
    made["hashes"] = {"sha256": content_hash(made)}
    signature = peer.key.signature_of(signed_bytes({**made, "signatures": {}}, ROOM_VERSION))
    made["signatures"] = {peer.name: {peer.key.key_id: signature}}
    return event_of(made)


def batches(events: Sequence[Event], size: int) -> list[Sequence[Event]]:
    """In transactions."""
    return [events[start : start + size] for start in range(0, len(events), size)]


def _text(body: str) -> dict[str, str]:
    return {"msgtype": "m.text", "body": body}


def _now() -> int:
    return int(time.time() * 1000)
