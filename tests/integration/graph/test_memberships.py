"""The record of memberships has what happened to them, not every name somebody took."""

from collections.abc import Sequence
from pathlib import Path

from homeserver.events.builder import EventDraft
from homeserver.graph.refs import JOIN, LEAVE
from homeserver.graph.rooms.head import Head
from homeserver.graph.write.append import Send
from homeserver.policy.passages import system_passage
from tests.support.graph import Process, process


async def _record(here: Process, user_nid: int) -> list[int]:
    async with here.core.db.read() as tx:
        return await tx.column(
            "SELECT membership FROM memberships WHERE user_nid = %(user)s ORDER BY event_nid", user=user_nid
        )


async def test_another_name_is_no_other_membership(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        for name in ("Bob", "Robert"):
            content = {"membership": "join", "displayname": name}
            await here.rooms.sending.put_state(bob, room_id, ("m.room.member", bob.user_id), content)
        assert await _record(here, bob.user_nid) == [JOIN]
        await here.rooms.membership.leave(bob, room_id)
        await here.rooms.membership.join(bob, room_id)
        assert await _record(here, bob.user_nid) == [JOIN, LEAVE, JOIN]


async def test_leaving_and_coming_back_at_once_is_both_recorded(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)

        def plan(_: Head) -> Sequence[Send]:
            contents: list[dict[str, object]] = [{"membership": "leave"}, {"membership": "join"}]
            return [Send(EventDraft("m.room.member", bob.user_id, bob.user_id, each)) for each in contents]

        room = await here.core.rooms.known(room_id)
        await here.core.graph.append(room.name.nid, plan, system_passage("a test"))
        assert await _record(here, bob.user_nid) == [JOIN, LEAVE, JOIN]
