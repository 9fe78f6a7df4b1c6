"""What the server asks services: users, aliases, networks, whether they are there. CHECKLIST AS-15 to AS-18."""

from typing import Any

import pytest
from aiohttp import web

from tests.integration.appservices.conftest import Bridged, StartBridged
from tests.support.appservice import FakeService, Told
from tests.support.server import Server

NAMES = {
    "users": [{"regex": "@_irc_.*", "exclusive": True}],
    "aliases": [{"regex": "#_irc_.*", "exclusive": True}],
    "rooms": [],
}
PROTOCOL = {
    "user_fields": ["nickname"],
    "location_fields": ["channel"],
    "icon": "mxc://localhost/icon",
    "field_types": {"nickname": {"regexp": ".*", "placeholder": "bob"}},
    "instances": [{"network_id": "libera", "desc": "Libera", "fields": {"network": "libera.chat"}}],
}


class Maker(FakeService):
    """A service that makes users and aliases when it is asked for them."""

    server: Server | None = None
    room: str = ""

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.path
        assert self.server is not None
        if path.startswith("/_matrix/app/v1/users/@_irc_known"):
            await self.register(self.server.client, "_irc_known")
            return web.json_response({})
        if path.startswith("/_matrix/app/v1/rooms/#_irc_known"):
            body = {"room_id": self.room}
            alias = path.rpartition("/")[2]
            await self.server.client.put("/directory/room/{}", alias, json=body, token=self.as_token)
            return web.json_response({})
        return await super()._handle(request)


async def test_unknown_users_are_asked_for(start_bridged: StartBridged) -> None:
    """AS-15: when somebody looks at their profile, or invites them."""
    service = Maker(namespaces=NAMES)
    service.server = server = (await start_bridged(service)).server
    profile = await server.client.get("/profile/{}", "@_irc_known:localhost")
    assert profile == {"displayname": "_irc_known"}
    await server.client.get("/profile/{}", "@_irc_no:localhost", expect=(404, "M_NOT_FOUND"))
    await server.client.get("/profile/{}", "@_irc_no:localhost", expect=(404, "M_NOT_FOUND"))
    asked = [told for told in service.told if "/users/" in told.path and "v1" in told.path]
    assert len(asked) == 1  # a no holds for a while
    await server.client.get("/profile/{}", "@nobody:localhost", expect=(404, "M_NOT_FOUND"))
    assert all("nobody" not in told.path for told in service.told)


async def test_who_is_invited_is_made(start_bridged: StartBridged) -> None:
    """AS-15."""
    service = Maker(namespaces=NAMES)
    service.server = server = (await start_bridged(service)).server
    alice = await server.register("alice")
    room = await alice.create_room(invite=["@_irc_known:localhost"])
    assert (await alice.members(room))["@_irc_known:localhost"] == "invite"
    await server.client.get("/account/whoami", **service.as_user("@_irc_known:localhost"))


async def test_unknown_aliases_are_asked_for(start_bridged: StartBridged) -> None:
    """AS-15."""
    service = Maker(namespaces=NAMES)
    service.server = server = (await start_bridged(service)).server
    alice, bob = await server.register("alice"), await server.register("bob")
    service.room = await alice.create_room(preset="public_chat")
    assert (await bob.join("#_irc_known:localhost"))["room_id"] == service.room
    await bob.join("#_irc_no:localhost", expect=404)
    await bob.join("#no:localhost", expect=404)
    assert sum("/rooms/" in told.path and "v1" in told.path for told in service.told) == 1


