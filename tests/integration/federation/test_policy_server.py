"""Rooms with a policy server: what is sent from here is shown to it; what comes unsigned is shown once, or soft failed."""

from typing import Any

import pytest

from homeserver.events.event import Event
from homeserver.events.hashing import signed_bytes
from homeserver.events.parse import parse_event
from homeserver.graph.refs import SOFT_FAILED
from homeserver.matrix import base64
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.signing import SigningKey, verify_bytes
from tests.integration.federation.test_send import joined
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.user import User

KEY = SigningKey(b"\x09" * 32, "policy_server")
SIGN = "/_matrix/policy/v1/sign"
REFUSED = status(400, {"errcode": "M_FORBIDDEN", "error": "This looks like spam"})


def signs(remote: RemoteServer, room: RemoteRoom) -> None:
    """It signs whatever it is shown, unless it says spam; its own old signatures it leaves out."""

    def answer(asked: Asked) -> Any:
        if "spam" in str(asked.json["content"].get("body", "")):
            return REFUSED
        event = parse_event(asked.body, room.tip.room_version)
        return {remote.name: {KEY.key_id: KEY.signature_of(signed_bytes(event.fields, event.room_version))}}

    remote.answers("POST", SIGN, answer)


def is_signed(event: Event, by: str) -> bool:
    signature = event.fields["signatures"].get(by, {}).get(KEY.key_id)
    try:
        verify_bytes(signed_bytes(event.fields, event.room_version), signature, KEY.key_id, KEY.public_key)
    except (InvalidSignature, TypeError):
        return False
    return True


async def guarded(federation: Federation) -> tuple[User, RemoteRoom]:
    """A room whose policy server is bob's server."""
    _, alice, room = await joined(federation)
    signs(room.remote, room)
    policy = {"via": room.remote.name, "public_keys": {"ed25519": base64.encode(KEY.public_key)}}
    await alice.put_state(room.room_id, "m.room.policy", policy)
    assert not room.remote.requests("POST", SIGN)  # the state event itself is never shown (MOD-07)
    await room.look()
    return alice, room


async def test_what_is_sent_is_shown_first(federation: Federation) -> None:
    """MOD-06, MOD-07."""
    alice, room = await guarded(federation)
    event_id = await alice.send(room.room_id, "hi")
    (asked,) = room.remote.requests("POST", SIGN)
    assert asked.json["content"]["body"] == "hi"
    sent = (await room.core.events.by_id(event_id)).event
    assert is_signed(sent, room.remote.name)
    assert len(sent.fields["signatures"]) == 2
    await alice.put_state(room.room_id, "m.room.topic", {"topic": "state too"})
    assert len(room.remote.requests("POST", SIGN)) == 2


async def test_what_it_refuses_is_not_sent(federation: Federation) -> None:
    """MOD-07: the client is told the same; the room goes on."""
    alice, room = await guarded(federation)
    content = {"msgtype": "m.text", "body": "spam"}
    path = f"/rooms/{room.room_id}/send/m.room.message/t1"
    answer = await alice.put(path, json=content, expect=400)
    assert answer["errcode"] == "M_FORBIDDEN"
    room.remote.away = True
    await alice.put(path, json={**content, "body": "nobody there"}, expect=503)
    room.remote.away = False
    await alice.put_state(room.room_id, "m.room.policy", {})
    await alice.put(path, json=content)


async def test_without_a_user_in_the_room_it_is_none(federation: Federation) -> None:
    """MOD-06."""
    alice, room = await guarded(federation)
    await room.send(
        room.says("bob", "m.room.member", {"membership": "leave"}, state_key=room.remote.user("bob"))
    )
    await room.arrives(room.tip)
    asked = len(room.remote.requests("POST", SIGN))
    await alice.send(room.room_id, "spam")
    assert len(room.remote.requests("POST", SIGN)) == asked


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"via": "localhost:1"},
        {"via": 5, "public_keys": {"ed25519": "AAAA"}},
        {"via": "x y", "public_keys": {"ed25519": "A" * 43}},
        {"via": "NAME", "public_keys": {"ed25519": "AAAA"}},
        {"via": "NAME", "public_keys": {"other": "A" * 43}},
        {"via": "NAME", "public_keys": ["ed25519"]},
    ],
)
async def test_what_lacks_a_field_names_no_policy_server(
    federation: Federation, content: dict[str, Any]
) -> None:
    """MOD-06."""
    _, alice, room = await joined(federation)
    named = {key: room.remote.name if value == "NAME" else value for key, value in content.items()}
    await alice.put_state(room.room_id, "m.room.policy", named)
    await alice.send(room.room_id, "hi")
    assert not room.remote.requests("POST", SIGN)


async def test_what_comes_unsigned_is_shown_once(federation: Federation) -> None:
    """MOD-08: signed then, and kept with both signatures; or soft failed."""
    alice, room = await guarded(federation)
    good = room.says("bob", "m.room.message", TEXT)
    await room.send(good)
    (persisted,) = await room.arrives(good)
    assert not persisted.flags
    assert is_signed(persisted.event, room.remote.name)
    assert room.remote.key.key_id in persisted.event.fields["signatures"][room.remote.name]
    asked = len(room.remote.requests("POST", SIGN))
    bad = room.says("bob", "m.room.message", {**TEXT, "body": "spam"}, prev=[good])
    await room.send(bad)
    (persisted,) = await room.arrives(bad)
    assert persisted.flags & SOFT_FAILED
    assert len(room.remote.requests("POST", SIGN)) == asked + 1
    page = await alice.messages(room.room_id, limit=10)
    assert "spam" not in str(page)


async def test_what_comes_signed_is_not_shown(federation: Federation) -> None:
    """MOD-08."""
    _, room = await guarded(federation)
    event = room.says("bob", "m.room.message", {**TEXT, "body": "spam, but allowed"})
    own = event.fields["signatures"][room.remote.name]
    mark = KEY.signature_of(signed_bytes(event.fields, event.room_version))
    await room.send({**event.fields, "signatures": {room.remote.name: {**own, KEY.key_id: mark}}})
    (persisted,) = await room.arrives(event)
    assert not persisted.flags
    assert not room.remote.requests("POST", SIGN)


async def test_one_that_does_not_answer_lets_nothing_in(federation: Federation) -> None:
    """MOD-08: soft failed, and nothing else waits."""
    _, room = await guarded(federation)
    room.remote.answers("POST", SIGN, status(500, {"errcode": "M_UNKNOWN", "error": "down"}))
    event = room.says("bob", "m.room.message", TEXT)
    await room.send(event)
    (persisted,) = await room.arrives(event)
    assert persisted.flags & SOFT_FAILED
