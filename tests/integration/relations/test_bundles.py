"""What is told of an event's relations with the event itself: CHECKLIST section 12."""

from typing import Any

from tests.support.server import Server
from tests.support.user import User

Event = dict[str, Any]
IGNORED = "/user/{}/account_data/m.ignored_user_list"


def relates(kind: str, parent: str, **more: Any) -> Event:
    return {"m.relates_to": {"rel_type": kind, "event_id": parent, **more}}


async def edit(user: User, room: str, original: str, text: str) -> str:
    new = {"m.new_content": {"msgtype": "m.text", "body": text}}
    return await user.send(room, f"* {text}", **new, **relates("m.replace", original))


async def reply(user: User, room: str, root: str, text: str = "reply") -> str:
    return await user.send(room, text, **relates("m.thread", root))


async def refer(user: User, room: str, parent: str) -> str:
    return await user.send(room, "look there", **relates("m.reference", parent))


async def pair(server: Server, **wish: Any) -> tuple[str, User, User]:
    """A room of Alice's with Bob."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", **wish)
    await bob.join(room)
    return room, alice, bob


async def bundle(user: User, room: str, event_id: str) -> Event:
    event = await user.event(room, event_id)
    return dict(event["unsigned"].get("m.relations", {}))


async def test_only_relations_within_the_room_count(server: Server) -> None:
    """REL-01: what is no relation is kept as an event all the same."""
    room, alice, bob = await pair(server)
    elsewhere = await bob.create_room()
    original = await alice.send(room, "original")
    await refer(bob, elsewhere, original)
    await reply(bob, elsewhere, original)
    await edit(alice, room, "$nothing", "an edit of nothing")
    for broken in (
        7,
        [],
        {"rel_type": 1, "event_id": original},
        {"event_id": original},
        {"rel_type": "m.thread"},
    ):
        event_id = await alice.send(room, "kept", **{"m.relates_to": broken})
        assert (await bob.event(room, event_id))["content"]["m.relates_to"] == broken
    await bob.put_state(room, "org.example", relates("m.reference", original), bob.user_id, expect=None)
    await alice.put_state(room, "org.example", relates("m.reference", original), "x")
    assert await bundle(alice, room, original) == {}


async def test_bundles_come_wherever_the_event_comes(server: Server) -> None:
    """REL-02, SYNC-23: messages, context, event, relations, and a sync that leaves the children out."""
    room, alice, bob = await pair(server)
    above = await alice.send(room, "above")
    original = await alice.send(room, "original", **relates("m.reference", above))
    child = await refer(bob, room, original)
    since = (await bob.sync())["next_batch"]
    wanted = {"m.reference": {"chunk": [{"event_id": child}]}}

    def told(events: list[Event]) -> Any:
        return next(e for e in events if e["event_id"] == original)["unsigned"].get("m.relations")

    assert told((await bob.messages(room, limit=50))["chunk"]) == wanted
    around = await bob.get("/rooms/{}/context/{}", room, child)
    assert told(around["events_before"]) == wanted
    assert told([(await bob.get("/rooms/{}/context/{}", room, original))["event"]]) == wanted
    assert told([await bob.event(room, original)]) == wanted
    path = "/_matrix/client/v1/rooms/{}/relations/{}"
    assert told((await bob.get(path, room, above))["chunk"]) == wanted
    new = await alice.send(room, "new")
    late = await refer(bob, room, new)
    for n in range(2):
        await alice.send(room, f"{n}")
    cut = {"room": {"timeline": {"limit": 4}}}
    initial = await bob.sync(since=None, filter={"room": {"timeline": {"limit": 7}}})
    assert told(initial["rooms"]["join"][room]["timeline"]["events"]) == wanted
    await alice.send(room, "one too many")
    section = (await bob.sync(since=since, filter=cut))["rooms"]["join"][room]["timeline"]
    assert section["limited"] is True
    assert section["events"][0]["event_id"] == late
    assert "m.relations" not in section["events"][0]["unsigned"]


async def test_a_limited_sync_tells_of_children_in_it_and_after_it(server: Server) -> None:
    """SYNC-23."""
    room, alice, bob = await pair(server)
    await bob.sync()
    for n in range(3):
        await alice.send(room, f"{n}")
    original = await alice.send(room, "original")
    latest = await edit(alice, room, original, "edited")
    section = (await bob.sync(filter={"room": {"timeline": {"limit": 2}}}))["rooms"]["join"][room]["timeline"]
    assert [e["event_id"] for e in section["events"]] == [original, latest]
    shown = section["events"][0]
    assert shown["content"]["body"] == "original", "REL-04"
    assert shown["unsigned"]["m.relations"]["m.replace"]["event_id"] == latest


async def test_state_has_no_bundle(server: Server) -> None:
    """REL-02."""
    room, alice, bob = await pair(server)
    topic = await alice.put_state(room, "m.room.topic", {"topic": "x"})
    await refer(bob, room, topic)
    assert await bundle(alice, room, topic) == {}


async def test_children_that_a_reader_does_not_want_are_left_out(server: Server) -> None:
    """REL-03, SYNC-16: those of ignored users; others hear of them."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    mine = await reply(alice, room, original, "mine")
    await refer(bob, room, original)
    await reply(bob, room, original, "his")
    assert (await bundle(alice, room, original))["m.thread"]["count"] == 2
    await alice.put(IGNORED, alice.user_id, json={"ignored_users": {bob.user_id: {}}})
    told = await bundle(alice, room, original)
    assert "m.reference" not in told
    assert (told["m.thread"]["count"], told["m.thread"]["latest_event"]["event_id"]) == (1, mine)
    assert (await bundle(bob, room, original))["m.thread"]["count"] == 2


