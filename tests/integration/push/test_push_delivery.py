"""What push gateways are told: PG-01 to PG-06, PUSH-01, PUSH-10, PUSH-14, PUSH-15."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeserver.push.evaluators import Evaluators
from homeserver.storage.database import Database
from tests.support.push_gateway import FakeGateway
from tests.support.server import Server
from tests.support.unread import RECEIPT, in_thread, looked_at, meeting, mentioning
from tests.support.user import User

SET = "/pushers/set"


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as running:
        yield running


async def quiet(gateway: FakeGateway, user: User, room: str, other: User) -> list[dict[str, Any]]:
    """What was told before an event that surely notifies; the event ends what went before."""
    before = len(gateway.taken)
    last = await other.send(room, "surely", **mentioning(user))
    await gateway.hears_event(last)
    return gateway.taken[before:-1]


async def test_an_event_is_told_by_its_id(server: Server, gateway: FakeGateway) -> None:
    """PG-02, PG-03: `event_id_only`, custom data; PUSH-14: with the count, without a sync; own events notify nobody (PUSH-01)."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.post(SET, json=gateway.pusher("phone"))
    await looked_at(server)
    await bob.send(room, "my own")
    await looked_at(server)
    for number in range(1, 4):
        event_id = await alice.send(room, f"{number}")
        told = await gateway.hears_event(event_id)
        (device,) = told.pop("devices")
        assert told == {
            "event_id": event_id,
            "room_id": room,
            "counts": {"unread": number},
            "prio": "high",
        }, "two in a room: it rings"
        assert device.pop("pushkey_ts") > 1_600_000_000
        assert device == {
            "app_id": "org.example.app",
            "pushkey": "phone",
            "data": {"format": "event_id_only", "custom": {"a": 1}},
        }
    assert len(gateway.taken) == 3


async def test_an_event_is_told_whole(server: Server, gateway: FakeGateway) -> None:
    """PG-01, PG-06, PUSH-10: names, content, tweaks; no content of what is encrypted."""
    room, (alice, bob, _) = await meeting(server, "alice", "bob", "carol")
    alias = f"#{bob.localpart}s:localhost"
    await alice.put("/directory/room/{}", alias, json={"room_id": room})
    await alice.put_state(room, "m.room.name", {"name": "Lobby"})
    await alice.put_state(room, "m.room.canonical_alias", {"alias": alias})
    await bob.post(SET, json=gateway.pusher("phone", everything=True))
    await looked_at(server)
    plain = await gateway.hears_event(await alice.send(room, "hello"))
    assert plain["type"] == "m.room.message"
    assert plain["sender"] == alice.user_id
    assert plain["sender_display_name"]
    assert (plain["room_name"], plain["room_alias"]) == ("Lobby", alias)
    assert plain["content"] == {"msgtype": "m.text", "body": "hello"}
    assert plain["prio"] == "low"
    assert "tweaks" not in plain["devices"][0]
    loud = await gateway.hears_event(await alice.send(room, "you!", **mentioning(bob)))
    assert loud["prio"] == "high"
    assert loud["devices"][0]["tweaks"] == {"sound": "default", "highlight": True}
    sealed = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "y"}
    secret = await gateway.hears_event(await alice.send_event(room, "m.room.encrypted", sealed))
    assert "content" not in secret
    assert secret["prio"] == "high"
    assert secret["counts"] == {"unread": 3}


