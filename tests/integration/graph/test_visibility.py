"""What is remembered of rooms that were never anything but open (HV-01, HV-02)."""

from pathlib import Path

from homeserver.graph.read.visibility import Viewer
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process

HISTORY = "m.room.history_visibility"


async def sees_all(here: Process, who: Requester, room_id: RoomId) -> bool:
    room = await here.core.rooms.known(room_id)
    return await here.core.visibility.sees_all(Viewer(who.user_id, who.user_nid), room)


async def test_a_visibility_that_lost_held_on_its_branch(database: str, tmp_path: Path) -> None:
    """What was said on the branch that was closed is looked at event by event, though the room is open now as before."""
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat", room_version="11")
        fork = await Fork.of(here, room_id)
        left, right = fork.branch(), fork.branch()
        closed = left.says(alice.user_id, HISTORY, "", {"history_visibility": "joined"})
        secret = left.says(alice.user_id, "m.room.message", None, {"msgtype": "m.text", "body": "secret"})
        opened = right.says(alice.user_id, HISTORY, "", {"history_visibility": "shared", "x": 1})
        await receive(here, opened)
        await here.rooms.membership.join(bob, room_id)
        assert await sees_all(here, bob, room_id)
        await receive(here, closed, secret)
        room = await here.core.rooms.known(room_id)
        assert (await here.core.events.one(room.state[HISTORY, ""])).event.event_id == opened.event_id  # type: ignore[union-attr]
        assert not await sees_all(here, bob, room_id)


async def test_a_room_that_is_closed_for_a_while_is_not_open_any_more(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        assert await sees_all(here, alice, room_id)
        for value, expected in (("world_readable", True), ("invited", False), ("shared", False)):
            await here.rooms.sending.put_state(alice, room_id, (HISTORY, ""), {"history_visibility": value})
            assert await sees_all(here, alice, room_id) is expected
        async with process(database, tmp_path, alone=False) as other:
            assert not await sees_all(other, alice, room_id)


async def test_a_room_whose_visibility_changes_all_the_time_is_looked_at_event_by_event(
    database: str, tmp_path: Path
) -> None:
    """The work of asking is bounded."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        for number in range(200):
            content = {"history_visibility": "shared", "n": number}
            await here.rooms.sending.put_state(alice, room_id, (HISTORY, ""), content)
        assert not await sees_all(here, alice, room_id)