async def test_redacted_children_are_left_out(server: Server) -> None:
    """REL-03, RED-07."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    first = await reply(bob, room, original, "first")
    second = await reply(bob, room, original, "second")
    reference = await refer(bob, room, original)
    await bob.redact(room, second)
    await bob.redact(room, reference)
    told = await bundle(alice, room, original)
    assert "m.reference" not in told
    assert (told["m.thread"]["count"], told["m.thread"]["latest_event"]["event_id"]) == (1, first)
    await bob.redact(room, first)
    assert await bundle(alice, room, original) == {}


async def test_children_that_a_reader_may_not_see_are_left_out(server: Server) -> None:
    """REL-03: said while she was away."""
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room, alice, bob = await pair(server, initial_state=[hidden])
    original = await alice.send(room, "original")
    seen = [await reply(bob, room, original, "seen"), await refer(bob, room, original)]
    await edit(alice, room, original, "seen too")
    await bob.leave(room)
    await edit(alice, room, original, "secret")
    await reply(alice, room, original, "secret")
    await refer(alice, room, original)
    for _ in range(2):
        told = await bundle(bob, room, original)
        assert "secret" not in str(told)
        assert told["m.replace"]["content"]["body"] == "* seen too"
        assert told["m.thread"]["count"] == 1
        assert told["m.thread"]["latest_event"]["event_id"] == seen[0]
        assert told["m.reference"] == {"chunk": [{"event_id": seen[1]}]}
        await bob.join(room)
    last = await reply(alice, room, original, "now he is back")
    thread = (await bundle(bob, room, original))["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (2, last)


async def test_the_newest_valid_edit_counts(server: Server) -> None:
    """REL-04, REL-05: of the same sender and type, with new content, and no edit of an edit."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    first = await edit(alice, room, original, "first")
    second = await edit(alice, room, original, "second")
    await edit(bob, room, original, "somebody else's")
    await alice.send(room, "no new content", **relates("m.replace", original))
    other = {"body": "x", "m.new_content": {"body": "other type"}, **relates("m.replace", original)}
    await alice.send_event(room, "org.example", other)
    await edit(alice, room, second, "of an edit")
    event = await bob.event(room, original)
    assert event["content"]["body"] == "original"
    newest = event["unsigned"]["m.relations"]["m.replace"]
    assert newest["event_id"] == second
    assert {"content", "event_id", "origin_server_ts", "room_id", "sender", "type"} <= set(newest)
    assert newest["content"]["m.new_content"]["body"] == "second"
    assert "m.relations" not in (await bob.event(room, second))["unsigned"]
    await alice.redact(room, second)
    assert (await bundle(bob, room, original))["m.replace"]["event_id"] == first


