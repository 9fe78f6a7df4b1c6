"""The frontier of a room stays small however many branches arrive (EVT-03, FED-42): a dummy event joins them, and clients do
not see it; where nobody here may send one, the newest extremities count.
"""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.refs import DUMMY
from homeserver.graph.write.forward_extremities import MAX_EXTREMITIES, MERGE_ABOVE
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId, UserId
from homeserver.web.auth import Requester
from tests.support.cpu import cpu_time, grows_linearly
from tests.support.forks import Fork, receive, state_of
from tests.support.graph import Process, process

TOPIC = "m.room.topic"


async def branches(here: Process, room_id: RoomId, sender: str, number: int) -> int:
    """So many events, each a branch of its own. Returns the greatest frontier on the way."""
    fork = await Fork.of(here, room_id)
    greatest = 0
    for each in range(number):
        branch = fork.branch()
        kind, key = ("m.room.message", None) if each % 3 else (TOPIC, "")
        await receive(here, branch.says(sender, kind, key, {"topic": str(each), "body": str(each)}))
        greatest = max(greatest, len((await here.core.rooms.known(room_id)).extremities))
    return greatest


async def dummies(here: Process, room_id: RoomId) -> list[str]:
    room = await here.core.rooms.known(room_id)
    async with here.core.db.read() as tx:
        nids = await tx.column(
            "SELECT event_nid FROM events WHERE room_nid = %(room)s AND flags <> 0", room=room.name.nid
        )
    found = (await here.core.events.load(nids)).values()
    return [persisted.event.event_id for persisted in found if persisted.event.type == DUMMY]


async def everything_seen(here: Process, who: Requester, room_id: RoomId) -> set[str]:
    """By paging through the whole room."""
    seen: set[str] = set()
    start: int | None = here.core.tail.position
    while start is not None:
        page = await here.rooms.history.messages(
            who, room_id, start=start, stop=None, backwards=True, limit=100, wanted=RoomEventFilter()
        )
        seen |= {json.loads(event)["event_id"] for event in page.chunk}
        start = int(page.end[1:]) if page.end else None
    return seen


async def test_many_branches_are_joined_by_an_event_that_clients_do_not_see(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        since = (await here.sync(bob))["next_batch"]
        assert await branches(here, room_id, alice.user_id, 2 * MERGE_ABOVE + 3) <= MERGE_ABOVE + 1
        sent = await dummies(here, room_id)
        assert len(sent) >= 2
        persisted = await here.core.events.by_id(sent[0])  # type: ignore[arg-type]  # a NewType
        assert persisted is not None
        assert persisted.event.sender == alice.user_id, "the most powerful of ours"
        assert 2 <= len(persisted.event.prev_event_ids) <= MAX_EXTREMITIES

        assert not set(sent) & await everything_seen(here, bob, room_id)
        for token in (since, None):
            answer = await here.sync(bob, token, filter={"room": {"timeline": {"limit": 100}}})
            events = answer["rooms"]["join"][room_id]["timeline"]["events"]
            assert events
            assert DUMMY not in {event["type"] for event in events}
        here.core.rooms.reset()
        again = await here.core.rooms.known(room_id)
        assert len(again.extremities) <= MERGE_ABOVE + 1
        by_chain = await here.core.states.load(again.room_state.nid)
        assert sorted(by_chain.values()) == sorted(again.state.values())


async def test_a_dummy_event_of_another_server_joins_branches_and_is_not_seen_either(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        fork = await Fork.of(here, room_id)
        tips = [fork.branch() for _ in range(3)]
        for number, branch in enumerate(tips):
            await receive(here, branch.says(alice.user_id, "m.room.message", None, {"body": str(number)}))
        since = (await here.sync(alice))["next_batch"]
        join = tips[0].says(alice.user_id, DUMMY, None, {}, tips[1].tip, tips[2].tip)
        await receive(here, join)
        room = await here.core.rooms.known(room_id)
        assert [ref.event_id for ref in room.extremities] == [join.event_id]
        assert "rooms" not in await here.sync(alice, since)


async def test_where_nobody_here_may_speak_the_newest_branches_count(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat", room_version="11")
        await here.rooms.membership.join(bob, room_id)
        mallory = UserId("@mallory:elsewhere.example")
        arrival = (await Fork.of(here, room_id)).branch()
        joined = arrival.says(mallory, "m.room.member", mallory, {"membership": "join"})
        await receive(here, joined)
        levels: dict[str, Any] = dict((await state_of(here, room_id))["m.room.power_levels", ""].content)
        levels |= {"users": {mallory: 100, alice.user_id: 100}, "events_default": 50}
        await here.rooms.sending.put_state(alice, room_id, ("m.room.power_levels", ""), levels)
        await here.rooms.membership.leave(alice, room_id)
        with capture_logs() as logs:
            assert await branches(here, room_id, mallory, 3 * MAX_EXTREMITIES) == MAX_EXTREMITIES
        assert [line["event"] for line in logs if line["event"].startswith("forward_extremities")] == [
            "forward_extremities.cut"
        ]
        assert not await dummies(here, room_id)
        await here.rooms.membership.leave(bob, room_id)
        room = await here.core.rooms.known(room_id)
        assert len(room.extremities) == 1
        last = await here.core.events.one(room.extremities[0].nid)
        assert last is not None
        assert len(last.event.prev_event_ids) == MAX_EXTREMITIES
        by_chain = await here.core.states.load(room.room_state.nid)
        assert sorted(by_chain.values()) == sorted(room.state.values())


async def test_what_a_client_sends_under_that_name_is_not_seen(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        since = (await here.sync(alice))["next_batch"]
        await here.rooms.sending.send(alice, room_id, DUMMY, "t1", {})
        assert "rooms" not in await here.sync(alice, since)


@pytest.mark.slow
async def test_a_thousand_branches_take_linear_time(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")

        async def seconds(number: int) -> float:
            room_id = await here.room(alice, preset="public_chat")
            with cpu_time() as spent:
                assert await branches(here, room_id, alice.user_id, number) <= MERGE_ABOVE + 1
            return spent.seconds

        await seconds(50)
        await grows_linearly(seconds, 250, 1_000)
