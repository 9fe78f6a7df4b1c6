"""Rooms made of thin air: a default room, then one change, then one assert.

    room = RoomFactory("11")
    room.join(BOB)
    assert not room.allows(room.draft_member(BOB, "ban", by=ALICE))

Everything is in memory and nothing is signed for real; ids are the true ids of the version. Time is a counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from homeserver.events.auth_rules import Rejected, check, check_auth_events
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.event import Event, StateKey
from homeserver.events.hashing import content_hash, event_id_of, room_id_of_create
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.events.state_resolution import resolve
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import EventId, RoomId, domain_of

ALICE = "@alice:one.example"
"""Creates the room unless told otherwise."""
BOB = "@bob:two.example"
CAROL = "@carol:three.example"
DAVE = "@dave:two.example"

ALL_VERSIONS = tuple(ROOM_VERSIONS)
START_MS = 1_700_000_000_000


def versions(first: int = 1, last: int = 12) -> tuple[str, ...]:
    """The ids of a range of room versions, both ends included."""
    return tuple(str(number) for number in range(first, last + 1))


class RoomFactory:
    """A room as one branch of its graph sees it. `fork` makes another branch over the same events."""

    def __init__(self, version: str = "12", *, creator: str = ALICE, **create_content: Any) -> None:
        """Make an empty room: m.room.create, and its creator joined."""
        self.version: RoomVersion = ROOM_VERSIONS[version]
        self.creator = creator
        self.events: dict[EventId, Event] = {}
        self.state_ids: dict[StateKey, EventId] = {}
        self.heads: tuple[EventId, ...] = ()
        self._ticks = count()
        self.room_id = RoomId(f"!room:{domain_of(creator)}")
        content = {"creator": creator} if self.version.creator_in_content else {}
        self.create = self.add(
            self.draft("m.room.create", {**content, "room_version": version, **create_content}, key="")
        )
        self.room_id = self.create.room_id
        self.join(creator)

    @classmethod
    def public(cls, version: str = "12", **create_content: Any) -> RoomFactory:
        """A public room with power levels: Alice at 100 (or creator), everybody else at 0."""
        room = cls(version, **create_content)
        room.power_levels()
        room.join_rule("public")
        return room

    # --- what there is ---

    @property
    def state(self) -> dict[StateKey, Event]:
        """The state of this branch, as events."""
        return {key: self.events[event_id] for key, event_id in self.state_ids.items()}

    def current(self, event_type: str, key: str = "") -> Event:
        return self.events[self.state_ids[(event_type, key)]]

    # --- drafts: events that are not in the room ---

    def draft(
        self,
        event_type: str,
        content: Mapping[str, Any],
        *,
        by: str | None = None,
        key: str | None = None,
        auth: Sequence[EventId] | None = None,
        **fields: Any,
    ) -> Event:
        """An event on top of this branch, authorised by its state or by `auth`; `fields` replace top-level ones."""
        sender = by or self.creator
        prev = self.heads
        depth = max((self.events[event_id].depth for event_id in prev), default=0) + 1
        values: dict[str, Any] = {
            "type": event_type,
            "room_id": self.room_id,
            "sender": sender,
            "content": dict(content),
            "origin_server_ts": START_MS + next(self._ticks),
            "depth": depth,
            "prev_events": self._references(prev),
            "auth_events": [],
            **({} if key is None else {"state_key": key}),
            **fields,
        }
        if event_type == "m.room.create" and self.version.room_id_is_create_hash:
            del values["room_id"]
        if not self.version.hash_ids:
            values.setdefault("event_id", f"${next(self._ticks)}:{domain_of(sender)}")
        return self.build(self._with_auth(values, auth))

    def draft_member(self, user: str, membership: str, *, by: str | None = None, **content: Any) -> Event:
        """A change of membership, by the user unless told otherwise."""
        return self.draft("m.room.member", {"membership": membership, **content}, by=by or user, key=user)

    def draft_power_levels(self, *, by: str | None = None, **content: Any) -> Event:
        return self.draft("m.room.power_levels", content, by=by, key="")

    def build(self, values: dict[str, Any]) -> Event:
        """Make an event of top-level fields; adds hash, a signature by the sender's server, and the id."""
        values = {**values, "hashes": {"sha256": content_hash(values)}}
        values.setdefault("signatures", {domain_of(values["sender"]): {"ed25519:1": "not a signature"}})
        event_id = event_id_of(values, self.version)
        room_id = values.get("room_id") or room_id_of_create(event_id)
        return Event(
            pdu=canonical_json.encode(values),
            fields=values,
            event_id=event_id,
            room_id=room_id,
            room_version=self.version,
        )

    # --- judging ---

    def rejection(self, event: Event, state: Mapping[StateKey, Event] | None = None) -> str | None:
        """The rule that rejects the event in this branch's state, or None."""
        try:
            check(event, self.state if state is None else state, self.version)
        except Rejected as rejected:
            return rejected.rule
        return None

    def allows(self, event: Event) -> bool:
        return self.rejection(event) is None

    def auth_rejection(self, event: Event, rejected: frozenset[EventId] = frozenset()) -> str | None:
        """The rule about auth events that rejects the event, or None."""
        try:
            check_auth_events(event, [self.events[event_id] for event_id in event.auth_event_ids], rejected)
        except Rejected as no:
            return no.rule
        return None

    # --- changes ---

    def add(self, event: Event) -> Event:
        """Put an event into the room, whatever the rules say."""
        self.events[event.event_id] = event
        self.heads = (event.event_id,)
        if event.key is not None:
            self.state_ids = {**self.state_ids, event.key: event.event_id}
        return event

    def send(self, event: Event) -> Event:
        """Put an event into the room that the rules must allow."""
        assert self.rejection(event) is None, f"rule {self.rejection(event)} rejects {event}"
        return self.add(event)

    def member(self, user: str, membership: str, *, by: str | None = None, **content: Any) -> Event:
        return self.send(self.draft_member(user, membership, by=by, **content))

    def join(self, *users: str) -> None:
        for user in users:
            self.member(user, "join")

    def join_rule(self, rule: str, *, by: str | None = None, **content: Any) -> Event:
        return self.send(self.draft("m.room.join_rules", {"join_rule": rule, **content}, by=by, key=""))

    def power_levels(
        self, *, by: str | None = None, users: Mapping[str, Any] | None = None, **content: Any
    ) -> Event:
        """Set power levels; before version 12 the creator keeps 100."""
        own = {} if self.version.privileged_creators else {self.creator: 100}
        return self.send(self.draft_power_levels(by=by, users={**own, **(users or {})}, **content))

    def state_event(
        self, event_type: str, content: Mapping[str, Any], *, by: str | None = None, key: str = ""
    ) -> Event:
        return self.send(self.draft(event_type, content, by=by, key=key))

    def message(self, *, by: str | None = None) -> Event:
        return self.send(self.draft("m.room.message", {"msgtype": "m.text", "body": "hi"}, by=by))

    # --- branches ---

    def fork(self) -> RoomFactory:
        """Another branch that starts here and shares the events."""
        other = object.__new__(RoomFactory)
        other.__dict__.update(self.__dict__)
        return other

    def merge(self, *others: RoomFactory) -> dict[StateKey, Event]:
        """This branch sees the others' events: its state becomes the resolution of all."""
        branches = (self, *others)
        resolved = resolve([branch.state_ids for branch in branches], self.events, self.version)
        self.state_ids = dict(resolved)
        self.heads = tuple(dict.fromkeys(head for branch in branches for head in branch.heads))
        return self.state

    def _with_auth(self, values: dict[str, Any], auth: Sequence[EventId] | None) -> dict[str, Any]:
        if auth is None:
            keys = auth_keys_of(self.build(values))
            auth = [self.state_ids[key] for key in keys if key in self.state_ids]
        return {**values, "auth_events": self._references(auth)}

    def _references(self, event_ids: Sequence[EventId]) -> list[Any]:
        if self.version.hash_ids:
            return list(event_ids)
        return [[event_id, {"sha256": "AAAA"}] for event_id in event_ids]