async def test_who_does_not_answer_in_time_is_408(
    start_bridged: StartBridged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AS-15."""
    monkeypatch.setattr("appservices.queries.TIMEOUT", 0.3)

    service = FakeService(namespaces=NAMES, slow=1.0)
    server = (await start_bridged(service)).server
    await server.client.get("/profile/{}", "@_irc_x:localhost", expect=408)
    await server.client.get("/directory/room/{}", "#_irc_x:localhost", expect=408)


PING = "/_matrix/client/v1/appservice/{}/ping"


async def test_a_ping_comes_back(start_bridged: StartBridged) -> None:
    """AS-16: with the service's transaction id; only for itself."""
    bridged = await start_bridged(
        FakeService(),
        FakeService(id="other", sender="other"),
        FakeService(id="mute", sender="mute", options={"url": None}),
    )
    server, (bridge, other, mute) = bridged.server, bridged.services
    reply = await server.client.post(PING, "irc", json={"transaction_id": "t1"}, token=bridge.as_token)
    assert isinstance(reply["duration_ms"], int)
    assert bridge.told[-1].body == {"transaction_id": "t1"}
    old = "/_matrix/client/unstable/fi.mau.msc2659/appservice/{}/ping"
    await server.client.post(old, "irc", token=bridge.as_token)
    assert bridge.told[-1].body == {}
    await server.client.post(PING, "irc", token=other.as_token, expect=(403, "M_FORBIDDEN"))
    await server.client.post(PING, "unknown", token=other.as_token, expect=(403, "M_FORBIDDEN"))
    await server.client.post(PING, "mute", token=mute.as_token, expect=(400, "M_URL_NOT_SET"))
    alice = await server.register("alice")
    await alice.post(PING, "irc", expect=(403, "M_FORBIDDEN"))


async def test_a_ping_that_fails_says_how(bridged: Bridged, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-16."""
    server, bridge = bridged.server, bridged.bridge
    bridge.answer = lambda _: web.Response(status=401, text="wrong token")
    reply = await server.client.post(PING, "irc", token=bridge.as_token, expect=(502, "M_BAD_STATUS"))
    assert (reply["status"], reply["body"]) == (401, "wrong token")
    await bridge.stop()
    await server.client.post(PING, "irc", token=bridge.as_token, expect=(502, "M_CONNECTION_FAILED"))
    monkeypatch.setattr("appservices.api.TIMEOUT", 0.2)
    bridge.slow = 1.0
    await bridge.start()
    await server.client.post(PING, "irc", token=bridge.as_token, expect=(504, "M_CONNECTION_TIMEOUT"))


async def test_each_network_has_a_list_of_rooms(bridged: Bridged) -> None:
    """AS-17, DIR-04."""
    server, bridge = bridged.server, bridged.bridge
    alice = await server.register("alice")
    listed = await alice.create_room(visibility="public", name="own list")
    room = await alice.create_room(name="bridged")
    path = "/directory/list/appservice/{}/{}"
    body = {"visibility": "public"}
    await alice.put(path, "libera", room, json=body, expect=(403, "M_FORBIDDEN"))
    as_bridge = {"token": bridge.as_token}
    await server.client.put(path, "libera", room, json=body, **as_bridge)
    await server.client.put(path, "libera", listed, json=body, **as_bridge)

    async def rooms(**wanted: Any) -> set[str]:
        chunk = (await alice.post("/publicRooms", json=wanted))["chunk"]
        return {each["room_id"] for each in chunk}

    assert await rooms() == {listed}
    assert await rooms(third_party_instance_id="irc|libera") == {listed, room}
    assert await rooms(third_party_instance_id="irc|other") == set()
    assert await rooms(include_all_networks=True) == {listed, room}
    for each in (listed, room):
        await server.client.put(path, "libera", each, json={"visibility": "private"}, **as_bridge)
    assert await rooms(third_party_instance_id="irc|libera") == set()
    assert await rooms() == {listed}
    await server.client.put(
        path, "libera", "!none:localhost", json=body, expect=(404, "M_NOT_FOUND"), **as_bridge
    )


def speaks(told: Told) -> web.Response | None:
    """An IRC bridge's answers about its network."""
    if "/thirdparty/protocol/irc" in told.path:
        return web.json_response(PROTOCOL)
    if "/thirdparty/user" in told.path:
        found = {"userid": "@_irc_bob:localhost", "protocol": "irc", "fields": dict(told.query)}
        return web.json_response([found, {"userid": 5}])
    if "/thirdparty/location" in told.path:
        found = {"alias": "#_irc_chan:localhost", "protocol": "irc", "fields": dict(told.query)}
        return web.json_response([found])
    return None


async def test_networks_of_all_services_are_told_together(start_bridged: StartBridged) -> None:
    """AS-18, 3PN-01: what one does not answer, or answers badly, takes nothing away from the others."""
    options = {"protocols": ["irc"]}
    one = FakeService(id="one", sender="one", namespaces=NAMES, options=options, answer=speaks)
    two = FakeService(
        id="two",
        sender="two",
        namespaces={},
        options={"protocols": ["irc", "broken"]},
        answer=lambda told: speaks(told) if "protocol/irc" in told.path else web.Response(text="?"),
    )
    server = (await start_bridged(one, two)).server
    alice = await server.register("alice")
    base = "/thirdparty"
    protocols = await alice.get(base + "/protocols")
    assert list(protocols) == ["irc"]
    assert [each["instance_id"] for each in protocols["irc"]["instances"]] == ["one|libera", "two|libera"]
    assert (await alice.get(base + "/protocol/irc"))["user_fields"] == ["nickname"]
    await alice.get(base + "/protocol/broken", expect=(404, "M_NOT_FOUND"))
    await alice.get(base + "/protocol/none", expect=(404, "M_NOT_FOUND"))
    (user,) = await alice.get(base + "/user/irc", params={"nickname": "bob"})
    assert user["fields"] == {"nickname": "bob"}
    (place,) = await alice.get(base + "/location/irc", params={"channel": "#chan"})
    assert place["alias"] == "#_irc_chan:localhost"
    (reverse,) = await alice.get(base + "/user", params={"userid": "@_irc_bob:localhost"})
    assert reverse["protocol"] == "irc"
    (behind,) = await alice.get(base + "/location", params={"alias": "#_irc_chan:localhost"})
    assert behind["alias"] == "#_irc_chan:localhost"
    await alice.get(base + "/user", params={"userid": alice.user_id}, expect=(404, "M_NOT_FOUND"))
    asked = [told for service in (one, two) for told in service.told if "/protocol/irc" in told.path]
    assert len(asked) == 2  # what a service says of a protocol is remembered