async def test_tweaks_of_ones_own_rule_reach_the_gateway(server: Server, gateway: FakeGateway) -> None:
    """PUSH-10: `highlight` without a value is true; whatever else a rule sets is passed on as it is."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    tweaks = [
        {"set_tweak": "highlight"},
        {"set_tweak": "sound", "value": "bells"},
        {"set_tweak": "com.example.light", "value": {"colour": [1, 2, 3]}},
    ]
    rule = {"pattern": "fire", "actions": ["notify", *tweaks]}
    await bob.put("/pushrules/global/content/{}", "fire", json=rule)
    await bob.post(SET, json=gateway.pusher("phone", everything=True))
    await looked_at(server)
    told = await gateway.hears_event(await alice.send(room, "there is a fire"))
    assert told["devices"][0]["tweaks"] == {
        "highlight": True,
        "sound": "bells",
        "com.example.light": {"colour": [1, 2, 3]},
    }
    assert told["prio"] == "high"


async def test_what_is_too_large_for_a_gateway_holds_nothing_up(server: Server, gateway: FakeGateway) -> None:
    """ntfy takes 4 KiB and answers 413: such an event is told by its ids, and those after it are told as ever."""
    gateway.answer = lambda told: 413 if len(str(told)) > 4000 else None
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.post(SET, json=gateway.pusher("phone", everything=True))
    await looked_at(server)
    long = await alice.send(room, "x" * 6000)
    told = await gateway.hears_event(long)
    assert "content" not in told
    assert told["counts"] == {"unread": 1}
    short = await alice.send(room, "short")
    assert (await gateway.hears_event(short))["content"]["body"] == "short"
    # What it does not take even so is passed over, and the gateway is not left alone for it.
    gateway.answer = lambda told: None if told.get("content", {}).get("body") == "after it" else 413
    await alice.send(room, "never")
    await gateway.hears_event(await alice.send(room, "after it"))
    assert gateway.badge("phone") == 4


async def test_reading_elsewhere_clears_the_badge(server: Server, gateway: FakeGateway) -> None:
    """PG-05, PUSH-14, EPH-04: the count over all rooms, after a receipt of any kind, and after one's own message."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    other = await alice.create_room(preset="public_chat")
    await bob.join(other)
    await bob.post(SET, json=gateway.pusher("phone"))
    await looked_at(server)
    first = await alice.send(room, "one")
    second = await alice.send(other, "two")
    await gateway.hears(lambda g: g.badge("phone") == 2)
    await bob.post(RECEIPT, room, "m.read.private", first)
    await gateway.hears(lambda g: g.badge("phone") == 1)
    assert "event_id" not in gateway.taken[-1]
    assert gateway.taken[-1]["prio"] == "low"
    await bob.post(RECEIPT, other, "m.read", second)
    await gateway.hears(lambda g: g.badge("phone") == 0)
    await alice.send(room, "three")
    await gateway.hears(lambda g: g.badge("phone") == 1)
    await bob.send(room, "an answer")
    await gateway.hears(lambda g: g.badge("phone") == 0)
    gone = await alice.send(room, "four")
    await gateway.hears(lambda g: g.badge("phone") == 1)
    await alice.put("/rooms/{}/redact/{}/{}", room, gone, "r1", json={})
    await gateway.hears(lambda g: g.badge("phone") == 0)


async def test_threads_are_counted_and_read_by_themselves(server: Server, gateway: FakeGateway) -> None:
    """PUSH-14: the badge is of all threads together."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.post(SET, json=gateway.pusher("phone"))
    await looked_at(server)
    root = await alice.send(room, "root")
    reply = await alice.send(room, "reply", **in_thread(root))
    await gateway.hears(lambda g: g.badge("phone") == 2)
    await bob.post(RECEIPT, room, "m.read", reply, json={"thread_id": root})
    await gateway.hears(lambda g: g.badge("phone") == 1)
    await bob.post(RECEIPT, room, "m.read", root, json={"thread_id": "main"})
    await gateway.hears(lambda g: g.badge("phone") == 0)


async def test_what_notifies_nobody_is_not_told(server: Server, gateway: FakeGateway) -> None:
    """PUSH-01: muted rooms, ignored users, notices, edits, reactions, joins; pushers that are switched off."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    muted = await alice.create_room(preset="public_chat")
    await bob.join(muted)
    await bob.put(
        "/pushrules/global/override/{}",
        muted,
        json={"conditions": [{"kind": "event_match", "key": "room_id", "pattern": muted}], "actions": []},
    )
    await bob.put(
        "/user/{}/account_data/{}",
        bob.user_id,
        "m.ignored_user_list",
        json={"ignored_users": {carol.user_id: {}}},
    )
    await bob.post(SET, json=gateway.pusher("phone"))
    await looked_at(server)
    await bob.post(SET, json=gateway.pusher("off", enabled=False))
    await looked_at(server)
    await alice.send(muted, "muted")
    await carol.send(room, "ignored")
    await alice.send_event(room, "m.room.message", {"msgtype": "m.notice", "body": "a bot"})
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Al"})
    assert await quiet(gateway, bob, room, alice) == []
    assert gateway.badge("phone") == 1
    assert gateway.badge("off") is None


