"""LiveKit's own library for servers (PyPI `livekit-api`): it takes our tokens, and what it signs is taken (MSC4195)."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from livekit import api

from tests.conftest import StartServer
from tests.integration.calls.test_livekit import (
    BASE,
    DELAYED,
    OWN_LEAVE,
    claim,
    hashed,
    leave_later,
    openid,
    serving,
)
from tests.support.livekit import KEY, SECRET, FakeLiveKit, fake_livekit, webhook

VERIFIER = api.TokenVerifier(KEY, SECRET, leeway=dt.timedelta(0))


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    async with fake_livekit() as fake:
        yield fake


async def test_it_takes_the_tokens_of_members(start_server: StartServer, livekit: FakeLiveKit) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    room = await alice.create_room()
    now = await server.client.post(BASE + "/get_token", json=await claim(alice, room))
    before = {"room": room, "openid_token": await openid(alice), "device_id": alice.device_id}
    old = await server.client.post(BASE + "/sfu/get", json=before)
    for token, identity in (
        (now["jwt"], hashed(alice.user_id, alice.device_id, "m1")),
        (old["jwt"], f"{alice.user_id}:{alice.device_id}"),
    ):
        claims = VERIFIER.verify(token)
        assert claims.identity == identity
        video = claims.video
        assert (video.room_join, video.can_publish, video.can_subscribe) == (True, True, True)
        assert not any((video.room_create, video.room_admin, video.room_list, video.room_record))
        assert video.room == hashed(room, "m.call#ROOM")
        with pytest.raises(jwt.InvalidSignatureError):
            api.TokenVerifier(KEY, SECRET + "x").verify(token)
        with pytest.raises(jwt.InvalidIssuerError):
            api.TokenVerifier("another key", SECRET).verify(token)


async def test_it_takes_the_tokens_that_the_server_asks_with(
    start_server: StartServer, livekit: FakeLiveKit
) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    await server.client.post(BASE + "/get_token", json=await claim(alice, await alice.create_room()))
    video = VERIFIER.verify(livekit.token).video
    assert video.room_create
    assert not any((video.room_join, video.room_admin))


async def told(server: Any, event: dict[str, Any], token: str, *expect: Any) -> None:
    headers = {"Authorization": token, "Content-Type": "application/webhook+json"}
    options = {"expect": expect} if expect else {}
    await server.client.post(
        BASE + "/sfu_webhook", data=json.dumps(event).encode(), headers=headers, **options
    )


def token_for(event: dict[str, Any]) -> api.AccessToken:
    digest = hashlib.sha256(json.dumps(event).encode()).digest()
    return api.AccessToken(KEY, SECRET).with_sha256(base64.b64encode(digest).decode())


async def test_what_it_signs_is_taken(start_server: StartServer, livekit: FakeLiveKit) -> None:
    server = await serving(start_server, livekit)
    alice = await server.register("alice")
    room = await alice.create_room()
    delay_id = await leave_later(alice, room, 600_000)
    member = {"id": "m1", "claimed_device_id": alice.device_id}
    body = {"room_id": room, "slot_id": "m.call#ROOM", "member": member, "delay_id": delay_id}
    assert await alice.post(OWN_LEAVE, json=body) == {}
    identity = hashed(alice.user_id, alice.device_id, "m1")
    event = {
        "event": "participant_left",
        "room": {"name": hashed(room, "m.call#ROOM")},
        "participant": {"identity": identity, "disconnectReason": "CLIENT_INITIATED"},
    }
    late = token_for(event).with_ttl(dt.timedelta(hours=-1))
    for refused in (late, token_for({}), api.AccessToken(KEY, SECRET), api.AccessToken("else", SECRET)):
        await told(server, event, refused.to_jwt(), 401, "M_UNAUTHORIZED")
    assert "outcome" not in await alice.get(DELAYED + "/{}", delay_id)
    await told(server, event, token_for(event).to_jwt())
    assert (await alice.get(DELAYED + "/{}", delay_id))["outcome"] == "send"


def test_what_tests_say_as_livekit_is_what_it_says() -> None:
    sent, headers = webhook({"event": "participant_left", "room": {"name": "x"}})
    event = api.WebhookReceiver(VERIFIER).receive(sent.decode(), headers["Authorization"])
    assert (event.event, event.room.name) == ("participant_left", "x")
