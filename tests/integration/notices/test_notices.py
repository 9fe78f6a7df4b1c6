"""Server notices (CHECKLIST NOTICE-01): one room for each user, the invite to which they cannot turn down."""

from __future__ import annotations

from typing import Any

from tests.conftest import StartServer
from tests.integration.reports.test_reports import admin_of
from tests.support.server import Server
from tests.support.user import User

NOTICE = "/_synapse/admin/v1/send_server_notice"
CANNOT = (403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM")


async def tell(admin: User, user: User, body: str, **more: Any) -> str:
    """Send a notice; its event id."""
    content = {"msgtype": "m.text", "body": body}
    return str(
        (await admin.post(NOTICE, json={"user_id": user.user_id, "content": content, **more}))["event_id"]
    )


async def people(start_server: StartServer, **section: Any) -> tuple[Server, User, User]:
    server = await start_server(server_notices={"enabled": True, **section})
    admin = await admin_of(server)
    return server, admin, await server.register("bob")


async def invited(user: User) -> list[str]:
    """Rooms the user is invited to."""
    return list((await user.get("/sync")).get("rooms", {}).get("invite", {}))


async def test_notice_01_a_user_is_invited_to_one_room_and_cannot_turn_it_down(
    start_server: StartServer,
) -> None:
    server, admin, bob = await people(start_server, display_name="The server", room_name="News")
    first = await tell(admin, bob, "hello")
    (room,) = await invited(bob)
    assert (await bob.get("/user/{}/rooms/{}/tags", bob.user_id, room))["tags"] == {"m.server_notice": {}}
    await bob.post("/rooms/{}/leave", room, json={}, expect=CANNOT)
    await bob.put(
        "/rooms/{}/state/m.room.member/{}", room, bob.user_id, json={"membership": "leave"}, expect=CANNOT
    )
    await bob.join(room)
    second = await tell(admin, bob, "again")
    assert await invited(bob) == []
    chunk = (await bob.messages(room, limit=50))["chunk"]
    told = [event for event in chunk if event["type"] == "m.room.message"]
    assert [event["event_id"] for event in told] == [second, first]
    assert {event["sender"] for event in told} == {f"@notices:{server.name}"}
    assert (await bob.get("/profile/{}", told[0]["sender"]))["displayname"] == "The server"
    assert await bob.get("/rooms/{}/state/m.room.name", room) == {"name": "News"}
    await bob.put(
        "/rooms/{}/send/m.room.message/t",
        room,
        json={"msgtype": "m.text", "body": "no"},
        expect=(403, "M_FORBIDDEN"),
    )
    # It is left as other rooms are, and the next notice comes with another invite to it.
    await bob.post("/rooms/{}/leave", room, json={})
    await tell(admin, bob, "once more")
    assert await invited(bob) == [room]
    await bob.post("/rooms/{}/leave", room, json={}, expect=CANNOT)


async def test_a_transaction_is_one_notice_and_state_can_be_sent(start_server: StartServer) -> None:
    _, admin, bob = await people(start_server)
    body = {"user_id": bob.user_id, "content": {"msgtype": "m.text", "body": "once"}}
    sent = [(await admin.put(NOTICE + "/{}", "t1", json=body))["event_id"] for _ in range(2)]
    assert sent[0] == sent[1]
    (room,) = await invited(bob)
    await bob.join(room)
    pinned = {"pinned": [sent[0]]}
    body = {"user_id": bob.user_id, "type": "m.room.pinned_events", "state_key": "", "content": pinned}
    await admin.post(NOTICE, json=body)
    assert await bob.get("/rooms/{}/state/m.room.pinned_events", room) == pinned


async def test_who_wants_no_invites_is_told_all_the_same(start_server: StartServer) -> None:
    _, admin, bob = await people(start_server)
    await bob.put(
        "/user/{}/account_data/{}",
        bob.user_id,
        "m.invite_permission_config",
        json={"default_action": "block"},
    )
    await tell(admin, bob, "hello")


async def test_who_may_send_and_to_whom(start_server: StartServer, server: Server) -> None:
    here, admin, bob = await people(start_server)
    body = {"user_id": bob.user_id, "content": {}}
    await bob.post(NOTICE, json=body, expect=(403, "M_FORBIDDEN"))
    for user_id, expect in (
        (f"@nobody:{here.name}", (404, "M_NOT_FOUND")),
        ("@bob:elsewhere.example", (400, "M_INVALID_PARAM")),
        ("bob", (400, "M_INVALID_PARAM")),
    ):
        await admin.post(NOTICE, json={**body, "user_id": user_id}, expect=expect)
    # Nobody can register as it.
    await here.client.post(
        "/register", json={"username": "notices", "password": "x" * 12}, expect=(400, "M_USER_IN_USE")
    )
    await tell(admin, bob, "hello")
    # A server that sends none says so.
    other = await admin_of(server)
    await other.post(NOTICE, json={"user_id": other.user_id, "content": {}}, expect=(400, "M_UNKNOWN"))


async def test_an_account_of_somebody_is_not_used(start_server: StartServer) -> None:
    server, admin, bob = await people(start_server)
    await server.register_exactly("notices")
    content = {"msgtype": "m.text", "body": "hello"}
    body = {"user_id": bob.user_id, "content": content}
    await admin.post(NOTICE, json=body, expect=(400, "M_UNKNOWN"))
