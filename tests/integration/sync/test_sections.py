"""What a sync holds, when, and how much of it: CHECKLIST section 7."""

import asyncio
from typing import Any

from homeserver.matrix.ids import localpart_of
from tests.support.server import Server
from tests.support.user import User


def joined(reply: dict[str, Any], room: str) -> dict[str, Any]:
    return dict(reply.get("rooms", {}).get("join", {}).get(room, {}))


def ids(section: dict[str, Any], name: str = "timeline") -> list[str]:
    return [event["event_id"] for event in section[name]["events"]]


def people(section: dict[str, Any]) -> set[str]:
    return {e["state_key"] for e in section["state"]["events"] if e["type"] == "m.room.member"}


async def meeting(server: Server, *names: str, **parameters: Any) -> tuple[str, list[User]]:
    """A public room of the first, in which the others are."""
    users = [await server.register(name) for name in names]
    room = await users[0].create_room(preset="public_chat", **parameters)
    for user in users[1:]:
        await user.join(room)
    return room, users


async def test_a_long_poll_ends_with_news_or_with_its_time(server: Server) -> None:
    """SYNC-02."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await alice.sync()
    before = alice.since
    empty = await alice.sync(timeout=50)
    assert "rooms" not in empty or not empty["rooms"].get("join")
    assert empty["next_batch"]
    poll = asyncio.create_task(alice.sync(timeout=30_000))
    await asyncio.sleep(0)
    event = await bob.send(room, "news")
    assert ids(joined(await asyncio.wait_for(poll, 60), room)) == [event]
    again = await alice.sync(since=before)
    assert ids(joined(again, room)) == [event]


async def test_a_cut_timeline_goes_on_with_messages(server: Server) -> None:
    """SYNC-04, SYNC-05: no gap, no overlap; state is what changed before its start."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.sync()
    since = bob.since
    sent = [await alice.send(room, f"{n}") for n in range(3)]
    topic = await alice.put_state(room, "m.room.topic", {"topic": "in the gap"})
    sent += [topic, *[await alice.send(room, f"{n}") for n in range(3, 6)]]
    cut = {"room": {"timeline": {"limit": 2}}}
    section = joined(await bob.sync(filter=cut), room)
    assert section["timeline"]["limited"] is True
    assert ids(section) == sent[-2:]
    assert ids(section, "state") == [topic]
    page = await bob.messages(room, from_=section["timeline"]["prev_batch"], to=since, limit=50)
    assert [e["event_id"] for e in reversed(page["chunk"])] == sent[:-2]
    rest = joined(await bob.sync(since=since), room)
    assert (ids(rest), rest["timeline"]["limited"]) == (sent, False)
    assert rest.get("state", {}).get("events", []) == []


async def test_state_after_goes_to_the_end_of_the_timeline(server: Server) -> None:
    """SYNC-06: also in rooms one has left."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.sync(use_state_after=True)
    topic = await alice.put_state(room, "m.room.topic", {"topic": "shown"})
    section = joined(await bob.sync(use_state_after=True), room)
    assert "state" not in section
    assert ids(section, "state_after") == ids(section) == [topic]
    await alice.send(room, "no state")
    section = joined(await bob.sync(use_state_after=True), room)
    assert section["state_after"]["events"] == []
    await bob.leave(room)
    left = (await bob.sync(use_state_after=True))["rooms"]["leave"][room]
    assert "state" not in left
    assert [e["content"]["membership"] for e in left["state_after"]["events"]] == ["leave"]


async def test_full_state_comes_at_once_with_a_timeline_since_the_token(server: Server) -> None:
    """SYNC-03, FILT-05."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.sync()
    event = await alice.send(room, "one")
    section = joined(await asyncio.wait_for(bob.sync(full_state=True, timeout=30_000), 60), room)
    assert ids(section) == [event]
    kinds = {e["type"] for e in section["state"]["events"]}
    assert {"m.room.create", "m.room.power_levels", "m.room.join_rules"} <= kinds
    assert people(section) == {alice.user_id, bob.user_id}
    # With nothing new at all, still at once and whole.
    section = joined(await asyncio.wait_for(bob.sync(full_state=True, timeout=30_000), 60), room)
    assert section["timeline"]["events"] == []
    assert people(section) == {alice.user_id, bob.user_id}


