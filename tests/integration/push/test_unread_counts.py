"""What is unread, as `/sync` counts it: SYNC-11, SYNC-12, PUSH-14, EPH-04, RED-07.

Every count is asked for twice: as news by a client that follows, and whole by one that starts anew, which a second, fresh
count in the database answers. They must agree.
"""

from typing import Any

from tests.support.server import Server
from tests.support.unread import (
    RECEIPT,
    THREADS,
    Unread,
    afresh,
    counts_of,
    in_thread,
    meeting,
    mentioning,
    per_thread,
    unread,
)
from tests.support.user import User


async def test_counts_come_with_the_event_that_changed_them(server: Server) -> None:
    """SYNC-11: and with the receipt that resets them, whichever kind (EPH-04)."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    last = ""
    for number in range(1, 4):
        last = await alice.send(room, "hi")
        assert await unread(bob, room) == (number, 0)
        assert await afresh(bob, room) == (number, 0)
    assert await unread(alice, room) == (0, 0), "one's own messages never count"
    await bob.post(RECEIPT, room, "m.read", last)
    assert await unread(bob, room) == (0, 0)
    last = await alice.send(room, "hi again")
    assert await unread(bob, room) == (1, 0)
    await bob.post(RECEIPT, room, "m.read.private", last)
    assert await unread(bob, room) == (0, 0)
    assert await afresh(bob, room) == (0, 0)


async def test_a_receipt_in_the_middle_leaves_what_came_after(server: Server) -> None:
    """EPH-04: the more advanced of public and private decides; one that points back changes nothing."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    sent = [await alice.send(room, f"{n}") for n in range(5)]
    assert await unread(bob, room) == (5, 0)
    await bob.post(RECEIPT, room, "m.read.private", sent[2])
    assert await unread(bob, room) == (2, 0)
    await bob.post(RECEIPT, room, "m.read", sent[0])
    assert await unread(bob, room) == (2, 0)
    assert await afresh(bob, room) == (2, 0)
    await bob.post(RECEIPT, room, "m.read", sent[3])
    assert await unread(bob, room) == (1, 0)


async def test_what_one_says_oneself_shows_that_one_has_read(server: Server) -> None:
    """PUSH-14: sending an event moves the read position as a receipt does; changing one's name does not."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await alice.send(room, "hi")
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Robert"})
    assert await unread(bob, room) == (1, 0)
    assert await afresh(bob, room) == (1, 0)
    await bob.send(room, "hello")
    assert await unread(bob, room) == (0, 0)
    assert await afresh(bob, room) == (0, 0)


async def test_mentions_highlight(server: Server) -> None:
    """PUSH-03, PUSH-14: of oneself, and of the room by who may."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    await carol.send(room, "Bob, look", **mentioning(bob))
    assert await unread(bob, room) == (1, 1)
    assert await unread(alice, room) == (1, 0)
    await carol.send(room, "everybody", **mentioning(room=True))
    assert await unread(bob, room) == (2, 1), "Carol may not notify everybody"
    await alice.send(room, "everybody", **mentioning(room=True))
    assert await unread(bob, room) == (3, 2)
    assert await afresh(bob, room) == (3, 2)


async def test_encrypted_messages_count_and_much_else_does_not(server: Server) -> None:
    """PUSH-03, PUSH-14: notices, edits, reactions, state and membership are silent."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "s"}
    first = await alice.send_event(room, "m.room.encrypted", secret)
    assert await unread(bob, room) == (1, 0)
    await alice.send(room, "beep", msgtype="m.notice")
    await alice.send_event(
        room, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "👍"}}
    )
    edit = {"rel_type": "m.replace", "event_id": first}
    await alice.send(
        room, "* x", **{"m.relates_to": edit, "m.new_content": {"msgtype": "m.text", "body": "x"}}
    )  # type: ignore[arg-type]
    await alice.put_state(room, "m.room.topic", {"topic": "quiet"})
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    assert await unread(bob, room) == (1, 0)
    assert await afresh(bob, room) == (1, 0)


async def test_redacted_messages_are_no_longer_unread(server: Server) -> None:
    """RED-07."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await alice.send(room, "first")
    wrong = await alice.send(room, "Bob", **mentioning(bob))
    assert await unread(bob, room) == (2, 1)
    await alice.redact(room, wrong)
    assert await unread(bob, room) == (1, 0)
    assert await afresh(bob, room) == (1, 0)