async def test_invites_are_told(server: Server, gateway: FakeGateway) -> None:
    """PUSH-03 `.m.rule.invite_for_me`; they count until they are answered."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await bob.post(SET, json=gateway.pusher("phone", everything=True))
    await looked_at(server)
    room = await alice.create_room(invite=[bob.user_id], name="Inner circle")
    told = await gateway.hears(lambda g: g.taken and g.taken[0])
    assert told["type"] == "m.room.member"
    assert told["content"]["membership"] == "invite"
    assert told["user_is_target"] is True
    assert told["counts"] == {"unread": 1}
    assert told["devices"][0]["tweaks"] == {"sound": "default"}
    await bob.post("/rooms/{}/leave", room)
    await gateway.hears(lambda g: g.badge("phone") == 0)
    await bob.put("/pushrules/global/override/{}/enabled", ".m.rule.invite_for_me", json={"enabled": False})
    await alice.invite(room, bob.user_id)
    await gateway.hears(lambda g: g.badge("phone") == 1)
    assert "event_id" not in gateway.taken[-1]


async def test_devices_of_one_gateway_are_told_together(server: Server, gateway: FakeGateway) -> None:
    """op:notify: by format; those of UnifiedPush, whose keys are URLs, one by one."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    for key in ("a", "b", "https://ntfy.example.com/up1?up=1", "https://ntfy.example.com/up2?up=1"):
        await bob.post(SET, json=gateway.pusher(key, append=True))
        await looked_at(server)
    await bob.post(SET, json=gateway.pusher("whole", everything=True))
    await looked_at(server)
    event_id = await alice.send(room, "hi")
    await gateway.hears(lambda g: len(g.taken) == 4)
    assert sorted(len(each["devices"]) for each in gateway.taken) == [1, 1, 1, 2]
    assert {each["event_id"] for each in gateway.taken} == {event_id}


async def test_what_a_gateway_rejects_is_deleted(server: Server, gateway: FakeGateway) -> None:
    """PG-04: that pusher alone; a rejection of what was not asked about is nothing."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    await bob.post(SET, json=gateway.pusher("old"))
    await looked_at(server)
    await bob.post(SET, json=gateway.pusher("new"))
    await looked_at(server)
    told = len(gateway.of("old"))  # a badge, if that was quicker
    gateway.rejects = {"old", "somebody else's"}
    await gateway.hears_event(await alice.send(room, "hi"))
    await gateway.hears_event(await alice.send(room, "again"))
    assert [each["pushkey"] for each in (await bob.get("/pushers"))["pushers"]] == ["new"]
    assert len(gateway.of("old")) == told + 1
    assert len(gateway.events("new")) == 2


async def test_one_who_has_logged_out_is_told_nothing(server: Server, gateway: FakeGateway) -> None:
    """PUSH-17."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    phone = await bob.login()
    await phone.post(SET, json=gateway.pusher("phone"))
    await looked_at(server)
    await bob.post(SET, json=gateway.pusher("tablet"))
    await looked_at(server)
    await gateway.hears_event(await alice.send(room, "both"))
    await phone.post("/logout")
    await gateway.hears_event(await alice.send(room, "one"))
    assert len(gateway.events("phone")) == 1
    assert len(gateway.events("tablet")) == 2


async def test_a_gateway_that_fails_half_its_requests_gets_every_badge_right(
    server: Server, gateway: FakeGateway
) -> None:
    """PG-05, PUSH-14: whatever fails, each phone shows in the end what is unread, and was told of every event."""
    room, users = await meeting(server, "alice", *[f"user{n}" for n in range(8)])
    alice, others = users[0], users[1:]
    for user in others:
        await user.post(SET, json=gateway.pusher(user.user_id))
        await looked_at(server)
    count = 0

    def every_other(_: Any) -> int:
        nonlocal count
        count += 1
        return 503 if count % 2 else 200

    gateway.answer = every_other
    sent = [await alice.send(room, f"{number}") for number in range(10)]
    await others[0].post(RECEIPT, room, "m.read", sent[-1])
    await others[1].post(RECEIPT, room, "m.read", sent[4])
    wanted = {user.user_id: 10 for user in others} | {others[0].user_id: 0, others[1].user_id: 5}
    await gateway.hears(lambda g: {key: g.badge(key) for key in wanted} == wanted, within=60)
    for user in others[2:]:
        key = user.user_id
        await gateway.hears(lambda g, key=key: set(g.events(key)) == set(sent), within=60)
    assert {key: gateway.badge(key) for key in wanted} == wanted