async def test_a_room_just_joined_comes_whole(server: Server) -> None:
    """SYNC-08, FILT-05."""
    room, (alice,) = await meeting(server, "alice")
    bob = await server.register("bob")
    await bob.sync()
    await alice.send(room, "before")
    await bob.join(room)
    section = joined(await bob.sync(), room)
    shown = section["state"]["events"] + section["timeline"]["events"]
    assert {"m.room.create", "m.room.power_levels"} <= {e["type"] for e in shown}
    assert "before" in [e["content"].get("body") for e in shown]
    assert bob.user_id in [e.get("state_key") for e in shown]
    assert all("room_id" not in event for event in shown), "FILT-10"
    await bob.leave(room)
    await bob.join(room)  # between two syncs
    section = joined(await bob.sync(), room)
    assert section["timeline"]["events"]


async def test_the_summary_names_others_until_the_room_has_a_name(server: Server) -> None:
    """Heroes and counts, left out when unchanged."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    carol = await server.register("carol")
    await alice.invite(room, carol)
    first = joined(await alice.sync(), room)["summary"]
    assert set(first["m.heroes"]) == {bob.user_id, carol.user_id}
    assert (first["m.joined_member_count"], first["m.invited_member_count"]) == (2, 1)
    await bob.send(room, "no change")
    assert not joined(await alice.sync(), room).get("summary")
    await carol.join(room)
    assert joined(await alice.sync(), room)["summary"]["m.joined_member_count"] == 3
    await bob.leave(room)
    await carol.leave(room)
    gone = joined(await alice.sync(), room)["summary"]
    assert set(gone["m.heroes"]) == {bob.user_id, carol.user_id}
    await alice.put_state(room, "m.room.name", {"name": "Named"})
    assert not joined(await alice.sync(), room).get("summary", {}).get("m.heroes")


async def test_the_summary_tells_of_a_change_in_the_gap(server: Server) -> None:
    """SYNC-10: a limited timeline does not show who came."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    carol = await server.register("carol")
    await alice.sync()
    await carol.join(room)
    for n in range(4):
        await bob.send(room, f"{n}")
    section = joined(await alice.sync(filter={"room": {"timeline": {"limit": 1}}}), room)
    assert carol.user_id in people(section)
    assert section["summary"]["m.joined_member_count"] == 3


async def test_lazy_clients_get_the_members_they_need(server: Server) -> None:
    """FILT-04, FILT-05, SYNC-10."""
    room, (alice, bob, carol, dave) = await meeting(server, "alice", "bob", "carol", "dave", name="Named")
    for n in range(3):
        await bob.send(room, f"{n}")
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
    assert people(joined(await alice.sync(filter=lazy), room)) == {alice.user_id, bob.user_id}
    await carol.send(room, "hello")
    assert people(joined(await alice.sync(filter=lazy), room)) == {carol.user_id}
    await carol.send(room, "again")
    assert people(joined(await alice.sync(filter=lazy), room)) == set()
    redundant = {"room": {"state": {"lazy_load_members": True, "include_redundant_members": True}}}
    await carol.send(room, "once more")
    assert people(joined(await alice.sync(filter=redundant), room)) == {carol.user_id}
    await dave.put("/profile/{}/displayname", dave.user_id, json={"displayname": "Dave"})
    await bob.send(room, "a")
    await bob.send(room, "b")
    assert dave.user_id in people(joined(await alice.sync(filter=lazy), room)), "a change in the gap"