async def test_many_broken_edits_do_not_hide_a_good_one(server: Server) -> None:
    """REL-05."""
    room, alice, _ = await pair(server)
    original = await alice.send(room, "original")
    good = await edit(alice, room, original, "good")
    for _ in range(12):
        await alice.send(room, "no new content", **relates("m.replace", original))
    assert (await bundle(alice, room, original))["m.replace"]["event_id"] == good


async def test_encrypted_edits_need_not_show_what_is_new(server: Server) -> None:
    """REL-05, REL-01: the relation is in clear, the rest cannot be looked at."""
    room, alice, bob = await pair(server)
    secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "s"}
    original = await alice.send_event(room, "m.room.encrypted", secret)
    newer = await alice.send_event(room, "m.room.encrypted", {**secret, **relates("m.replace", original)})
    assert (await bundle(bob, room, original))["m.replace"]["event_id"] == newer


async def test_a_redacted_original_has_no_edit(server: Server) -> None:
    """REL-06."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    await edit(alice, room, original, "edited")
    await alice.redact(room, original)
    assert await bundle(bob, room, original) == {}
    assert "edited" not in str(await bob.event(room, original))


async def test_reactions_are_not_counted(server: Server) -> None:
    """REL-07."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    await bob.send_event(room, "m.reaction", relates("m.annotation", original, key="+"))
    assert await bundle(alice, room, original) == {}


async def test_references_are_a_chunk_of_ids(server: Server) -> None:
    """REL-08."""
    room, alice, bob = await pair(server)
    original, other = await alice.send(room, "original"), await alice.send(room, "other")
    children = [await refer(bob, room, original) for _ in range(3)]
    child = await refer(bob, room, other)
    assert await bundle(alice, room, original) == {
        "m.reference": {"chunk": [{"event_id": event_id} for event_id in children]}
    }
    assert (await bundle(alice, room, other))["m.reference"] == {"chunk": [{"event_id": child}]}


async def test_a_thread_in_short(server: Server) -> None:
    """REL-09: the newest with its own bundle, and whether one has taken part."""
    room, alice, bob = await pair(server)
    carol = await server.register("carol")
    await carol.join(room)
    root = await alice.send(room, "root")
    await reply(bob, room, root, "first")
    latest = await reply(bob, room, root, "second")
    newer = await edit(bob, room, latest, "second, edited")
    await bob.send_event(room, "m.reaction", relates("m.annotation", root, key="+"))
    thread = (await bundle(alice, room, root))["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (2, latest)
    assert thread["latest_event"]["content"]["body"] == "second"
    assert thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == newer
    took_part = [
        (await bundle(user, room, root))["m.thread"]["current_user_participated"]
        for user in (alice, bob, carol)
    ]
    assert took_part == [True, True, False]
    await reply(carol, room, root, "third")
    assert (await bundle(carol, room, root))["m.thread"]["current_user_participated"] is True


async def see_relations_come(alice: User, bob: User) -> None:
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    for kind in ("m.replace", "m.thread", "m.reference"):
        original = await alice.send(room, "original")
        await alice.send(room, "another")
        for user in (alice, bob, bob, alice):
            assert await bundle(user, room, original) == {}
        await alice.send(room, "child", **{"m.new_content": {}}, **relates(kind, original))
        for user in (bob, alice, alice, bob):
            assert kind in await bundle(user, room, original)


async def test_an_event_that_was_seen_without_relations_gets_its_bundle(server: Server) -> None:
    """REL-02: with the very next answer."""
    await see_relations_come(await server.register("alice"), await server.register("bob"))


async def test_a_relation_made_at_one_process_is_told_at_the_other(two_servers_processes: Server) -> None:
    """REL-02: whichever process takes the requests up."""
    server = two_servers_processes
    for _ in range(3):
        await see_relations_come(await server.register("alice"), await server.register("bob"))
