"""How many events mark a room as unread, whatever notifies: `org.matrix.msc2654.unread_count` of `/sync`. spec: MSC2654"""

import pytest

from tests.support.server import Server
from tests.support.unread import RECEIPT, THREADS, afresh, in_thread, meeting
from tests.support.user import User

NAME = "org.matrix.msc2654.unread_count"


async def marked(user: User, room: str) -> int:
    """As a client that follows is told, or one that starts anew; they must agree."""
    since = user.since
    anew: int = (await user.sync(since=None))["rooms"]["join"][room][NAME]
    user.since = since
    news = (await user.sync()).get("rooms", {}).get("join", {}).get(room)
    assert news is None or news[NAME] == anew
    return anew


async def counted_anew(server: Server, user: User, room: str) -> int:
    """As by a process that has just begun: nothing is in memory."""
    if server.app is not None:
        server.app.features.push.counts.reset()
    return await marked(user, room)


async def test_it_counts_what_the_proposal_lists(server: Server) -> None:
    """MSC2654 "Unread events": messages, encrypted ones, name, topic, picture and end of the room; neither notices, edits nor
    reactions.
    """
    flags = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert flags["org.matrix.msc2654"] is True
    room, (alice, bob) = await meeting(server, "alice", "bob")
    first = await alice.send(room, "hi")
    secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "s"}
    await alice.send_event(room, "m.room.encrypted", secret)
    await alice.send_event(room, "org.example.poll", {"body": "a question"})
    await alice.put_state(room, "m.room.topic", {"topic": "news"})
    await alice.put_state(room, "m.room.name", {"name": "Name"})
    await alice.put_state(room, "m.room.avatar", {"url": "mxc://one.example/a"})
    assert await marked(bob, room) == 6
    assert await marked(alice, room) == 0, "one's own events are not counted"
    await alice.send(room, "beep", msgtype="m.notice")
    await alice.send(room, "")
    edit = {"rel_type": "m.replace", "event_id": first}
    await alice.send_event(
        room, "m.room.message", {"msgtype": "m.text", "body": "* ho", "m.relates_to": edit}
    )
    await alice.send_event(
        room, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "👍"}}
    )
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "invite"})
    assert await marked(bob, room) == 6
    assert await counted_anew(server, bob, room) == 6
    await alice.redact(room, first)
    assert await marked(bob, room) == 5, "a redacted event is no longer counted"
    assert await counted_anew(server, bob, room) == 5


@pytest.mark.parametrize("look_into", [False, True])
async def test_a_muted_room_is_counted_until_it_is_read(server: Server, look_into: bool) -> None:
    """MSC2654: push rules do not matter, be they answered by facts or not; receipts and what one says oneself do."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    if look_into:
        keyword = {"pattern": "coffee", "actions": ["notify"]}
        await bob.put("/pushrules/global/content/coffee", json=keyword)
        await bob.put(
            "/pushrules/global/underride/{}/enabled", ".m.rule.room_one_to_one", json={"enabled": False}
        )
        await bob.put("/pushrules/global/underride/{}/enabled", ".m.rule.message", json={"enabled": False})
    else:
        mute = {"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}], "actions": []}
        await bob.put("/pushrules/global/override/{}", room, json=mute)
    sent = [await alice.send(room, f"{n}") for n in range(4)]
    assert await marked(bob, room) == 4
    assert await afresh(bob, room) == (0, 0)
    assert await counted_anew(server, bob, room) == 4
    await bob.post(RECEIPT, room, "m.read", sent[1])
    assert await marked(bob, room) == 2
    await bob.post(RECEIPT, room, "m.read", sent[3])
    assert await marked(bob, room) == 0
    await alice.send(room, "again")
    assert await marked(bob, room) == 1
    await bob.send(room, "yes")
    assert await marked(bob, room) == 0
    assert await counted_anew(server, bob, room) == 0


async def test_it_counts_from_one_s_join_and_as_the_counts_beside_it_in_threads(server: Server) -> None:
    """MSC2654: without a receipt, since one joined. Who asks for counts per thread is told the main timeline's."""
    room, (alice,) = await meeting(server, "alice")
    root = await alice.send(room, "before")
    bob = await server.register("bob")
    await bob.join(room)
    await alice.send(room, "after")
    await alice.send(room, "in a thread", **in_thread(root))
    assert await marked(bob, room) == 2
    section = (await bob.sync(since=None, filter=THREADS))["rooms"]["join"][room]
    assert section[NAME] == section["unread_notifications"]["notification_count"] == 1
    assert section["unread_thread_notifications"][root]["notification_count"] == 1
