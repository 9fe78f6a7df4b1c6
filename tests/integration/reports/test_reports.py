"""Reports of events, rooms and users: taken from who may, kept with what was seen, shown to administrators."""

from typing import Any

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.user import User

EVENTS = "/_synapse/admin/v1/event_reports"
ALL = "/_atrium/admin/v1/reports"


async def admin_of(server: Server) -> User:
    admin = await server.register("admin")
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute(
            "UPDATE accounts SET is_admin = true WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = %(u)s)",
            u=admin.user_id,
        )
    return await admin.login()


async def test_mod_01_mod_02_events_are_reported_by_who_is_joined_and_kept_as_seen(
    start_server: StartServer,
) -> None:
    """MOD-01, MOD-02"""
    server = await start_server()
    admin, alice, bob = await admin_of(server), await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    event = await alice.send(room, "rude")
    report = "/rooms/{}/report/{}"
    await bob.post(report, room, event, json={"reason": "x"}, expect=(404, "M_NOT_FOUND"))
    await bob.post("/rooms/{}/join", room, json={})
    await bob.post(report, room, "$nothing", json={"reason": "x"}, expect=(404, "M_NOT_FOUND"))
    for body in ({"reason": "because"}, {"reason": ""}, {}, {"score": -100}):
        assert await bob.post(report, room, event, json=body) == {}
    await bob.post(report, room, event, json={"reason": "\0"}, expect=(400, "M_INVALID_PARAM"))
    await bob.post(report, room, event, json={"reason": 7}, expect=(400, "M_BAD_JSON"))
    await bob.post(report, room, event, json={"reason": "x" * 10_001}, expect=(400, "M_INVALID_PARAM"))
    await alice.redact(room, event)

    listed = await admin.get(EVENTS)
    assert [each["reason"] for each in listed["event_reports"]] == [None, None, "", "because"]
    assert listed["total"] == 4
    first = listed["event_reports"][-1]
    assert (first["user_id"], first["sender"], first["room_id"], first["event_id"]) == (
        bob.user_id,
        alice.user_id,
        room,
        event,
    )
    whole = await admin.get(EVENTS + "/{}", str(first["id"]))
    assert whole["event_json"]["content"]["body"] == "rude", "as it was seen, whatever became of it"


async def test_lists_come_in_pages_and_are_filtered(start_server: StartServer) -> None:
    server = await start_server()
    admin, alice, bob = await admin_of(server), await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", invite=[bob.user_id])
    await bob.post("/rooms/{}/join", room, json={})
    for sender, reporter in ((alice, bob), (bob, alice), (alice, bob)):
        event = await sender.send(room, "x")
        await reporter.post("/rooms/{}/report/{}", room, event, json={})
    seen: list[Any] = []
    token: str = "0"
    while token:
        page = await admin.get(EVENTS, params={"limit": "2", "from": token, "dir": "f"})
        seen += page["event_reports"]
        token = str(page.get("next_token", ""))
    assert [each["id"] for each in seen] == sorted(each["id"] for each in seen)
    assert len(seen) == 3
    by_bob = await admin.get(EVENTS, params={"user_id": bob.user_id})
    of_bob = await admin.get(EVENTS, params={"event_sender_user_id": bob.user_id})
    assert (by_bob["total"], of_bob["total"]) == (2, 1)
    await admin.get(EVENTS, params={"limit": "0"}, expect=(400, "M_INVALID_PARAM"))
    number = str(seen[0]["id"])
    await admin.delete(EVENTS + "/{}", number)
    await admin.delete(EVENTS + "/{}", number, expect=(404, "M_NOT_FOUND"))
    await admin.get(EVENTS + "/{}", number, expect=(404, "M_NOT_FOUND"))


async def test_mod_01_rooms_and_users_are_reported_by_anybody_and_no_answer_tells_whether_there_are_any(
    start_server: StartServer,
) -> None:
    server = await start_server()
    admin, alice, bob = await admin_of(server), await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    for known, unknown in ((room, "!nowhere:localhost"), (room, room + "x")):
        for each in (known, unknown):
            assert await bob.post("/rooms/{}/report", each, json={"reason": "spam"}) == {}
    for user in (alice.user_id, "@nobody:localhost"):
        assert await bob.post("/users/{}/report", user, json={"reason": ""}) == {}
    await bob.post("/users/{}/report", alice.user_id, json={}, expect=(400, "M_MISSING_PARAM"))
    rooms = await admin.get(ALL, params={"kind": "room"})
    users = await admin.get(ALL, params={"kind": "user"})
    assert [each["room_id"] for each in rooms["reports"]] == [room, room]
    assert [each["target_user_id"] for each in users["reports"]] == [alice.user_id]
    number = str(users["reports"][0]["id"])
    await admin.get(EVENTS + "/{}", number, expect=(404, "M_NOT_FOUND"))
    assert (await admin.get(ALL + "/{}", number))["user_id"] == bob.user_id
    await admin.delete(ALL + "/{}", number)


async def test_only_administrators_read_them(server: Server) -> None:
    alice = await server.register("alice")
    for path in (EVENTS, EVENTS + "/1", ALL + "?kind=room", ALL + "/1"):
        await alice.get(path, expect=(403, "M_FORBIDDEN"))
    for path in (EVENTS + "/1", ALL + "/1"):
        await alice.delete(path, expect=(403, "M_FORBIDDEN"))
