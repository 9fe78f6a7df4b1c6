"""Users of other servers in the user directory: CHECKLIST USER-06."""

import pytest

from tests.support.federation import Federation
from tests.support.remote_members import says, take_part
from tests.support.user import User
from tests.support.waiting import until

SEARCH = "/user_directory/search"


async def found(user: User, term: str) -> list[dict[str, str]]:
    return list((await user.post(SEARCH, json={"search_term": term}))["results"])


@pytest.mark.parametrize("whom", ["everybody", "shared_rooms"])
async def test_users_of_other_servers_are_found_by_their_names(federation: Federation, whom: str) -> None:
    """USER-06: who is in a room with ours; where that is configured, who shares one with the searcher."""
    here = await federation.start(rooms={"directory": {"user_search": whom}})
    remote = await federation.remote()
    alice, stranger = await here.register("alice"), await here.register("stranger")
    room = await alice.create_room(
        preset="private_chat",
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "public"}}],
    )
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "public"})
    bob = remote.user("bob")
    content = {"membership": "join", "displayname": "Bób Builder", "avatar_url": "mxc://x/y"}
    await says(here, remote, room, bob, "m.room.member", content, bob)
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "invite"})
    expected = [{"user_id": bob, "display_name": "Bób Builder", "avatar_url": "mxc://x/y"}]
    await until(lambda: found(alice, "bob buil"))
    assert await found(alice, "bob buil") == expected
    assert await found(alice, bob) == expected
    assert await found(stranger, "builder") == (expected if whom == "everybody" else [])
    for odd in (7, "x" * 5_000, "\0", None):
        await says(here, remote, room, bob, "m.room.member", {"membership": "join", "displayname": odd}, bob)
    await until(lambda: _unnamed(alice, bob))
    await take_part(here, remote, room, bob, "leave")
    assert await found(alice, "bob") == []


async def _unnamed(user: User, bob: str) -> bool:
    return await found(user, "bob") == [{"user_id": bob}]
