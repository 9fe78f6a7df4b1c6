"""Sliding sync tells what `/v3/sync` tells: over generated histories, with two processes on one database.

Clients change windows, limits and the state they want, lose answers and ask again, lose connections, and talk now to this
process, now to that one. At the end each knows the rooms, states, counts and timelines that a fresh client of `/v3/sync` is
told; no event is missed, and none is told twice (MSC4186).
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.events.filtering import RoomEventFilter
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.sync.sliding.connection import UnknownPos
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.service import Asked
from homeserver.web.auth import Requester
from tests.property.test_sync_sums import Client, Talk, _act
from tests.support.graph import Process, process

STEPS = 120
ALL: dict[str, Any] = {"ranges": [[0, 999]], "timeline_limit": 10, "required_state": [["*", "*"]]}


@dataclass
class Room:
    state: dict[tuple[str, str], str] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    unread: tuple[int, int] = (0, 0)
    joined: int = 0


@dataclass
class SlidingClient:
    """What a client makes of the answers it gets on one connection."""

    who: Requester
    chance: random.Random
    pos: str | None = None
    rooms: dict[str, Room] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    """Rooms one is not in -> membership."""
    data: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, Any] = field(default_factory=lambda: {"all": ALL})

    def wish(self) -> None:
        """Want something else."""
        first = self.chance.randrange(5)
        self.lists = {
            "all": {
                **ALL,
                "ranges": [[0, self.chance.choice([0, 0, 1, 999])]],
                "timeline_limit": self.chance.choice([1, 3, 10]),
            },
            "more": {**ALL, "ranges": [[first, first + 1]], "filters": {"is_encrypted": False}},
        }

    async def sync(self, pick: Callable[[], Process]) -> None:
        """One request; now and then its answer, or the connection, is lost."""
        if self.chance.random() < 0.05:
            self._begin()
        answer = await self._ask(pick())
        while self.chance.random() < 0.2:  # the answer did not arrive
            answer = await self._ask(pick())
        self.pos = answer["pos"]
        extension = answer["extensions"].get("account_data", {})
        for event in extension.get("global", ()):
            self.data[event["type"]] = event["content"]
        here = pick()
        await here.core.tail.fresh()
        for room_id, told in answer["rooms"].items():
            await self._told(here, room_id, told)

    def _begin(self) -> None:
        self.pos, self.rooms, self.others, self.data = None, {}, {}, {}

    async def _ask(self, here: Process) -> dict[str, Any]:
        await here.core.tail.fresh()
        extensions = {"account_data": {"enabled": True}}
        body = msgspec.convert({"lists": self.lists, "extensions": extensions}, SlidingRequest)
        for _ in range(2):
            try:
                answer = await here.sliding.service.sync(self.who, Asked(body, self.pos, 0, "offline"))
            except UnknownPos:
                self._begin()
            else:
                found: dict[str, Any] = msgspec.json.decode(answer)
                return found
        raise AssertionError("a connection cannot be begun")

    async def _told(self, here: Process, room_id: str, told: dict[str, Any]) -> None:
        if told["membership"] != "join":
            self.rooms.pop(room_id, None)
            self.others[room_id] = told["membership"]
            return
        self.others.pop(room_id, None)
        if told.get("initial"):
            self.rooms.pop(room_id, None)
        new = room_id not in self.rooms
        assert new == bool(told.get("initial")), "a room comes whole when it is new, and only then"
        room = self.rooms.setdefault(room_id, Room())
        if "notification_count" in told:
            room.unread = (told["notification_count"], told["highlight_count"])
        room.joined = told.get("joined_count", room.joined)
        for event in told.get("required_state", ()):
            room.state[event["type"], event["state_key"]] = event["event_id"]
        if "timeline" not in told:
            return
        ids = [event["event_id"] for event in told["timeline"]]
        if not told.get("expanded_timeline"):
            assert not set(ids) & set(room.timeline), "an event came twice"
        if new or told["limited"]:
            ids = await self._back(here, room_id, told["prev_batch"], set(room.timeline)) + ids
        room.timeline = [event for event in room.timeline if event not in set(ids)] + ids

    async def _back(self, here: Process, room_id: str, start: str | None, known: set[str]) -> list[str]:
        """Events before a token, until one that is known."""
        found: list[str] = []
        while start is not None:
            page = await here.rooms.history.messages(
                self.who,
                RoomId(room_id),
                start=parse_token(start, "from"),
                stop=None,
                backwards=True,
                limit=10,
                wanted=RoomEventFilter(),
            )
            for event in page.chunk:
                event_id = msgspec.json.decode(event)["event_id"]
                if event_id in known:
                    return found[::-1]
                found.append(event_id)
            start = page.end
        return found[::-1]


@pytest.mark.parametrize("seed", range(8))
async def test_sliding_sync_ends_where_v3_sync_does(database: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(300 + seed)  # reproducible
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):

        def pick() -> Process:
            return chance.choice([one, two])

        people = [await one.user(name) for name in ("alice", "bob", "carol")]
        clients = [SlidingClient(person, chance) for person in people]
        rooms: list[RoomId] = []
        for number in range(6):
            rooms.append(await one.room(people[number % 3], preset="public_chat"))
            for person in people:
                with contextlib.suppress(MatrixError):
                    await one.rooms.membership.join(person, rooms[-1])
        talk = (
            Talk(chance) if seed % 2 else None
        )  # who talks also ignores others, and is compared less closely then
        for _ in range(STEPS):
            here = pick()
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                await _act(chance, here, people, rooms, talk)
            for client in clients:
                if chance.random() < 0.2:
                    client.wish()
                if chance.random() < 0.15:  # several rooms change between two answers
                    await client.sync(pick)
        for client in clients:
            client.lists = {"all": ALL}
            for _ in range(2):
                await client.sync(pick)
            choosy = talk is not None and client.who.user_nid in talk.choosy
            await _agrees(client, pick(), choosy=choosy)


async def _agrees(client: SlidingClient, here: Process, *, choosy: bool) -> None:
    fresh = Client(client.who, state_after=True, lazy=False, limit=10)
    here.push.counts.reset()
    await fresh.sync(here)
    assert client.rooms.keys() == fresh.rooms.keys()
    invited = {room for room, membership in client.others.items() if membership == "invite"}
    if not choosy:
        assert invited == fresh.invites
    assert client.data == fresh.account_data
    for room_id, room in client.rooms.items():
        expected = fresh.rooms[room_id]
        state = {key: at for key, at in room.state.items() if key in expected.state}
        assert state == expected.state
        assert room.unread == expected.unread[""]
        assert room.joined == len((await here.core.rooms.known(RoomId(room_id))).local_joined)
        assert len(set(room.timeline)) == len(room.timeline)
        if not choosy:
            kept = set(room.timeline)
            assert room.timeline == [event for event in expected.timeline if event in kept]
            assert set(expected.timeline[-len(room.timeline) :]) == kept
