"""Thread subscriptions (MSC4306, MSC4308; CHECKLIST 26): endpoints, what devices are told, what push rules make of them."""

from __future__ import annotations

from typing import Any

from tests.integration.sync.test_sliding import Connection, everything
from tests.support.server import Server
from tests.support.user import User

SUBSCRIPTION = "/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription"
CHANGES = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
EXTENSION = "io.element.msc4308.thread_subscriptions"
NOT_IN_THREAD = (400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD")
CONFLICT = (409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION")
MISSING = (404, "M_NOT_FOUND")


async def reply(user: User, room: str, root: str, body: str = "reply", **content: Any) -> str:
    """A message in a thread."""
    relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    return await user.send(room, body, **{**relation, **content})


async def two_in_a_thread(server: Server) -> tuple[User, User, str, str]:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    return alice, bob, room, await alice.send(room, "root")


async def test_subscribing_and_unsubscribing(server: Server) -> None:
    features = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.msc4306"] is True
    alice, bob, room, root = await two_in_a_thread(server)
    first = await reply(alice, room, root)
    await bob.get(SUBSCRIPTION, room, root, expect=MISSING)
    assert await bob.put(SUBSCRIPTION, room, root, json={"automatic": first}) == {}
    assert await bob.get(SUBSCRIPTION, room, root) == {"automatic": True}
    assert await bob.put(SUBSCRIPTION, room, root, json={}) == {}
    assert await bob.get(SUBSCRIPTION, room, root) == {"automatic": False}
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": first})
    assert await bob.get(SUBSCRIPTION, room, root) == {"automatic": False}, "what the user said stays"
    assert await bob.delete(SUBSCRIPTION, room, root) == {}
    assert await bob.delete(SUBSCRIPTION, room, root) == {}
    await bob.get(SUBSCRIPTION, room, root, expect=MISSING)

    # What was here by then subscribes nobody again; what comes later does.
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": first}, expect=CONFLICT)
    later = await reply(alice, room, root, "again")
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": later})
    assert await bob.get(SUBSCRIPTION, room, root) == {"automatic": True}


async def test_threads_and_events_that_are_none(server: Server) -> None:
    alice, bob, room, root = await two_in_a_thread(server)
    other = await alice.send(room, "in no thread")
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": other}, expect=NOT_IN_THREAD)
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": "$nothing"}, expect=NOT_IN_THREAD)
    for method in (bob.put, bob.get, bob.delete):
        options = {"json": {}} if method == bob.put else {}
        await method(SUBSCRIPTION, room, "$nothing", expect=MISSING, **options)
    carol = await server.register("carol")
    secret = await alice.create_room()
    hidden = await alice.send(secret, "root")
    await carol.put(SUBSCRIPTION, secret, hidden, json={}, expect=MISSING)
    await bob.put(SUBSCRIPTION, room, hidden, json={}, expect=MISSING)
    await bob.put(SUBSCRIPTION, room, root, json={"automatic": 1}, expect=(400, "M_BAD_JSON"))


async def test_sliding_sync_tells_changes_and_the_endpoint_what_did_not_fit(server: Server) -> None:
    alice, bob, room, _ = await two_in_a_thread(server)
    roots = [await alice.send(room, f"root {number}") for number in range(4)]
    client = Connection(bob, everything(1), extensions={EXTENSION: {"limit": 2}})
    assert EXTENSION not in (await client.sync())["extensions"]
    before = client.pos
    for root in roots:
        await bob.put(SUBSCRIPTION, room, root, json={})
    await bob.delete(SUBSCRIPTION, room, roots[0])
    told = (await client.sync())["extensions"][EXTENSION]
    assert told["subscribed"][room].keys() == {roots[3]}
    assert told["unsubscribed"][room].keys() == {roots[0]}
    assert told["subscribed"][room][roots[3]]["automatic"] is False
    assert (
        told["unsubscribed"][room][roots[0]]["bump_stamp"] > told["subscribed"][room][roots[3]]["bump_stamp"]
    )
    params = {"dir": "b", "from": told["prev_batch"], "to": before, "limit": 1}
    page = await bob.get(CHANGES, params=params)
    assert page["subscribed"] == {room: {roots[2]: {"automatic": False, **_stamp(page, room, roots[2])}}}
    last = await bob.get(CHANGES, params={**params, "from": page["end"], "limit": 5})
    assert last["subscribed"][room].keys() == {roots[1]}
    assert "end" not in last
    assert EXTENSION not in (await client.sync())["extensions"], "once"

    # A device that begins anew is told what there is; of others nobody is told.
    anew = Connection(bob, everything(1), extensions={EXTENSION: {}}, name="anew")
    assert (await anew.sync())["extensions"][EXTENSION]["subscribed"][room].keys() == {*roots[1:]}
    of_alice = Connection(alice, everything(1), extensions={EXTENSION: {}})
    assert EXTENSION not in (await of_alice.sync())["extensions"]
    assert await alice.get(CHANGES, params={"dir": "b"}) == {}
    await bob.get(CHANGES, params={"dir": "f"}, expect=(400, "M_INVALID_PARAM"))
    await bob.get(CHANGES, params={"dir": "b", "limit": 0}, expect=(400, "M_INVALID_PARAM"))


def _stamp(page: dict[str, Any], room: str, root: str) -> dict[str, int]:
    return {"bump_stamp": page["subscribed"][room][root]["bump_stamp"]}


async def test_who_subscribes_hears_of_those_threads_alone(server: Server) -> None:
    """MSC4306, "New Push Rules": for who uses subscriptions; for others nothing changes."""
    alice, bob, room, root = await two_in_a_thread(server)
    other = await alice.send(room, "another root")
    rules = await bob.get("/pushrules/")
    assert "postcontent" not in rules["global"]

    async def unread(user: User = bob) -> dict[str, int]:
        flags = '{"room":{"timeline":{"unread_thread_notifications":true,"limit":1}}}'
        section = (await user.get("/sync", params={"filter": flags}))["rooms"]["join"][room]
        threads = section.get("unread_thread_notifications", {})
        return {"main": section["unread_notifications"]["notification_count"]} | {
            thread: count["notification_count"] for thread, count in threads.items()
        }

    await reply(alice, room, root)
    before = await unread()
    assert before[root] == 1
    await bob.put(SUBSCRIPTION, room, root, json={})
    listed = (await bob.get("/pushrules/"))["global"]["postcontent"]
    assert [rule["rule_id"] for rule in listed] == [
        ".io.element.msc4306.rule.unsubscribed_thread",
        ".io.element.msc4306.rule.subscribed_thread",
    ]
    await reply(alice, room, root, "in a thread that bob wants to hear of")
    await reply(alice, room, other, "in one that he does not")
    await reply(alice, room, other, "which mentions him", **{"m.mentions": {"user_ids": [bob.user_id]}})
    assert await unread() == {**before, root: 2, other: 1}
    # Counted anew, from the database, it is the same.
    server.app.features.push.counts.reset()
    counted = await unread()
    assert counted[other] == 1
    assert counted[root] >= 1

    # A room that is silent is not in that thread.
    await bob.put("/pushrules/global/room/{}", room, json={"actions": []})
    main = (await unread())["main"]
    await alice.send(room, "nobody hears")
    await reply(alice, room, root, "but this")
    after = await unread()
    assert after["main"] == main
    assert after[root] == counted[root] + 1

    # They can be switched, and none can be made.
    kind = "/pushrules/global/postcontent/{}"
    await bob.put(kind, "own", json={"actions": [], "conditions": []}, expect=(400, "M_INVALID_PARAM"))
    await bob.put(kind + "/enabled", listed[1]["rule_id"], json={"enabled": False})
    assert await bob.get(kind + "/enabled", listed[1]["rule_id"]) == {"enabled": False}
    await alice.get(kind, "own", expect=MISSING)
