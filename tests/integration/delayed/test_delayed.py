"""Delayed events (MSC4140; CHECKLIST 26): kept, sent on time and once, managed without a token."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.postgres import Postgres
from tests.support.server import Server, run
from tests.support.user import User

DELAY = "org.matrix.msc4140.delay"
UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"
EVENTS = UNSTABLE + "/delayed_events"
NEW_DELAY_ID = "org.matrix.msc4140.delay_id"
CALL_MEMBER = "org.matrix.msc3401.call.member"


async def later(user: User, room: str, ms: int, txn: str = "t", **content: Any) -> str:
    """A message that is sent in so many ms."""
    path = "/rooms/{}/send/m.room.message/{}"
    body = {"msgtype": "m.text", "body": "later", **content}
    answer = await user.put(path, room, txn, json=body, params={DELAY: ms})
    assert set(answer) == {"delay_id"}
    return str(answer["delay_id"])


async def state_later(user: User, room: str, ms: int, kind: str, key: str, content: dict[str, Any]) -> str:
    answer = await user.put("/rooms/{}/state/{}/{}", room, kind, key, json=content, params={DELAY: ms})
    return str(answer["delay_id"])


async def act(server: Server, delay_id: str, action: str, **options: Any) -> Any:
    return await server.client.post(EVENTS + "/{}/" + action, delay_id, **options)


async def messages(user: User, room: str) -> list[dict[str, Any]]:
    page = await user.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 50})
    return [event for event in page["chunk"] if event["type"] == "m.room.message"]


async def until_sent(user: User, room: str, count: int = 1, within: float = 60.0) -> list[dict[str, Any]]:
    ends = time.monotonic() + within
    while len(found := await messages(user, room)) < count:
        assert time.monotonic() < ends, "it was not sent"
        await asyncio.sleep(0.03)
    return found


async def finalised(user: User, delay_id: str, within: float = 60.0) -> dict[str, Any]:
    ends = time.monotonic() + within
    while "origin_server_ts" not in (found := await user.get(EVENTS + "/{}", delay_id)):
        assert time.monotonic() < ends, "it was not finalised"
        await asyncio.sleep(0.03)
    return dict(found)


async def test_it_is_sent_when_due_and_once_per_transaction(start_server: StartServer) -> None:
    server = await start_server()
    assert (await server.client.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc4140"]
    alice = await server.register("alice")
    room = await alice.create_room()
    began = time.time()
    delay_id = await later(alice, room, 3_000)
    assert await later(alice, room, 3_000) == delay_id, "API-09: a repeat is told the same"
    assert await later(await alice.new_device(), room, 3_600_000) != delay_id, "API-10"
    assert await messages(alice, room) == []
    (sent,) = await until_sent(alice, room)
    assert sent["origin_server_ts"] / 1000 - began + 0.001 >= 3.0
    assert sent["sender"] == alice.user_id
    for action in ("restart", "send", "cancel"):
        await act(server, delay_id, action, expect=(404, "M_NOT_FOUND"))
    shown = await finalised(alice, delay_id)
    assert (shown["event_id"], shown["outcome"], shown["reason"]) == (sent["event_id"], "send", "delay")
    assert len(await messages(alice, room)) == 1


async def test_it_is_sent_within_a_second_of_the_due_time(start_server: StartServer) -> None:
    """Once at least of a few times: the machine may stand still for longer."""
    server = await start_server()
    alice = await server.register("alice")
    late = []
    for number in range(5):
        room = await alice.create_room()
        began = time.time()
        await later(alice, room, 700, f"txn{number}")
        (sent,) = await until_sent(alice, room)
        late.append(sent["origin_server_ts"] / 1000 - began + 0.001 - 0.7)
        assert late[-1] >= 0
        if late[-1] < 1.0:
            break
    assert min(late) < 1.0


async def test_it_is_restarted_cancelled_and_sent_without_a_token(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    restarted = await later(alice, room, 3_500, "restarted", body="restarted")
    cancelled = await later(alice, room, 3_500, "cancelled", body="cancelled")
    now = await later(alice, room, 3_600_000, "now", body="now")
    assert await act(server, now, "send") == {}
    assert [each["content"]["body"] for each in await messages(alice, room)] == ["now"]
    assert await act(server, cancelled, "cancel") == {}
    for _ in range(4):
        await asyncio.sleep(1.0)
        await server.client.post(EVENTS + "/{}", restarted, json={"action": "restart"})
    assert [each["content"]["body"] for each in await messages(alice, room)] == ["now"]
    found = await until_sent(alice, room, 2)
    assert [each["content"]["body"] for each in found] == ["restarted", "now"]
    assert (await finalised(alice, cancelled))["outcome"] == "cancel"
    for action in ("restart", "send", "cancel"):
        await act(server, cancelled, action, expect=(404, "M_NOT_FOUND"))
        await act(server, "nothing", action, expect=(404, "M_NOT_FOUND"))
    await server.client.post(EVENTS + "/{}", now, json={"action": "x"}, expect=(400, "M_INVALID_PARAM"))
    await server.client.post(EVENTS + "/{}", now, json={}, expect=(400, "M_MISSING_PARAM"))


async def test_state_is_sent_later_and_ones_own_event_does_not_cancel_it(start_server: StartServer) -> None:
    """As a call does it: the leave is scheduled first, then the membership is sent (MSC4143)."""
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(
        preset="public_chat", power_level_content_override={"state_default": 0, "events_default": 0}
    )
    await bob.join(room)
    key = f"_{alice.user_id}_{alice.device_id}_m.call"
    leave = await state_later(alice, room, 3_000, CALL_MEMBER, key, {})
    await alice.put("/rooms/{}/state/{}/{}", room, CALL_MEMBER, key, json={"application": "m.call"})
    assert (await finalised(alice, leave))["outcome"] == "send"
    assert await alice.get("/rooms/{}/state/{}/{}", room, CALL_MEMBER, key) == {}

    # Somebody else's does, when it comes to be sent and when it is restarted.
    names = [await state_later(alice, room, ms, "org.example", "k", {"n": 1}) for ms in (3_000, 3_600_000)]
    await bob.put("/rooms/{}/state/{}/{}", room, "org.example", "k", json={"n": 2})
    await act(server, names[1], "restart", expect=(404, "M_NOT_FOUND"))
    for each in names:
        shown = await finalised(alice, each)
        assert shown["outcome"] == "cancel"
        assert shown["error"]["org.matrix.msc4140.errcode"] == "M_CANCELLED_BY_STATE_UPDATE"
    assert await alice.get("/rooms/{}/state/{}/{}", room, "org.example", "k") == {"n": 2}


async def test_rights_are_those_of_the_moment_of_sending(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    due, asked = await later(bob, room, 3_000, "a"), await later(bob, room, 3_600_000, "b")
    before = await state_later(bob, room, 3_600_000, "m.room.topic", "", {"topic": "x"})
    await bob.leave(room)
    assert (await finalised(bob, due))["error"]["errcode"] == "M_FORBIDDEN"
    await act(server, asked, "send", expect=(403, "M_FORBIDDEN"))
    await bob.join(room)
    await act(server, before, "send", expect=(403, "M_FORBIDDEN"))
    assert await act(server, asked, "send") == {}, "it has stayed scheduled"
    assert len(await messages(bob, room)) == 1


async def test_what_is_scheduled_outlives_a_restart_and_a_logout(
    postgres: Postgres, worker: str, migrated_template: str, tmp_path: Path
) -> None:
    name = f"delayed_{worker}"
    dsn = postgres.create(name, template=migrated_template)
    try:
        async with run(dsn, tmp_path) as server:
            alice, bob = await server.register("alice"), await server.register("bob")
            room = await alice.create_room(preset="public_chat")
            await bob.join(room)
            await later(alice, room, 1_500)
            await alice.logout()
        await asyncio.sleep(1.6)
        async with run(dsn, tmp_path) as again:
            bob.client = again.client
            (sent,) = await until_sent(bob, room)
            assert sent["sender"] == alice.user_id
    finally:
        postgres.drop(name)


async def test_one_of_several_processes_sends_it_once(start_server: StartServer) -> None:
    """Also if who has claimed it was killed after writing it: it has a transaction id."""
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    delay_id = await later(alice, room, 3_600_000)
    key = await state_later(alice, room, 3_600_000, "org.example", "", {"n": 1})
    await act(server, delay_id, "send")
    await act(server, key, "send")
    await alice.put("/rooms/{}/state/{}/{}", room, "org.example", "", json={"n": 2})
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute(
            "UPDATE delayed_events SET finalised_ms = NULL, event_id = NULL, due_ms = 0, claimed_until_ms = 0"
        )
    sender = server.app.features.delayed.sender
    await asyncio.gather(*(sender.send_due() for _ in range(4)))
    assert (await finalised(alice, delay_id))["event_id"] == (await messages(alice, room))[0]["event_id"]
    await finalised(alice, key)
    assert len(await messages(alice, room)) == 1
    assert await alice.get("/rooms/{}/state/{}/{}", room, "org.example", "") == {"n": 2}


async def test_bounds(start_server: StartServer) -> None:
    server = await start_server(
        limits={"delayed_event_delay": 3600, "delayed_events": 5, "delayed_event_bytes": 64 << 10}
    )
    alice = await server.register("alice")
    room = await alice.create_room()
    path, body = "/rooms/{}/send/m.room.message/{}", {"msgtype": "m.text", "body": "x"}
    for wrong in (0, -5):
        await alice.put(path, room, "w", json=body, params={DELAY: wrong}, expect=(400, "M_INVALID_PARAM"))
    await alice.put(path, room, "w", json=body, params={DELAY: "soon"}, expect=(400, "M_INVALID_PARAM"))
    refused = await alice.put(
        path, room, "w", json=body, params={DELAY: 3_600_001}, expect=(400, "M_UNKNOWN")
    )
    assert refused["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert refused["org.matrix.msc4140.max_delay"] == 3_600_000
    await alice.put(path, room, "w", json={}, params={DELAY: 10}, expect=(400, "M_BAD_JSON"))
    await alice.put(path, "!no:where", "w", json=body, params={DELAY: 10}, expect=(403, "M_FORBIDDEN"))
    big = {**body, "body": "x" * 40_000}
    ids = [await later(alice, room, 3_600_000, "big", body=big["body"])]
    answer = await alice.exchange(
        "PUT", path, room, "w", json=big, params={DELAY: 10_000}, expect=(429, "M_LIMIT_EXCEEDED")
    )
    assert 3_500 < int(answer.headers["retry-after"]) <= 3_600
    ids += [await later(alice, room, 3_600_000, f"t{n}") for n in range(4)]
    refused = await alice.put(
        path, room, "w", json=body, params={DELAY: 10_000}, expect=(429, "M_LIMIT_EXCEEDED")
    )
    assert refused["org.matrix.msc4140.errcode"] == "M_MAX_DELAYED_EVENTS_EXCEEDED"
    assert await later(alice, room, 3_600_000, "t3") == ids[-1], "a repeat is no more"
    await act(server, ids[0], "cancel")
    await later(alice, room, 3_600_000, "w")


async def test_it_is_listed_in_pages_to_its_owner_alone(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    body = {"delay": 3_600_000, "content": {"msgtype": "m.text", "body": "x"}}
    new = UNSTABLE + "/rooms/{}/delayed_event/{}/{}"
    ids = [(await alice.put(new, room, "m.room.message", f"t{n}", json=body))["delay_id"] for n in range(23)]
    key = (await alice.put(new, room, "m.room.topic", "s", json={**body, "state_key": ""}))["delay_id"]
    first = await alice.get(EVENTS, params={"status": "scheduled"})
    assert [each["delay_id"] for each in first["scheduled"]] == ids[:20]
    assert first["scheduled"] == first["delayed_events"]
    assert "finalised" not in first
    rest = await alice.get(EVENTS, params={"from": first["next_batch"]})
    assert [each["delay_id"] for each in rest["scheduled"]] == [*ids[20:], key]
    assert rest["finalised"] == []
    assert "next_batch" not in rest
    assert rest["scheduled"][-1]["state_key"] == ""
    assert rest["scheduled"][-1]["delay"] == 3_600_000
    back = await alice.get(EVENTS, params={"dir": "b", "type": "m.room.topic", "room_id": room})
    assert [each["delay_id"] for each in back["scheduled"]] == [key]
    await act(server, ids[3], "cancel")
    some = await alice.get(EVENTS, params={"status": "finalised"})
    assert [each["delay_id"] for each in some["finalised"]] == [ids[3]]
    one = await alice.get(EVENTS, params={"delay_id": [ids[3], ids[4]], "status": "scheduled"})
    assert [each["delay_id"] for each in one["scheduled"]] == [ids[4]]
    assert (await bob.get(EVENTS))["delayed_events"] == []
    await bob.get(EVENTS + "/{}", key, expect=(404, "M_NOT_FOUND"))
    await bob.get(EVENTS, params={"from": "x"}, expect=(400, "M_INVALID_PARAM"))
    await server.client.get(EVENTS, expect=(401, "M_MISSING_TOKEN"))


async def test_without_parameters_all_that_are_scheduled_are_listed_and_nothing_else(
    start_server: StartServer,
) -> None:
    """As the newest text has it: it knows no pages, and lists nothing that was sent or cancelled."""
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    new = UNSTABLE + "/rooms/{}/delayed_event/m.room.message/{}"
    ids: dict[int, str] = {}
    for number in range(25):
        body = {"delay_ms": 3_600_000 - 1_000 * number, "content": {"msgtype": "m.text", "body": "x"}}
        ids[number] = (await alice.put(new, room, f"t{number}", json=body))["delay_id"]
    await act(server, ids.pop(3), "cancel")
    await act(server, ids.pop(24), "send")
    listed = (await alice.get(EVENTS))["delayed_events"]
    assert [each["delay_id"] for each in listed] == [ids[number] for number in sorted(ids, reverse=True)]
    assert not any({"finalised_ts", "event_id", "error"} & each.keys() for each in listed)
    assert (await bob.get(EVENTS))["delayed_events"] == []


async def test_it_is_told_under_the_names_of_the_newest_text(start_server: StartServer) -> None:
    server = await start_server(limits={"delayed_event_delay": 3600, "delayed_events": 7})
    alice = await server.register("alice")
    room = await alice.create_room()
    bounds = (await alice.get("/capabilities"))["capabilities"]["org.matrix.msc4140.delayed_events"]
    assert bounds == {"max_delay_ms": 3_600_000, "max_scheduled": 7}
    new = UNSTABLE + "/rooms/{}/delayed_event/m.room.message/{}"
    content = {"msgtype": "m.text", "body": "x"}
    answer = await alice.put(new, room, "n", json={"delay_ms": 3_600_000, "content": content})
    await alice.put(new, room, "m", json={"content": content}, expect=(400, "M_MISSING_PARAM"))
    shown = await alice.get(EVENTS + "/{}", answer["delay_id"])
    assert (shown["delay_ms"], shown["content"], "finalised_ts" in shown) == (3_600_000, content, False)
    await act(server, answer["delay_id"], "send")
    after = await alice.get(EVENTS + "/{}", answer["delay_id"])
    assert shown["scheduled_at"] <= after["finalised_ts"] < shown["scheduled_at"] + shown["delay_ms"]


async def test_each_device_of_the_sender_and_nobody_else_is_told_its_delay_id(
    start_server: StartServer,
) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    other = await alice.new_device()
    people = (alice, other, bob)
    since = [(await each.sync())["next_batch"] for each in people]
    message = await later(alice, room, 3_600_000)
    state = await state_later(alice, room, 3_600_000, "org.example", "", {"n": 1})
    for each in (message, state):
        await act(server, each, "send")
    for person, at in zip(people, since, strict=True):
        expected = [None, None] if person is bob else [message, state]
        told = (await person.sync(since=at))["rooms"]["join"][room]["timeline"]["events"]
        assert [event["unsigned"].get(NEW_DELAY_ID) for event in told] == expected
        read = await person.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 2})
        assert [event["unsigned"].get(NEW_DELAY_ID) for event in reversed(read["chunk"])] == expected
        assert all("transaction_id" not in event["unsigned"] for event in told)


async def test_an_account_that_has_ended_sends_nothing_more(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await bob.create_room(preset="public_chat")
    await alice.join(room)
    delay_id = await later(alice, room, 3_600_000)
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": alice.password,
    }
    await alice.post("/account/deactivate", json={"auth": auth})
    await act(server, delay_id, "send", expect=(404, "M_NOT_FOUND"))


async def test_redactions_and_suspended_users(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    said = await alice.send(room, "for a while")
    path = "/rooms/{}/send/m.room.redaction/{}"
    redaction = await alice.put(path, room, "r", json={"redacts": said}, params={DELAY: 3_600_000})
    message = await later(alice, room, 3_600_000)
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute("UPDATE accounts SET suspended = true")
    await act(server, message, "send", expect=(403, "M_USER_SUSPENDED"))
    await act(server, redaction["delay_id"], "send")
    assert (await alice.get("/rooms/{}/event/{}", room, said))["content"] == {}, "ACC-03"
    async with server.app.core.db.transaction() as tx:
        await tx.execute("UPDATE accounts SET suspended = false, locked = true")
    await act(server, message, "send", expect=(401, "M_USER_LOCKED"))


@pytest.mark.parametrize("action", ["restart", "send", "cancel"])
async def test_who_guesses_is_slowed_down(start_server: StartServer, action: str) -> None:
    server = await start_server(rate_limits={"enabled": True, "delayed": {"per_second": 0.1, "burst": 3}})
    for _ in range(3):
        await act(server, "guess", action, expect=(404, "M_NOT_FOUND"))
    await act(server, "guess", action, expect=(429, "M_LIMIT_EXCEEDED"))
