"""How a knock ends (JOIN-04)."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

End = Callable[[User, User, str], Awaitable[Any]]
ENDS: dict[str, tuple[End, str, str]] = {
    "invite": (lambda alice, bob, room: alice.invite(room, bob), "invite", "invite"),
    "denied": (lambda alice, bob, room: alice.kick(room, bob, reason="no"), "leave", "leave"),
    "ban": (lambda alice, bob, room: alice.ban(room, bob), "leave", "ban"),
    "taken-back": (lambda _, bob, room: bob.leave(room), "leave", "leave"),
}
"""What is done, in which section the room is afterwards, and the membership."""


@pytest.mark.parametrize("end", ENDS)
async def test_a_knock_ends(end: str, server: Server) -> None:
    """JOIN-04: by an invite (of whoever does not know of the knock, too), a kick, a ban, or by who knocked."""
    act, section, membership = ENDS[end]
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room = await alice.create_room(preset="private_chat", initial_state=[rule], invite=[carol.user_id])
    await carol.join(room)
    await bob.sync()
    await bob.post("/knock/{}", room, json={})
    assert room in (await bob.sync())["rooms"]["knock"]
    await act(alice, bob, room)
    rooms = (await bob.sync())["rooms"]
    assert [name for name, those in rooms.items() if room in those] == [section]
    assert (await alice.members(room))[bob.user_id] == membership
    fresh = (await bob.sync(since=None)).get("rooms", {})
    assert room not in fresh.get("knock", {})
    if end == "invite":
        await bob.join(room)
    elif end == "ban":
        await bob.post("/knock/{}", room, json={}, expect=(403, "M_FORBIDDEN"))
    else:  # one may knock again
        await bob.post("/knock/{}", room, json={})
        assert room in (await bob.sync())["rooms"]["knock"]