async def test_lazy_clients_at_the_same_place_are_each_given_whom_they_lack(server: Server) -> None:
    """FILT-04: what they are told is made once, but for the members that one of them has and another has not."""
    room, (alice, bob, carol, dave) = await meeting(server, "alice", "bob", "carol", "dave", name="Named")
    plain: dict[str, Any] = {"room": {"timeline": {"limit": 5}}}
    lazy: dict[str, Any] = {"room": {**plain["room"], "state": {"lazy_load_members": True}}}
    await bob.send(room, "of whom nothing is shown")
    one = {"room": {"timeline": {"limit": 0}, "state": {"lazy_load_members": True}}}
    for user in (alice, carol, dave):
        await user.sync(filter=one)
    await bob.send(room, "of which alice and carol learn who bob is")
    for user, parameters, given in (
        (alice, lazy, {bob.user_id}),
        (dave, plain, set()),
        (carol, lazy, {bob.user_id}),
    ):
        assert people(joined(await user.sync(filter=parameters), room)) == given
    for lacking in ({bob.user_id}, set()):
        event = await bob.send(room, "to all three")
        answers = [joined(await user.sync(filter=lazy), room) for user in (alice, dave, carol)]
        assert [ids(answer) for answer in answers] == [[event]] * 3
        assert [people(answer) for answer in answers] == [set(), lacking, set()]


async def test_lazy_clients_get_the_heroes_too(server: Server) -> None:
    """SYNC-10."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    for n in range(2):
        await alice.send(room, f"{n}")
    lazy = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
    section = joined(await alice.sync(filter=lazy), room)
    assert set(section["summary"]["m.heroes"]) == {bob.user_id, carol.user_id}
    assert people(section) == {alice.user_id, bob.user_id, carol.user_id}


async def test_lazy_members_of_messages_and_context(server: Server) -> None:
    """FILT-04."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    await bob.send(room, "one")
    middle = await carol.send(room, "two")
    await bob.send(room, "three")
    lazy = {"lazy_load_members": True}
    page = await alice.messages(room, limit=1, filter=lazy)
    assert [e["state_key"] for e in page["state"]] == [bob.user_id]
    assert "state" not in await alice.messages(room, limit=1)
    context = await alice.get("/rooms/{}/context/{}", room, middle, params={"limit": 0, "filter": lazy})
    members = [e["state_key"] for e in context["state"] if e["type"] == "m.room.member"]
    assert members == [carol.user_id]


async def test_invites_come_stripped(server: Server) -> None:
    """SYNC-13, FILT-08."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await bob.sync()
    room = await alice.create_room(name="Name", topic="Topic", invite=[bob.user_id], is_direct=True)
    events = (await bob.sync())["rooms"]["invite"][room]["invite_state"]["events"]
    for event in events:
        assert set(event) == {"type", "state_key", "content", "sender"}
    kinds = {event["type"] for event in events}
    assert {"m.room.create", "m.room.name", "m.room.topic", "m.room.join_rules", "m.room.member"} <= kinds
    own = next(e for e in events if e.get("state_key") == bob.user_id)
    assert own["content"]["membership"] == "invite"
    assert own["content"]["is_direct"] is True
    await bob.leave(room)
    reply = await bob.sync()
    assert room in reply["rooms"]["leave"]
    assert "Name" not in str(reply["rooms"]["leave"])


async def test_a_leave_is_told_once(server: Server) -> None:
    """SYNC-13, SYNC-14: the timeline ends with it."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.sync()
    await alice.send(room, "seen")
    await alice.kick(room, bob)
    await alice.send(room, "not seen")
    section = (await bob.sync())["rooms"]["leave"][room]
    timeline = section["timeline"]["events"]
    assert timeline[0]["content"]["body"] == "seen"
    assert timeline[-1]["content"]["membership"] == "leave"
    assert len(timeline) == 2
    assert not (await bob.sync()).get("rooms", {}).get("leave")
    assert not (await bob.sync(since=None)).get("rooms", {}).get("leave")
    old = await bob.sync(since=None, filter={"room": {"include_leave": True}})
    assert "not seen" not in str(old["rooms"]["leave"][room])