async def test_threads_are_counted_apart_for_who_asks(server: Server) -> None:
    """SYNC-12, EPH-05: the room's own count is the main timeline's then; reactions belong where their target is."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    root = await alice.send(room, "root")
    answer = await alice.send(room, "Bob", **in_thread(root), **mentioning(bob))
    await alice.send(room, "more", **in_thread(root))
    since = bob.since
    expected = {"main": Unread(1, 0), root: Unread(2, 1)}
    assert await per_thread(bob, room, since=since) == expected
    assert await per_thread(bob, room) == expected, "afresh"
    assert await afresh(bob, room) == (3, 1), "who does not ask is told the sum"
    await bob.post(RECEIPT, room, "m.read", root, json={"thread_id": "main"})
    assert await per_thread(bob, room) == {"main": Unread(0, 0), root: Unread(2, 1)}
    await bob.post(RECEIPT, room, "m.read", answer, json={"thread_id": root})
    assert await per_thread(bob, room) == {"main": Unread(0, 0), root: Unread(1, 0)}
    await alice.send(room, "in the room")
    thumb = {"m.relates_to": {"rel_type": "m.annotation", "event_id": answer, "key": "👍"}}
    await bob.send_event(room, "m.reaction", thumb)
    assert await per_thread(bob, room) == {"main": Unread(1, 0)}, "the reaction is in the thread"
    await alice.send(room, "again", **in_thread(root))
    last = await alice.send(room, "and here")
    assert await per_thread(bob, room) == {"main": Unread(2, 0), root: Unread(1, 0)}
    await bob.post(RECEIPT, room, "m.read", last)
    assert await per_thread(bob, room) == {"main": Unread(0, 0)}, (
        "a receipt without a thread is for all of them"
    )


async def test_every_section_of_a_joined_room_has_its_counts(server: Server) -> None:
    """SYNC-11: clients take missing counts of threads for none, also where somebody only types."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    root = await alice.send(room, "root")
    await alice.send(room, "answer", **in_thread(root))
    await per_thread(bob, room)
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 10_000})
    reply = await bob.sync(filter=THREADS)
    section = reply["rooms"]["join"][room]
    assert section["unread_thread_notifications"][root] == {"notification_count": 1, "highlight_count": 0}


async def test_ignored_users_do_not_count(server: Server) -> None:
    """PUSH-14: and what they said before counts no more once they are ignored, without another event."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    await carol.send(room, "noise", **mentioning(bob))
    await alice.send(room, "signal")
    assert await unread(bob, room) == (2, 1)
    ignored: dict[str, Any] = {"ignored_users": {carol.user_id: {}}}
    await bob.put("/user/{}/account_data/m.ignored_user_list", bob.user_id, json=ignored)
    assert await unread(bob, room) == (1, 0)
    await carol.send(room, "more noise")
    assert await unread(bob, room) in (None, (1, 0))
    assert await afresh(bob, room) == (1, 0)


async def test_what_an_ignored_user_said_stays_read(server: Server) -> None:
    """PUSH-14: once they are no longer ignored; what they say from then on counts."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    path = "/user/{}/account_data/m.ignored_user_list"
    await carol.send(room, "before")
    await alice.send(room, "signal")
    await bob.put(path, bob.user_id, json={"ignored_users": {carol.user_id: {}}})
    await carol.send(room, "noise", **mentioning(bob))
    assert await afresh(bob, room) == await unread(bob, room) == (1, 0)
    await bob.put(path, bob.user_id, json={"ignored_users": {}})
    assert await unread(bob, room) == (1, 0)
    await carol.send(room, "after")
    assert await unread(bob, room) == (2, 0)
    assert await counted_anew(server, bob, room) == (2, 0)


