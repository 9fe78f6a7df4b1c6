"""Invites by address become invites of users between servers (FED-41, 3PI-02, 3PI-03)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from federation.handshakes.third_party import Bound
from homeserver.matrix import base64
from homeserver.matrix.signing import SigningKey, sign_json
from tests.support.federation import Federation
from tests.support.remote_server import RemoteServer, status
from tests.support.server import Server
from tests.support.user import User

IDENTITY = SigningKey(b"i" * 32, "0")


async def identity_server(federation: Federation, said: Any = None) -> RemoteServer:
    """What says of its key that it counts, or something else."""
    identity = await federation.remote()
    identity.answers("GET", "/valid", {"valid": True} if said is None else said)
    return identity


async def room_with_invite_by_address(alice: User, identity: RemoteServer) -> str:
    """A room with an m.room.third_party_invite, as an identity server's answer makes it."""
    room = await alice.create_room()
    key, url = base64.encode(IDENTITY.public_key), f"https://{identity.name}/valid"
    content = {
        "display_name": "b…@example.org",
        "public_key": key,
        "key_validity_url": url,
        "public_keys": [{"public_key": key, "key_validity_url": url}],
    }
    await alice.put_state(room, "m.room.third_party_invite", content, key="token")
    return room


def signed(user: User, token: str = "token") -> dict[str, Any]:
    return sign_json({"mxid": user.user_id, "token": token, "sender": "x"}, "identity.example", IDENTITY)


async def told(server: Server, user: User, alice: User, room: str, **more: Any) -> None:
    """The identity server tells the user's server."""
    invite = {
        "medium": "email",
        "address": "b@example.org",
        "mxid": user.user_id,
        "room_id": room,
        "sender": alice.user_id,
        "signed": signed(user),
        **more,
    }
    assert server.app is not None
    body = {"medium": "email", "address": "b@example.org", "mxid": user.user_id, "invites": [invite]}
    service = server.app.features.handshakes._third_party
    await service.bound(msgspec.convert(body, Bound))


@pytest.mark.parametrize("far", [False, True])
async def test_who_has_the_address_is_invited(federation: Federation, far: bool) -> None:
    here = await federation.start()
    there = await federation.start() if far else here
    alice, bob = await here.register("alice"), await there.register("bob")
    identity = await identity_server(federation)
    room = await room_with_invite_by_address(alice, identity)
    await told(there, bob, alice, room)
    assert (await alice.members(room))[bob.user_id] == "invite"
    member = await alice.state(room, "m.room.member", bob.user_id)
    assert member["third_party_invite"]["display_name"] == "b…@example.org"
    assert room in (await bob.sync())["rooms"]["invite"]
    await bob.join(room)
    assert (await alice.members(room))[bob.user_id] == "join"
    (asked,) = identity.requests("GET", "/valid")
    assert asked.query["public_key"] == base64.encode(IDENTITY.public_key)


@pytest.mark.parametrize("far", [False, True])
async def test_what_nobody_has_signed_invites_nobody(federation: Federation, far: bool) -> None:
    here = await federation.start()
    there = await federation.start() if far else here
    alice, bob = await here.register("alice"), await there.register("bob")
    identity = await identity_server(federation)
    room = await room_with_invite_by_address(alice, identity)
    forged = sign_json(
        {"mxid": bob.user_id, "token": "token"}, "identity.example", SigningKey(b"x" * 32, "0")
    )
    await told(there, bob, alice, room, signed=forged)
    await told(there, bob, alice, room, signed=signed(bob, "another"))
    await told(there, bob, alice, room, signed=signed(alice))
    assert bob.user_id not in await alice.members(room)


REFUSED: dict[str, Any] = {
    "revoked": {"valid": False},
    "no answer": status(404, {"errcode": "M_NOT_FOUND", "error": ""}),
    "no JSON": b"<html>",
    "not said": {"valid": "yes"},
}


@pytest.mark.parametrize("said", REFUSED)
@pytest.mark.parametrize("far", [False, True])
async def test_a_key_that_does_not_count_any_more_invites_nobody(
    federation: Federation, said: str, far: bool
) -> None:
    """3PI-02, FED-41: `key_validity_url` is asked by whoever makes the invite."""
    here = await federation.start()
    there = await federation.start() if far else here
    alice, bob = await here.register("alice"), await there.register("bob")
    identity = await identity_server(federation, REFUSED[said])
    room = await room_with_invite_by_address(alice, identity)
    await told(there, bob, alice, room)
    assert bob.user_id not in await alice.members(room)
    assert len(identity.requests("GET", "/valid")) == 1