async def test_the_knock_has_its_section(server: Server) -> None:
    """SYNC-13, JOIN-04."""
    alice, bob = await server.register("alice"), await server.register("bob")
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room = await alice.create_room(preset="private_chat", name="Name", initial_state=[rule])
    await bob.sync()
    await bob.post("/knock/{}", room, json={"reason": "please"})
    state = (await bob.sync())["rooms"]["knock"][room]["knock_state"]["events"]
    assert {"m.room.create", "m.room.name"} <= {e["type"] for e in state}
    await alice.invite(room, bob)
    assert room in (await bob.sync())["rooms"]["invite"]
    await bob.join(room)
    assert room in (await bob.sync())["rooms"]["join"]


IGNORED = "/user/{}/account_data/m.ignored_user_list"


async def test_what_ignored_people_say_is_not_shown(server: Server) -> None:
    """SYNC-16; and their invites do not come."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.send(room, "before")
    await alice.put(IGNORED, alice.user_id, json={"ignored_users": {bob.user_id: {}}})
    await alice.sync(since=None)
    bodies = [e["content"].get("body") for e in alice.timeline[room]]
    assert "before" not in bodies
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Bobby"})
    await bob.send(room, "after")
    section = joined(await alice.sync(), room)
    assert [e["type"] for e in section["timeline"]["events"]] == ["m.room.member"]
    elsewhere = await bob.create_room(invite=[alice.user_id], preset="private_chat")
    await bob.put("/rooms/{}/typing/{}", room, bob.user_id, json={"typing": True, "timeout": 30_000})
    reply = await alice.sync()
    assert elsewhere not in reply.get("rooms", {}).get("invite", {})
    assert elsewhere not in (await alice.sync(since=None)).get("rooms", {}).get("invite", {})
    await alice.put(IGNORED, alice.user_id, json={"ignored_users": {}})
    await bob.send(room, "heard")
    await alice.sees(room, "heard")
    assert elsewhere in (await alice.sync(since=None))["rooms"]["invite"]


INVITES = "/user/{}/account_data/m.invite_permission_config"


async def test_stored_invites_do_not_come_while_invites_are_blocked(server: Server) -> None:
    """SYNC-15: what waits comes when it is wanted again, without a sync from the beginning."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(invite=[bob.user_id], preset="private_chat")
    await bob.put(INVITES, bob.user_id, json={"default_action": "block"})
    assert room not in (await bob.sync()).get("rooms", {}).get("invite", {})
    assert room not in (await bob.sync(full_state=True)).get("rooms", {}).get("invite", {})
    await bob.put(INVITES, bob.user_id, json={})
    assert room in (await bob.sync())["rooms"]["invite"]
    assert room not in (await bob.sync()).get("rooms", {}).get("invite", {})


async def test_an_invite_of_somebody_ignored_no_longer_comes(server: Server) -> None:
    """SYNC-15."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await bob.put(IGNORED, bob.user_id, json={"ignored_users": {alice.user_id: {}}})
    room = await alice.create_room(invite=[bob.user_id], preset="private_chat")
    assert room not in (await bob.sync()).get("rooms", {}).get("invite", {})
    await bob.put(IGNORED, bob.user_id, json={"ignored_users": {}})
    assert room in (await bob.sync())["rooms"]["invite"]


async def test_an_empty_name_is_no_name(server: Server) -> None:
    """SYNC-09: the client needs the heroes again."""
    room, (alice, bob) = await meeting(server, "alice", "bob", name="Named")
    assert "m.heroes" not in joined(await alice.sync(), room)["summary"]
    for kind, content in (("m.room.name", {"name": ""}), ("m.room.name", {}), ("m.room.canonical_alias", {})):
        await alice.put_state(room, kind, content)
        assert joined(await alice.sync(), room)["summary"]["m.heroes"] == [bob.user_id], content
    await alice.put_state(room, "m.room.name", {"name": "Named"})
    assert "m.heroes" not in joined(await alice.sync(), room)["summary"]


async def test_lazy_members_of_a_page_are_those_of_its_time(server: Server) -> None:
    """FILT-04: a name that was changed since belongs to what was said since."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    name = "/profile/{}/displayname"
    await bob.put(name, bob.user_id, json={"displayname": "First"})
    old = await bob.send(room, "as first")
    await bob.put(name, bob.user_id, json={"displayname": "Second"})
    await bob.send(room, "as second")
    lazy = {"lazy_load_members": True, "types": ["m.room.message"]}
    token = (await alice.get("/rooms/{}/context/{}", room, old, params={"limit": 0}))["end"]
    for params in ({"from_": token, "limit": 1}, {"limit": 2}):
        page = await alice.messages(room, filter=lazy, **params)
        assert [e["content"].get("displayname") for e in page["state"]] == ["First"]
    newest = await alice.messages(room, filter=lazy, limit=1)
    assert [e["content"].get("displayname") for e in newest["state"]] == ["Second"]


