"""Lists of sliding sync have the rooms that fit their filters, and nothing is missed or told twice meanwhile: hypothesis drives it.

As in `test_sliding_sums.py`, with two processes on one database; but here what changes with every other step are filters, ranges
and subscriptions, and what the filters go by: names, tags, encryption, conversations with one person, types, invites (MSC4186).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester
from tests.property.test_sliding_sums import ALL, SlidingClient, _agrees
from tests.property.test_sync_sums import _act
from tests.support.graph import Process, process

SPACE = "m.space"
Filters = dict[str, Any]
FILTERS: list[Filters] = [
    *(
        {name: wanted}
        for name in ("is_dm", "is_encrypted", "is_invite", "is_invited")
        for wanted in (True, False)
    ),
    *({"room_name_like": text} for text in ("TEA", "1", "")),
    *({name: tags} for name in ("tags", "not_tags") for tags in (["u.1"], ["u.0", "u.2"], [])),
    *({name: types} for name in ("room_types", "not_room_types") for types in ([SPACE], [None], [])),
]
_numbers = count(1)


class Facts(NamedTuple):
    """What filters go by, as `/v3/sync` tells it."""

    invited: bool
    direct: bool
    encrypted: bool = False
    type: str | None = None
    name: str = ""
    tags: frozenset[str] = frozenset()
    spaces: frozenset[str] = frozenset()
    """Those that have the room and that one is in."""

    def fit(self, filters: Filters) -> bool:
        """Whether a list with these filters has the room."""
        fits: dict[str, Callable[[Any], bool]] = {
            "is_invite": lambda wanted: self.invited is wanted,
            "is_invited": lambda wanted: self.invited is wanted,
            "is_dm": lambda wanted: self.direct is wanted,
            "is_encrypted": lambda wanted: self.encrypted is wanted,
            "room_name_like": lambda wanted: wanted.lower() in self.name.lower(),
            "tags": lambda wanted: bool(self.tags.intersection(wanted)),
            "not_tags": self.tags.isdisjoint,
            "spaces": lambda wanted: bool(self.spaces.intersection(wanted)),
            "room_types": lambda wanted: self.type in wanted,
            "not_room_types": lambda wanted: self.type not in wanted,
        }
        return all(fits[name](wanted) for name, wanted in filters.items())


async def facts_of(here: Process, who: Requester) -> dict[str, Facts]:
    """Of all rooms that lists may have."""
    answer = await here.sync(who, state_after=True)
    direct = {
        room
        for event in answer.get("account_data", {}).get("events", ())
        if event["type"] == "m.direct"
        for rooms in event["content"].values()
        for room in rooms
    }
    rooms = answer.get("rooms", {})
    found = {room: Facts(invited=True, direct=room in direct) for room in rooms.get("invite", {})}
    joined = rooms.get("join", {})
    spaces: dict[str, set[str]] = {}
    for room, section in joined.items():
        for event in section["state_after"]["events"]:
            if event["type"] == "m.space.child" and event["content"].get("via"):
                spaces.setdefault(event["state_key"], set()).add(room)
    for room, section in joined.items():
        state = {event["type"]: event["content"] for event in section["state_after"]["events"]}
        data = {
            event["type"]: event["content"] for event in section.get("account_data", {}).get("events", ())
        }
        found[room] = Facts(
            invited=False,
            direct=room in direct,
            encrypted="m.room.encryption" in state,
            type=state["m.room.create"].get("type"),
            name=state.get("m.room.name", {}).get("name", ""),
            tags=frozenset(data.get("m.tag", {}).get("tags", ())),
            spaces=frozenset(spaces.get(room, ())),
        )
    return found


@dataclass
class ListsClient(SlidingClient):
    """Wants other lists all the time."""

    counts: dict[str, int] = field(default_factory=dict)

    @override
    def wish(self) -> None:
        self.lists = {}
        for number in range(self.chance.randrange(1, 5)):
            filters: Filters = {}
            for each in self.chance.sample(FILTERS, self.chance.choice([0, 1, 1, 2, 3])):
                filters |= each
            if "is_invited" in filters:  # another name of the same
                filters.pop("is_invite", None)
            first = self.chance.randrange(4)
            ranges = self.chance.choice(
                [[[0, 0]], [[0, 999]], [[first, first + 1]], [[first, first], [5, 9]], []]
            )
            limit = self.chance.choice([1, 3, 10])
            self.lists[f"{number}"] = {**ALL, "ranges": ranges, "filters": filters, "timeline_limit": limit}

    @override
    async def _ask(self, here: Process) -> dict[str, Any]:
        answer = await super()._ask(here)
        self.counts = {name: each["count"] for name, each in answer["lists"].items()}
        return answer

    async def check(self, pick: Callable[[], Process]) -> None:
        """Ask once, and compare how many rooms each list has, and which of them the client has been told of."""
        await self.sync(pick)
        facts = await facts_of(pick(), self.who)
        # Of invites `/v3/sync` does not tell all that filters go by; rooms that were left are in lists until that is told.
        invited = {room for room, each in facts.items() if each.invited}
        # Rooms one was removed from are there also if the client never heard of them.
        left = await pick().sync(self.who, filter={"room": {"include_leave": True}})
        gone = (self.rooms.keys() | self.others.keys() | left["rooms"].get("leave", {}).keys()) - facts.keys()
        for name, wanted in self.lists.items():
            filters = wanted["filters"]
            fitting = {room for room, each in facts.items() if each.fit(filters)}
            unsure = set() if filters.keys() <= {"is_invite", "is_invited", "is_dm"} else invited
            if False in (filters.get("is_invite"), filters.get("is_invited")):
                unsure = set()
            assert len(fitting - unsure) <= self.counts[name] <= len(fitting | unsure | gone), filters
            if [0, 999] in wanted["ranges"]:
                assert fitting - unsure <= self.rooms.keys() | self.others.keys()


async def _label(chance: Random, here: Process, who: Requester, rooms: list[RoomId]) -> None:
    """Something that filters go by."""
    room = chance.choice(rooms)
    sending, data = here.rooms.sending, here.account_data.service
    act = chance.choice(["encrypt", "name", "direct", "tag", "untag", "space"])
    if act == "encrypt":
        algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
        await sending.put_state(who, room, ("m.room.encryption", ""), algorithm)
    elif act == "name":
        name = {"name": chance.choice(["Tea", "tea 1", "Coffee 1", ""])}
        await sending.put_state(who, room, ("m.room.name", ""), name)
    elif act == "direct":
        some = chance.sample(rooms, chance.randrange(min(4, len(rooms))))
        await data.put(who.user_nid, None, "m.direct", {who.user_id: some})
    elif act == "tag":
        await data.put_tag(who.user_nid, room, f"u.{chance.randrange(3)}", {})
    elif act == "untag":
        await data.put(who.user_nid, room, "m.tag", {"tags": {}})
    else:
        rooms.append(await here.room(who, preset="public_chat", creation_content={"type": SPACE}))


async def _furnish(here: Process, who: Requester, inviter: Requester) -> RoomId:
    """A space with a room, a secret conversation, a room with tags, and an invite: every filter has and lacks some.

    Returns the space.
    """
    sending, data = here.rooms.sending, here.account_data.service
    space = await here.room(who, creation_content={"type": SPACE})
    child, secret = await here.room(who, name="tea 1"), await here.room(who, name="Coffee")
    await sending.put_state(who, space, ("m.space.child", child), {"via": ["here"]})
    algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
    await sending.put_state(who, secret, ("m.room.encryption", ""), algorithm)
    await data.put(who.user_nid, None, "m.direct", {inviter.user_id: [secret]})
    for room, tag in ((child, "u.1"), (secret, "u.0")):
        await data.put(who.user_nid, room, "m.tag", {"tags": {tag: {}}})
    await here.room(inviter, preset="private_chat", invite=[who.user_id])
    return space


async def _tells_apart(client: ListsClient, pick: Callable[[], Process], filters: list[Filters]) -> None:
    """Each filter, in a list of its own, has the rooms that fit: there are some that do, and some that do not."""
    facts = await facts_of(pick(), client.who)
    assert {each.invited for each in facts.values()} == {True, False}
    for wanted in filters:
        (name,) = wanted
        if wanted[name] not in ("", []) and name not in ("is_invite", "is_invited"):
            assert {each.fit(wanted) for each in facts.values() if not each.invited} == {True, False}, wanted
    client.lists = {f"{number}": {**ALL, "filters": each} for number, each in enumerate(filters)}
    await client.check(pick)


@pytest.mark.timeout(600)
@settings(max_examples=4, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.integers(0, 2**32 - 1), min_size=30, max_size=50))
async def test_lists_have_the_rooms_that_fit_and_nothing_is_missed(
    database: str, tmp_path: Path, steps: list[int]
) -> None:
    """As `/v3/sync` tells it, whichever of two processes is asked. Each step is a number that chance follows from."""
    number, chance = next(_numbers), Random(steps[0])
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):

        def pick() -> Process:
            return chance.choice([one, two])

        people = [await one.user(f"{name}{number}") for name in ("alice", "bob", "carol")]
        clients = [ListsClient(person, chance, lists={}) for person in people]
        rooms: list[RoomId] = []
        spaces: dict[str, RoomId] = {}
        for each in range(4):
            rooms.append(await one.room(people[each % 3], preset="public_chat", name=f"tea {each}"))
            for person in people:
                with contextlib.suppress(MatrixError):
                    await one.rooms.membership.join(person, rooms[-1])
        for step in steps:
            chance.seed(step)
            here = pick()
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                if chance.random() < 0.4:
                    await _label(chance, here, chance.choice(people), rooms)
                else:
                    await _act(chance, here, people, rooms)
            client = chance.choice(clients)
            if chance.random() < 0.4:
                client.wish()
            if chance.random() < 0.5:
                await (client.check(pick) if chance.random() < 0.5 else client.sync(pick))
        for person, inviter in zip(people, people[1:] + people[:1], strict=True):
            spaces[person.user_id] = await _furnish(pick(), person, inviter)
        for client in clients:
            client.wish()
            await client.check(pick)
            await _tells_apart(client, pick, [*FILTERS, {"spaces": [spaces[client.who.user_id]]}])
            client.lists = {"all": ALL}
            for _ in range(2):
                await client.sync(pick)
            await _agrees(client, pick(), choosy=False)
