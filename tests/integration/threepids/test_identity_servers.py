"""Identity servers, as this server asks them: IS-01, IS-02, IS-03, AUTH-31, 3PI-01."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from federation.x_matrix import parse, signed_bytes
from homeserver.matrix import canonical_json
from homeserver.matrix.signing import verify_bytes
from tests.conftest import StartServer
from tests.support.certificates import self_signed
from tests.support.identity_server import TOKEN, V2, IdentityService, identity_service
from tests.support.server import Server

LOOPBACK = ["127.0.0.0/8", "::1/128"]
NOT_TRUSTED = (400, "M_SERVER_NOT_TRUSTED")


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[IdentityService]:
    _, tls = self_signed(tmp_path, dns=["localhost"])
    async with identity_service(tls) as service:
        yield service


async def trusting(start_server: StartServer, book: IdentityService, folder: Path, **more: Any) -> Server:
    """A server that trusts it."""
    return await start_server(
        identity={"trusted_servers": [book.name]},
        outbound={"extra_ca_files": [folder / "localhost.pem"], "allow_private": {"identity": LOOPBACK}},
        **more,
    )


def named(book: IdentityService, address: str = "bob@example.org") -> dict[str, str]:
    return {"id_server": book.name, "id_access_token": TOKEN, "medium": "email", "address": address}


async def test_3pi_01_who_is_known_is_invited_and_for_others_an_invite_is_kept(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    server = await trusting(start_server, book, tmp_path)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(name="Garden")
    book.bound["email", "bob@example.org"] = bob.user_id
    await alice.post("/rooms/{}/invite", room, json=named(book, "Bob@example.org"))
    assert list((await bob.get("/sync"))["rooms"]["invite"]) == [room]
    assert [path for path, _ in book.asked] == ["/hash_details", "/lookup"], "by hash alone"

    await alice.post("/rooms/{}/invite", room, json=named(book, "carol@example.org"))
    (kept,) = book.kept
    assert (kept["medium"], kept["address"], kept["room_id"]) == ("email", "carol@example.org", room)
    assert (kept["sender"], kept["room_name"]) == (alice.user_id, "Garden")
    content = await alice.get("/rooms/{}/state/m.room.third_party_invite/{}", room, "invite1")
    assert content["display_name"] == "b...@e..."
    assert content["public_key"] == "aGVsbG8"
    assert [each["public_key"] for each in content["public_keys"]] == ["aGVsbG8", "d29ybGQ"]
    assert content["key_validity_url"] == f"https://{book.name}{V2}/pubkey/isvalid"

    # With a new room, too.
    other = await alice.create_room(invite_3pid=[named(book), named(book, "dave@example.org")])
    assert other in (await bob.get("/sync"))["rooms"]["invite"]
    assert len(book.kept) == 2


async def test_mod_04_who_wants_no_invites_gets_none_by_address_either(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    server = await trusting(start_server, book, tmp_path)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    block = {"default_action": "block"}
    await bob.put("/user/{}/account_data/m.invite_permission_config", bob.user_id, json=block)
    book.bound["email", "bob@example.org"] = bob.user_id
    await alice.post("/rooms/{}/invite", room, json=named(book), expect=(403, "M_INVITE_BLOCKED"))


async def test_who_may_not_invite_has_nobody_written_to(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    server = await trusting(start_server, book, tmp_path)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", power_level_content_override={"invite": 50})
    await bob.post("/rooms/{}/invite", room, json=named(book), expect=(403, "M_FORBIDDEN"))
    await bob.join(room)
    await bob.post("/rooms/{}/invite", room, json=named(book), expect=(403, "M_FORBIDDEN"))
    assert book.asked == []
    wish = {**named(book), "id_server": "elsewhere.example"}
    await alice.post("/rooms/{}/invite", room, json=wish, expect=NOT_TRUSTED)
    await alice.post("/createRoom", json={"invite_3pid": [wish]}, expect=NOT_TRUSTED)
    del wish["medium"]
    await alice.post("/rooms/{}/invite", room, json=wish, expect=(400, "M_MISSING_PARAM"))
    many = [named(book)] * 21
    await alice.post("/createRoom", json={"invite_3pid": many}, expect=(400, "M_INVALID_PARAM"))
    # What the identity server says is passed on; where it is ill, that is said.
    book.refuse["/hash_details"] = 403, {"errcode": "M_TERMS_NOT_SIGNED", "error": "sign"}
    await alice.post("/rooms/{}/invite", room, json=named(book), expect=(403, "M_TERMS_NOT_SIGNED"))
    for status, said in ((500, {}), (200, {"algorithms": 1}), (302, {})):
        book.refuse["/hash_details"] = status, said
        await alice.post("/rooms/{}/invite", room, json=named(book), expect=502)


async def test_is_02_and_is_03_binding_with_the_clients_token_and_unbinding_with_a_signature(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    server = await trusting(start_server, book, tmp_path)
    alice = await server.register("alice")
    book.sessions["s1"] = ("secret", "email", "alice@example.org")
    wish = {"sid": "s1", "client_secret": "secret", "id_server": book.name, "id_access_token": TOKEN}
    assert await alice.post("/account/3pid/bind", json=wish) == {}
    assert book.bound == {("email", "alice@example.org"): alice.user_id}
    assert book.asked == [("/3pid/bind", f"Bearer {TOKEN}")]
    refused = {**wish, "id_access_token": "another"}
    await alice.post("/account/3pid/bind", json=refused, expect=(403, "M_UNAUTHORIZED"))
    book.refuse["/3pid/bind"] = 400, {"errcode": "M_SESSION_EXPIRED", "error": "too late"}
    await alice.post("/account/3pid/bind", json=wish, expect=(400, "M_SESSION_EXPIRED"))
    elsewhere = {**wish, "id_server": "elsewhere.example"}
    await alice.post("/account/3pid/bind", json=elsewhere, expect=NOT_TRUSTED)

    # It is remembered where it was bound.
    address = {"medium": "email", "address": "alice@example.org"}
    book.refuse["/3pid/unbind"] = 501, {}
    unbind = "/account/3pid/unbind"
    assert await alice.post(unbind, json=address) == {"id_server_unbind_result": "no-support"}
    del book.refuse["/3pid/unbind"]
    assert await alice.post(unbind, json=address) == {"id_server_unbind_result": "success"}
    assert book.bound == {}
    assert await alice.post(unbind, json=address) == {"id_server_unbind_result": "no-support"}
    path, header = book.asked[-1]
    assert path == "/3pid/unbind"
    signed = parse(header)
    assert (signed.origin, signed.destination) == (server.name, book.name)
    body = canonical_json.encode({"mxid": alice.user_id, "threepid": address})
    key = server.app.core.identity.key
    said = signed_bytes("POST", V2 + path, server.name, book.name, body)
    verify_bytes(said, signed.signature, signed.key_id, key.public_key)


async def test_an_account_that_ends_is_unbound(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    """AUTH-29."""
    server = await trusting(start_server, book, tmp_path)
    alice = await server.register("alice")
    book.sessions["s1"] = ("secret", "email", "alice@example.org")
    wish = {"sid": "s1", "client_secret": "secret", "id_server": book.name, "id_access_token": TOKEN}
    await alice.post("/account/3pid/bind", json=wish)
    identifier = {"type": "m.id.user", "user": alice.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": alice.password}
    await alice.post("/account/deactivate", json={"auth": auth})
    assert book.bound == {}


async def test_private_addresses_are_not_asked(
    start_server: StartServer, book: IdentityService, tmp_path: Path
) -> None:
    """Trusted by name is not trusted to lead into the house."""
    server = await start_server(
        identity={"trusted_servers": [book.name]},
        outbound={"extra_ca_files": [tmp_path / "localhost.pem"], "allow_private": {"identity": []}},
    )
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.post("/rooms/{}/invite", room, json=named(book), expect=502)
    assert book.asked == []


async def test_without_a_trusted_server_nobody_is_asked(start_server: StartServer) -> None:
    server = await start_server()
    alice = await server.register("alice")
    room = await alice.create_room()
    wish = {"id_server": "x.example", "id_access_token": "t", "medium": "email", "address": "a@b.example"}
    await alice.post("/rooms/{}/invite", room, json=wish, expect=NOT_TRUSTED)