async def test_who_came_within_the_page_is_shown_as_they_were_when_they_first_spoke(server: Server) -> None:
    """FILT-04: not as they are now, nor as they had not come yet."""
    room, (alice,) = await meeting(server, "alice")
    bob = await server.register("bob")
    name = "/profile/{}/displayname"
    first = await alice.send(room, "before")
    await bob.put(name, bob.user_id, json={"displayname": "First"})
    await bob.join(room)
    last = await bob.send(room, "as first")
    await bob.put(name, bob.user_id, json={"displayname": "Second"})
    lazy = {"lazy_load_members": True, "types": ["m.room.message"]}
    for wanted in ({"dir": "b"}, {"dir": "f"}):
        page = await alice.messages(room, filter=lazy, limit=50, **wanted)
        assert {e["event_id"] for e in page["chunk"]} == {first, last}
        shown = {e["state_key"]: e["content"].get("displayname") for e in page["state"]}
        assert shown == {alice.user_id: localpart_of(alice.user_id), bob.user_id: "First"}


def topics(section: dict[str, Any], name: str = "state") -> list[str]:
    return [e["content"]["topic"] for e in section[name]["events"] if e["type"] == "m.room.topic"]


async def test_state_that_the_timeline_does_not_show_is_in_the_state(server: Server) -> None:
    """SYNC-05: because the reader may not see the event, or has filtered it out."""
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room, (alice,) = await meeting(server, "alice", initial_state=[hidden])
    await alice.put_state(room, "m.room.topic", {"topic": "before bob"})
    bob = await server.register("bob")
    await bob.join(room)
    assert topics(joined(await bob.sync(), room)) == ["before bob"]
    messages = {"room": {"timeline": {"types": ["m.room.message"]}}}
    whole = joined(await bob.sync(since=None, filter=messages), room)
    assert topics(whole) == ["before bob"]
    assert people(whole) == {alice.user_id, bob.user_id}
    await alice.put_state(room, "m.room.topic", {"topic": "filtered"})
    await alice.put_state(room, "m.room.topic", {"topic": "filtered too"})
    event_id = await alice.send(room, "shown")
    section = joined(await bob.sync(filter=messages), room)
    assert (topics(section), ids(section)) == (["filtered too"], [event_id])


async def test_who_was_never_in_is_not_told_of_the_state(server: Server) -> None:
    """SYNC-13, HV-01: an invite turned down, a ban of somebody who had left."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(invite=[bob.user_id], preset="private_chat", topic="secret 0")
    await bob.sync()
    for n in range(12):
        await alice.put_state(room, "m.room.topic", {"topic": f"secret {n}"})
    since = bob.since
    await bob.leave(room)
    everything = {"room": {"include_leave": True}}
    for params in ({}, {"filter": {"room": {"timeline": {"limit": 1}}}}, {"use_state_after": True}):
        told = await bob.sync(since=since, **params)
        assert room in told["rooms"]["leave"], params
        assert "secret" not in str(told), params
    assert "secret" not in str(await bob.sync(since=None, filter=everything))
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "public"})
    await bob.join(room)
    await bob.leave(room)
    await alice.put_state(room, "m.room.topic", {"topic": "after"})
    await alice.ban(room, bob)
    told = await bob.sync(since=None, filter=everything)
    assert "secret 11" in str(told["rooms"]["leave"][room])
    assert "after" not in str(told["rooms"]["leave"][room])