async def test_a_dead_gateway_is_left_alone_and_told_when_it_is_back(
    server: Server, gateway: FakeGateway
) -> None:
    """Requests to it are bounded however much happens; another gateway does not wait for it."""
    room, users = await meeting(server, "alice", *[f"user{n}" for n in range(6)])
    alice, others = users[0], users[1:]
    async with FakeGateway() as healthy:
        for user in others:
            await user.post(SET, json=gateway.pusher(user.user_id))
            await looked_at(server)
            await user.post(SET, json=healthy.pusher(user.user_id, app_id="other"))
            await looked_at(server)
        gateway.answer = lambda _: 500
        sent = [await alice.send(room, f"{number}") for number in range(20)]
        await healthy.hears(lambda g: all(g.badge(user.user_id) == 20 for user in others))
        await asyncio.sleep(1.0)
        assert gateway.asked < 40, "a circuit for all of its pushers"
        gateway.answer = None
        await gateway.hears(lambda g: all(g.badge(user.user_id) == 20 for user in others), within=60)
        assert set(gateway.events(others[0].user_id)) <= set(sent)


async def test_private_addresses_are_refused_when_they_are_asked(start_server: Any) -> None:
    """PUSH-15: an https URL that leads into the company's network; nobody is told anything there."""
    server = await start_server(outbound={"allow_private": {"push": []}})
    room, (alice, bob) = await meeting(server, "alice", "bob")
    async with FakeGateway() as inside:
        await bob.post(SET, json=inside.pusher("phone"), expect=(400, "M_INVALID_PARAM"))
        data = {"url": inside.url.replace("http:", "https:")}
        await bob.post(SET, json=inside.pusher("phone", data=data))
        await looked_at(server)
        await alice.send(room, "hi")
        await asyncio.sleep(0.5)
        assert inside.asked == 0


async def test_a_hundred_pushers_in_a_room_cost_no_query_each(
    server: Server, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PUSH-14: who has pushers, what they want and how much they have not read is in memory; cursors are written together."""
    alice = await server.register("alice")
    room = await alice.create_room(preset="public_chat")
    phones = []
    for number in range(100):
        user = await server.register(f"phone{number}")
        await user.join(room)
        await user.post(SET, json=gateway.pusher(user.user_id))
        await looked_at(server)
        phones.append(user.user_id)
    first = await alice.send(room, "everything is read once")
    await gateway.hears(lambda g: sum(each.get("event_id") == first for each in g.taken) == 100, within=60)
    await asyncio.sleep(1.5)  # what was delivered is written down
    asked: list[str] = []
    begin_read, begin = Database.read, Database.transaction

    def note(what: str) -> None:
        """Of pushers and their cursors; other work in the background goes on."""
        by = sys._getframe(2).f_code.co_filename
        if "/homeserver/push/" in by or by.endswith("/log/readers/runner.py"):
            asked.append(what)

    monkeypatch.setattr(Database, "read", lambda *a, **k: note("read") or begin_read(*a, **k))
    monkeypatch.setattr(Database, "transaction", lambda *a, **k: note("write") or begin(*a, **k))
    second = await alice.send(room, "from memory")
    await gateway.hears(lambda g: sum(each.get("event_id") == second for each in g.taken) == 100, within=60)
    assert asked.count("read") < 20
    assert asked.count("write") < 40
    assert {gateway.badge(key) for key in phones} == {2}


async def test_a_room_without_pushers_costs_no_look_at_its_members(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is in it: there are no rules to be looked at, and no counts."""
    room, (alice, *_) = await meeting(server, "alice", "bob", "carol")
    looked: list[Any] = []
    of_many = Evaluators.of_many

    async def noted(self: Evaluators, users: Any) -> Any:
        looked.extend(users)
        return await of_many(self, users)

    monkeypatch.setattr(Evaluators, "of_many", noted)
    async with FakeGateway() as gateway:
        dave, erin = await server.register("dave"), await server.register("erin")
        other = await dave.create_room(invite=[erin.user_id])
        await erin.join(other)
        await looked_at(server)
        await erin.post(SET, json=gateway.pusher("erin"))
        await looked_at(server)
        await alice.send(room, "nobody's business")
        await gateway.hears_event(await dave.send(other, "hi"))
    assert len(set(looked)) == 1
