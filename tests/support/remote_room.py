"""A room of an Atrium as another, scripted server sees it: events on chosen parents, the state after each, answers about both.

room = await RemoteRoom.join(here, remote, room_id, "bob")           # bob's join is sent and here
event = room.says("bob", "m.room.message", TEXT)                     # built on the newest event; not sent
fork = room.says("bob", "m.room.message", TEXT, prev=[older])
answer = await room.send(event)                                      # PUT /send
await room.arrives(event)                                            # is here: its PersistedEvent
room.serve()                                                         # get_missing_events, state_ids, state, event, event_auth
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import quote, unquote

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, next_depth, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.matrix.ids import EventId, RoomId, UserId
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server

TEXT = {"msgtype": "m.text", "body": "from elsewhere"}
State = dict[StateKey, EventId]
_numbers = count(1)


class RemoteRoom:
    """One server's view."""

    def __init__(self, here: Server, remote: RemoteServer, room_id: RoomId) -> None:
        self.here = here
        self.remote = remote
        self.room_id = room_id
        self.events: dict[EventId, Event] = {}
        self.after: dict[EventId, State] = {}
        self.tips: list[Event] = []
        self.hidden: set[EventId] = set()
        """What it does not give out."""

    @classmethod
    async def join(cls, here: Server, remote: RemoteServer, room_id: str, *users: str) -> RemoteRoom:
        """The room as it is here, and users of the remote server who join it, as any server would tell."""
        room = cls(here, remote, RoomId(room_id))
        await room.look()
        for user in users:
            event = room.says(user, "m.room.member", {"membership": "join"}, state_key=remote.user(user))
            answer = await room.send(event)
            assert answer == {"pdus": {event.event_id: {}}}, answer
            await room.arrives(event)
        await room.drained()
        return room

    @property
    def core(self) -> Any:
        assert self.here.app is not None
        return self.here.app.core

    async def look(self) -> None:
        """Take over what the room is here now."""
        room = await self.core.rooms.known(self.room_id)
        loaded = await self.core.events.load([*room.state.values(), *(ref.nid for ref in room.extremities)])
        state = {key: loaded[nid].event.event_id for key, nid in room.state.items()}
        for persisted in loaded.values():
            self.events[persisted.event.event_id] = persisted.event
        self.tips = [loaded[ref.nid].event for ref in room.extremities]
        for tip in self.tips:
            self.after[tip.event_id] = state

    @property
    def tip(self) -> Event:
        return self.tips[-1]

    def state_before(self, prev: Sequence[Event]) -> State:
        """As if what came later had won."""
        state: State = {}
        for parent in prev:
            state.update(self.after[parent.event_id])
        return state

    def says(
        self,
        user: str,
        event_type: str,
        content: Mapping[str, Any],
        *,
        state_key: str | None = None,
        prev: Sequence[Event] | None = None,
        **more: Any,
    ) -> Event:
        """The next event, of one of the remote server's users (or of any by full id). `more`: arguments of `build_event`, and
        `redacts`. Without `prev` it becomes the tip.
        """
        parents = self.tips if prev is None else list(prev)
        version = parents[0].room_version
        sender = UserId(user if user.startswith("@") else self.remote.user(user))
        state = self.state_before(parents)
        keys = auth_keys_for(event_type, state_key, sender, content, version)
        draft = EventDraft(event_type, state_key, sender, content, more.pop("redacts", None))
        arguments: dict[str, Any] = {
            "room_id": self.room_id,
            "prev": [reference_to(parent) for parent in parents],
            "auth": [reference_to(self.events[state[key]]) for key in keys if key in state],
            "depth": next_depth((parent.depth for parent in parents), version),
            "origin_server_ts": int(time.time() * 1000),
            "server_name": self.remote.name,
            "signing_key": self.remote.key,
            **more,
        }
        event = build_event(draft, room_version=version, **arguments)
        self.knows(event, state)
        if prev is None:
            self.tips = [event]
        return event

    def knows(self, event: Event, before: State) -> None:
        """An event, and the state before it."""
        self.events[event.event_id] = event
        self.after[event.event_id] = before if event.key is None else {**before, event.key: event.event_id}

    def chain(self, user: str, length: int, *, prev: Sequence[Event] | None = None) -> list[Event]:
        """Messages, each on the one before."""
        made: list[Event] = []
        for number in range(length):
            parents = [made[-1]] if made else prev
            made.append(self.says(user, "m.room.message", {**TEXT, "body": f"{number}"}, prev=parents))
        self.tips = [made[-1]]
        return made

    # --- sending ---------------------------------------------------------------------------------------------------

    async def send(
        self, *pdus: Event | Mapping[str, Any], edus: Sequence[Any] = (), expect: int = 200
    ) -> Any:
        """One transaction of the remote server."""
        return await self.transact(f"t{next(_numbers)}", *pdus, edus=edus, expect=expect)

    async def transact(
        self, txn_id: str, *pdus: Event | Mapping[str, Any], edus: Sequence[Any] = (), expect: int = 200
    ) -> Any:
        """With a transaction id of one's own."""
        body = {
            "origin": self.remote.name,
            "origin_server_ts": int(time.time() * 1000),
            "pdus": [dict(each.fields) if isinstance(each, Event) else each for each in pdus],
            "edus": list(edus),
        }
        uri = f"/_matrix/federation/v1/send/{quote(txn_id, safe='')}"
        code, answer = await self.remote.ask(self.here, "PUT", uri, body)
        assert code == expect, (code, answer)
        return answer

    async def arrives(self, *events: Event, within: float = 60.0) -> list[PersistedEvent]:
        """Wait until all are here, whole."""
        until = time.monotonic() + within
        while True:
            places = await self.core.events.places([event.event_id for event in events])
            # What the database has, memory hears of a moment later.
            heard = all(place.nid <= self.core.tail.position for place in places.values())
            if heard and all(
                event.event_id in places and not places[event.event_id].flags & 4 for event in events
            ):
                loaded = await self.core.events.load([place.nid for place in places.values()])
                return [loaded[places[event.event_id].nid] for event in events]
            missing = [event for event in events if event.event_id not in places]
            assert time.monotonic() < until, f"{len(missing)} of {len(events)} have not come"
            await asyncio.sleep(0.02)

    async def drained(self, within: float = 60.0) -> None:
        """Wait until nothing is staged here that is due."""
        until = time.monotonic() + within
        while await self.staged():
            assert time.monotonic() < until, "something is staged still"
            await asyncio.sleep(0.02)

    async def staged(self) -> int:
        """How many events are staged."""
        async with self.core.db.read() as tx:
            return int(await tx.value("SELECT count(*) FROM federation_staged"))

    # --- answering -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer what the room's events and states are."""
        v1 = "/_matrix/federation/v1"
        self.remote.answers("POST", f"{v1}/get_missing_events/*", self._missing)
        self.remote.answers("GET", f"{v1}/state_ids/*", self._state_ids)
        self.remote.answers("GET", f"{v1}/state/*", self._state)
        self.remote.answers("GET", f"{v1}/event/*", self._event)
        self.remote.answers("GET", f"{v1}/event_auth/*", self._event_auth)

    def pdu(self, event_id: EventId) -> dict[str, Any]:
        return dict(self.events[event_id].fields)

    def auth_chain(self, event_ids: Iterable[EventId]) -> list[EventId]:
        """All that these rest on, themselves left out."""
        found: dict[EventId, None] = {}
        todo = [each for event_id in event_ids for each in self.events[event_id].auth_event_ids]
        while todo:
            event_id = todo.pop()
            if event_id not in found and event_id in self.events:
                found[event_id] = None
                todo += self.events[event_id].auth_event_ids
        return [*found]

    def _missing(self, asked: Asked) -> Any:
        body = json.loads(asked.body)
        stop, found, todo = set(body["earliest_events"]), {}, list(body["latest_events"])
        while todo and len(found) < min(body["limit"], 20):
            event = self.events.get(todo.pop(0))
            for each in event.prev_event_ids if event is not None else ():
                if each in self.events and each not in stop and each not in self.hidden and each not in found:
                    found[each] = self.pdu(each)
                    todo.append(each)
        return {"events": list(found.values())[: body["limit"]]}

    def _before(self, asked: Asked) -> list[EventId] | None:
        event = self.events.get(EventId(asked.query["event_id"]))
        if event is None:
            return None
        after = self.after[event.event_id]
        before = {key: each for key, each in after.items() if each != event.event_id}
        for parent in event.prev_event_ids:
            before |= self.after.get(parent, {})
        return [*before.values()]

    def _state_ids(self, asked: Asked) -> Any:
        ids = self._before(asked)
        if ids is None:
            return _NOT_FOUND
        return {"pdu_ids": ids, "auth_chain_ids": self.auth_chain(ids)}

    def _state(self, asked: Asked) -> Any:
        ids = self._before(asked)
        if ids is None:
            return _NOT_FOUND
        return {
            "pdus": [self.pdu(each) for each in ids],
            "auth_chain": [self.pdu(each) for each in self.auth_chain(ids)],
        }

    def _event(self, asked: Asked) -> Any:
        event_id = EventId(unquote(asked.path.rpartition("/")[2]))
        if event_id not in self.events or event_id in self.hidden:
            return _NOT_FOUND
        return {
            "origin": self.remote.name,
            "origin_server_ts": 1,
            "pdus": [self.pdu(event_id)],
        }

    def _event_auth(self, asked: Asked) -> Any:
        event_id = EventId(unquote(asked.path.rpartition("/")[2]))
        if event_id not in self.events:
            return _NOT_FOUND
        return {"auth_chain": [self.pdu(each) for each in self.auth_chain([event_id])]}


_NOT_FOUND = status(404, {"errcode": "M_NOT_FOUND", "error": "Not here"})
