"""Places for calls (MSC4143) and the tokens that let into them (MSC4195); CHECKLIST section 22, 26."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import StartServer
from tests.support.livekit import KEY, SECRET, FakeLiveKit, claims_of, fake_livekit, webhook
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

TRANSPORTS = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"
DELAYED = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"
BASE = "/_matrix/livekit"
OWN_LEAVE = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave"
CALL_MEMBER = "org.matrix.msc3401.call.member"


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    async with fake_livekit() as fake:
        yield fake


async def serving(start_server: StartServer, livekit: FakeLiveKit, **options: Any) -> Server:
    section = {"url": livekit.url, "key": KEY, "secret": SECRET, **options}
    return await start_server(
        calls={"livekit": section}, server={"public_baseurl": "https://matrix.example.com"}
    )


def hashed(*parts: str) -> str:
    text = json.dumps(parts, separators=(",", ":"))
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


async def openid(user: User) -> dict[str, Any]:
    return dict(await user.post("/user/{}/openid/request_token", user.user_id))


async def claim(user: User, room: str, **more: Any) -> dict[str, Any]:
    member = {"id": "m1", "claimed_user_id": user.user_id, "claimed_device_id": user.device_id}
    token = await openid(user)
    return {"room_id": room, "slot_id": "m.call#ROOM", "openid_token": token, "member": member, **more}


async def leave_later(user: User, room: str, ms: int) -> str:
    path = "/rooms/{}/state/{}/{}"
    key = f"_{user.user_id}_{user.device_id}_m.call"
    params = {"org.matrix.msc4140.delay": ms}
    await user.put(path, room, CALL_MEMBER, key, json={"application": "m.call"})
    answer = await user.put(path, room, CALL_MEMBER, key, json={}, params=params)
    return str(answer["delay_id"])


async def test_clients_are_told_of_it(start_server: StartServer, livekit: FakeLiveKit) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    place = {"type": "livekit", "livekit_service_url": "https://matrix.example.com/_matrix/livekit"}
    assert await alice.get(TRANSPORTS) == {"rtc_transports": [place]}
    await server.client.get(TRANSPORTS, expect=(401, "M_MISSING_TOKEN"))
    known = await server.client.get("/.well-known/matrix/client")
    assert known["org.matrix.msc4143.rtc_foci"] == [place]
    assert (await server.client.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc4143"]


async def test_without_a_livekit_server_there_is_no_place(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.register("alice")
    assert await alice.get(TRANSPORTS) == {"rtc_transports": []}
    await server.client.post(BASE + "/sfu/get", json={}, expect=(404, "M_UNRECOGNIZED"))
    for client in (server.client, alice):
        # Clients ask without a token whether it is offered: any other status says that it is.
        await client.post(OWN_LEAVE, json={}, expect=(404, "M_UNRECOGNIZED"))


async def test_a_member_of_the_room_gets_a_token(start_server: StartServer, livekit: FakeLiveKit) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    room = await alice.create_room()
    body = {"room": room, "openid_token": await openid(alice), "device_id": alice.device_id}
    answer = await server.client.exchange("POST", BASE + "/sfu/get", json=body)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json["url"] == livekit.url
    claims = claims_of(answer.json["jwt"])
    assert claims["sub"] == f"{alice.user_id}:{alice.device_id}"
    name = hashed(room, "m.call#ROOM")
    assert claims["video"] == {
        "room": name,
        "roomJoin": True,
        "roomCreate": False,
        "canPublish": True,
        "canSubscribe": True,
    }
    assert claims["nbf"] <= time.time() < claims["exp"] <= time.time() + 3601
    assert livekit.rooms == [name]

    answer = await server.client.post(BASE + "/get_token", json=await claim(alice, room))
    claims = claims_of(answer["jwt"])
    assert (claims["sub"], claims["video"]["room"]) == (
        hashed(alice.user_id, alice.device_id, "m1"),
        name,
    )


async def test_it_is_served_where_clients_expect_a_service_of_its_own(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    body = await claim(alice, await alice.create_room())
    async with aiohttp.ClientSession(server.url) as session:
        for path, status in (("/get_token", 200), ("/sfu/get", 400), ("/sfu_webhook", 401)):
            async with session.post(path, json=body) as answer:
                assert answer.status == status
                assert answer.headers["access-control-allow-origin"] == "*"
        async with session.post("/delegate_delayed_leave", json=body) as answer:
            assert (await answer.json())["errcode"] == "M_BAD_JSON"


async def test_nobody_else_gets_one(start_server: StartServer, livekit: FakeLiveKit) -> None:
    """FED-40, OID-01: the token says who somebody is, and the room who may call in it."""
    server = await serving(start_server, livekit)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    get, post = BASE + "/get_token", server.client.post
    good = await claim(alice, room)
    await post(get, json=await claim(bob, room), expect=(403, "M_FORBIDDEN"))
    await post(get, json={**good, "room_id": "!nowhere:x"}, expect=(403, "M_FORBIDDEN"))
    as_bob = {**good, "member": {**good["member"], "claimed_user_id": bob.user_id}}
    await post(get, json=as_bob, expect=(401, "M_UNAUTHORIZED"))
    for change in (
        {"access_token": "wrong"},
        {"access_token": alice.token},
        {"matrix_server_name": "other.example"},
        {"matrix_server_name": "no name/"},
    ):
        body = {**good, "openid_token": {**good["openid_token"], **change}}
        await post(get, json=body, expect=(401, "M_UNAUTHORIZED"))
    for missing in ("room_id", "slot_id", "openid_token", "member"):
        await post(get, json={k: v for k, v in good.items() if k != missing}, expect=(400, "M_BAD_JSON"))
    for part in ("delay_id", "delay_timeout", "delay_cs_api_url"):
        extra = {part: 5 if part == "delay_timeout" else "x"}
        await post(get, json={**good, **extra}, expect=(400, "M_BAD_JSON"))
        await post(BASE + "/sfu/get", json={"room": room, **extra}, expect=(400, "M_BAD_JSON"))
    for path in (get, BASE + "/sfu/get", BASE + "/delegate_delayed_leave"):
        await post(path, data=b"{", expect=(400, "M_NOT_JSON"))
        await post(path, json={}, expect=(400, "M_BAD_JSON"))
        await server.client.get(path, expect=(405, "M_UNRECOGNIZED"))
    await post(BASE + "/delegate_delayed_leave", json=good, expect=(400, "M_BAD_JSON"))
    assert livekit.rooms == []


async def test_tokens_are_given_though_livekit_cannot_be_asked(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    server = await serving(start_server, livekit, api_url="http://127.0.0.1:1")
    alice = await server.register("alice")
    answer = await server.client.post(BASE + "/get_token", json=await claim(alice, await alice.create_room()))
    assert answer["url"] == livekit.url


async def test_a_delegated_leave_is_sent_when_its_participant_hangs_up(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    """The delayed leave is restarted while they are there: the client need not say so again."""
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    room = await alice.create_room()
    delay_id = await leave_later(alice, room, 600_000)
    body = await claim(alice, room, delay_id=delay_id, delay_timeout=600_000, delay_cs_api_url="x")
    name, identity = hashed(room, "m.call#ROOM"), hashed(alice.user_id, alice.device_id, "m1")
    livekit.present.add((name, identity))
    assert await server.client.post(BASE + "/delegate_delayed_leave", json=body) == {}
    since = (await alice.get(DELAYED + "/{}", delay_id))["running_since"]
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute("UPDATE delegated_leaves SET look_ms = 0")

    async def is_restarted() -> bool:
        return bool((await alice.get(DELAYED + "/{}", delay_id))["running_since"] > since)

    await until(is_restarted)  # by what LiveKit says

    participant = {"identity": identity, "disconnectReason": "CLIENT_INITIATED"}
    event = {"event": "participant_left", "room": {"name": name}, "participant": participant}
    for changes in ({"secret": "x" * 32}, {"iss": "else"}, {"exp": 5}, {"sha256": "eA=="}, {"sha256": 5}):
        sent, headers = webhook(event, **changes)
        await server.client.post(
            BASE + "/sfu_webhook", data=sent, headers=headers, expect=(401, "M_UNAUTHORIZED")
        )
    await server.client.post(BASE + "/sfu_webhook", data=b"{}", expect=(401, "M_UNAUTHORIZED"))
    joined, headers = webhook({**event, "event": "participant_joined"})
    await server.client.post(BASE + "/sfu_webhook", data=joined, headers=headers)
    assert "origin_server_ts" not in await alice.get(DELAYED + "/{}", delay_id)
    sent, headers = webhook(event)
    await server.client.post(BASE + "/sfu_webhook", data=sent, headers=headers)
    assert (await alice.get(DELAYED + "/{}", delay_id))["outcome"] == "send"
    await server.client.post(BASE + "/sfu_webhook", data=sent, headers=headers)
    await server.client.post(BASE + "/delegate_delayed_leave", json=body, expect=(400, "M_BAD_JSON"))


async def test_a_leave_is_delegated_to_the_homeserver_by_whose_it_is(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    """MSC4195, "Optional Delegated MatrixRTC Membership Lifecycle Tracking": nothing but one's token says who one is."""
    server = await serving(start_server, livekit)
    alice, bob = await server.register("alice"), await server.register("bob")
    room, other = await alice.create_room(preset="public_chat"), await alice.create_room()
    await bob.join(room)
    delay_id = await leave_later(alice, room, 3_600_000)
    member = {"id": "m1", "claimed_device_id": alice.device_id}
    body = {"room_id": room, "slot_id": "m.call#ROOM", "member": member, "delay_id": delay_id}
    await server.client.post(OWN_LEAVE, json=body, expect=(401, "M_MISSING_TOKEN"))
    await bob.post(OWN_LEAVE, json=body, expect=(404, "M_NOT_FOUND"))
    await alice.post(OWN_LEAVE, json={**body, "room_id": other}, expect=(404, "M_NOT_FOUND"))
    await alice.post(OWN_LEAVE, json={**body, "room_id": "!no:where"}, expect=(403, "M_FORBIDDEN"))
    await alice.post(OWN_LEAVE, json={**body, "delay_id": "x"}, expect=(404, "M_NOT_FOUND"))
    await alice.post(OWN_LEAVE, json={**body, "member": {}}, expect=(400, "M_MISSING_PARAM"))
    assert await alice.post(OWN_LEAVE, json=body) == {}

    identity = hashed(alice.user_id, alice.device_id, "m1")
    participant = {"identity": identity, "disconnectReason": "CLIENT_INITIATED"}
    hung_up = {
        "event": "participant_left",
        "room": {"name": hashed(room, "m.call#ROOM")},
        "participant": participant,
    }
    sent, headers = webhook(hung_up)
    await server.client.post(BASE + "/sfu_webhook", data=sent, headers=headers)
    assert (await alice.get(DELAYED + "/{}", delay_id))["outcome"] == "send"
    await alice.post(OWN_LEAVE, json=body, expect=(404, "M_NOT_FOUND"))


async def test_a_delegated_leave_is_sent_when_its_participant_is_gone(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    room = await alice.create_room()
    delay_id = await leave_later(alice, room, 3_600_000)
    body = {
        "room": room,
        "openid_token": await openid(alice),
        "device_id": alice.device_id,
        "delay_id": delay_id,
        "delay_timeout": 3_600_000,
        "delay_cs_api_url": "https://matrix.example.com",
    }
    await server.client.post(BASE + "/sfu/get", json=body)
    assert server.app is not None
    db = server.app.core.db
    for seen, sent in ((0, False), (-25_000, True)):  # before and after the time that one may be away
        async with db.transaction() as tx:
            await tx.execute(
                "UPDATE delegated_leaves SET look_ms = 0, seen_ms = %(seen)s",
                seen=server.app.clock.now_ms() + seen,
            )

        async def looked() -> bool:
            async with db.read() as tx:
                return not await tx.value("SELECT count(*) FROM delegated_leaves WHERE look_ms = 0")

        async def is_sent() -> bool:
            return "origin_server_ts" in await alice.get(DELAYED + "/{}", delay_id)

        await until(is_sent if sent else looked)
        await asyncio.sleep(0.2)
        assert await is_sent() is sent