async def test_who_ignores_themselves_loses_nothing(server: Server) -> None:
    """SYNC-16: their own messages and those of others are told as ever."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    path = "/user/{}/account_data/m.ignored_user_list"
    await bob.put(path, bob.user_id, json={"ignored_users": {bob.user_id: {}}})
    await bob.sync()
    said = await bob.send(room, "do I hear myself?")
    reply = await bob.sync()
    assert said in [each["event_id"] for each in reply["rooms"]["join"][room]["timeline"]["events"]]
    await alice.send(room, "I do")
    assert await unread(bob, room) == (1, 0)


async def counted_anew(server: Server, user: User, room: str) -> Unread | None:
    """As by a process that has just begun: nothing is in memory."""
    if server.app is not None:
        server.app.features.push.counts.reset()
    return await afresh(user, room)


async def test_what_is_unread_counts_by_the_rules_it_came_under(server: Server) -> None:
    """PUSH-12, PUSH-14: muting a room leaves what was unread, and what came meanwhile stays read when that ends; keywords
    highlight from when they were chosen.
    """
    room, (alice, bob) = await meeting(server, "alice", "bob")

    async def seen() -> Unread | None:
        in_memory = await unread(bob, room) or await afresh(bob, room)
        assert in_memory == await afresh(bob, room) == await counted_anew(server, bob, room)
        return in_memory

    await alice.send(room, "the coffee is ready")
    await alice.send(room, "Bob!", **mentioning(bob))
    assert await seen() == (2, 1)
    rule = "/pushrules/global/{}/{}"
    await bob.put(rule, "room", room, json={"actions": []})
    await alice.send(room, "less")
    await alice.send(room, "Bob again!", **mentioning(bob))
    assert await seen() == (3, 2)
    mute = {"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}], "actions": []}
    await bob.put(rule, "override", room, json=mute)
    await alice.send(room, "into the void")
    assert await seen() == (3, 2)
    await bob.delete(rule, "override", room)
    await bob.delete(rule, "room", room)
    assert await seen() == (3, 2)
    keyword = {"pattern": "coffee", "actions": ["notify", {"set_tweak": "highlight"}]}
    await alice.send(room, "coffee")
    await bob.put(rule, "content", "coffee", json=keyword)
    await alice.send(room, "more coffee?")
    assert await seen() == (5, 3)
    await alice.send(room, "decoffeeinated")
    assert await seen() == (6, 3), "a keyword is a whole word"
    for _ in range(2):  # changed several times between two answers
        await bob.put(rule + "/enabled", "override", ".m.rule.master", json={"enabled": True})
        await alice.send(room, "coffee for nobody")
        await bob.put(rule + "/enabled", "override", ".m.rule.master", json={"enabled": False})
        await alice.send(room, "coffee for all")
    last = await alice.send(room, "that was it")
    assert await seen() == (9, 5)
    await bob.post(RECEIPT, room, "m.read", last)
    assert await seen() == (0, 0)


async def test_a_room_that_was_always_muted_has_nothing_unread_later(server: Server) -> None:
    """PUSH-14: the rule is there before the first message, also for who syncs anew after ending it."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    mute = {"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}], "actions": []}
    await bob.put("/pushrules/global/override/{}", room, json=mute)
    for number in range(5):
        await alice.send(room, str(number))
    assert await counted_anew(server, bob, room) == (0, 0)
    await bob.delete("/pushrules/global/override/{}", room)
    assert await counted_anew(server, bob, room) == (0, 0)
    await alice.send(room, "six")
    assert await unread(bob, room) == (1, 0)
    for number in range(40):  # far more changes than are kept
        keyword = {"pattern": f"word{number}", "actions": []}
        await bob.put("/pushrules/global/content/{}", "word", json=keyword)
    assert await counted_anew(server, bob, room) == (1, 0)


async def test_one_counts_from_when_one_came(server: Server) -> None:
    """PUSH-14: not what was said before, nor while one was away."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await alice.send(room, "Bob", **mentioning(bob))
    assert await unread(bob, room) == (1, 1)
    await bob.leave(room)
    await bob.sync()
    await alice.send(room, "he is gone")
    await bob.join(room)
    assert await unread(bob, room) == (0, 0)
    await alice.send(room, "welcome back")
    assert await unread(bob, room) == (1, 0)
    assert await afresh(bob, room) == (1, 0)


async def test_reading_on_one_device_tells_the_other(server: Server) -> None:
    """SYNC-11: also one whose filter wants no receipts."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    other = await bob.new_device()
    last = await alice.send(room, "hi")
    quiet: dict[str, Any] = {"room": {"ephemeral": {"types": []}}}
    assert counts_of((await other.sync(filter=quiet))["rooms"]["join"][room]) == (1, 0)
    await bob.post(RECEIPT, room, "m.read", last)
    section = (await other.sync(filter=quiet))["rooms"]["join"][room]
    assert counts_of(section) == (0, 0)
    assert not section.get("ephemeral", {}).get("events")
