"""Rooms in short, before one joins: CHECKLIST SUM-01, SPACE-05."""

import pytest

from tests.support.server import Server

SUMMARY = "/_matrix/client/v1/room_summary/{}"


async def test_a_summary_says_what_a_room_is(server: Server) -> None:
    """SUM-01, SPACE-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await alice.create_room(
        preset="public_chat",
        name="Tea",
        topic="Leaves",
        room_alias_name=alice.localpart,
        initial_state=[encryption],
        room_version="11",
    )
    alias = f"#{alice.localpart}:{alice.server_name}"
    expected = {
        "room_id": room,
        "name": "Tea",
        "topic": "Leaves",
        "canonical_alias": alias,
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
        "join_rule": "public",
        "encryption": "m.megolm.v1.aes-sha2",
        "room_version": "11",
    }
    for name in (room, alias):
        assert await server.client.get(SUMMARY, name) == expected
        assert await bob.get(SUMMARY, name) == expected | {"membership": "leave"}
        assert await alice.get(SUMMARY, name) == expected | {"membership": "join"}
    for path in ("summary/{}", "rooms/{}/summary"):
        old = "/_matrix/client/unstable/im.nheko.summary/" + path
        assert (await bob.get(old, room))["room_id"] == room


@pytest.mark.parametrize(
    ("rule", "history", "shown"),
    [
        ("invite", "shared", False),
        ("invite", "world_readable", True),
        ("knock", "shared", True),
        ("private", "joined", False),
    ],
)
async def test_who_may_not_know_a_room_is_told_that_there_is_none(
    server: Server, rule: str, history: str, shown: bool
) -> None:
    """SUM-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    state = [
        {"type": "m.room.join_rules", "content": {"join_rule": rule}},
        {"type": "m.room.history_visibility", "content": {"history_visibility": history}},
    ]
    room = await alice.create_room(initial_state=state)
    expect = 200 if shown else (404, "M_NOT_FOUND")
    await bob.get(SUMMARY, room, expect=expect)
    await server.client.get(SUMMARY, room, expect=expect)
    if rule == "invite":
        await alice.invite(room, bob)
        assert (await bob.get(SUMMARY, room))["membership"] == "invite"
    await bob.get(SUMMARY, "!unknown:localhost", expect=(404, "M_NOT_FOUND"))
    await bob.get(SUMMARY, "#unknown:localhost", expect=(404, "M_NOT_FOUND"))
    await bob.get(SUMMARY, "nonsense", expect=(400, "M_INVALID_PARAM"))


async def test_a_restricted_room_is_shown_to_who_may_join_it(server: Server) -> None:
    """SUM-01, SPACE-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    club = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(initial_state=[rules])
    await bob.get(SUMMARY, room, expect=(404, "M_NOT_FOUND"))
    await bob.join(club)
    shown = await bob.get(SUMMARY, room)
    assert (shown["join_rule"], shown["allowed_room_ids"]) == ("restricted", [club])
    await server.client.get(SUMMARY, room, expect=(404, "M_NOT_FOUND"))
