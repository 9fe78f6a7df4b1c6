"""What of handshakes older and newer servers do in another way."""

import json
from typing import Any

import pytest

from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom
from tests.support.remote_server import Asked, RemoteServer, status

V1, V2 = "/_matrix/federation/v1/invite/*", "/_matrix/federation/v2/invite/*"


def takes_v1(remote: RemoteServer) -> None:
    """An older server: it signs what it is asked to sign, through the first version alone."""

    def signed(asked: Asked) -> Any:
        event = {key: value for key, value in asked.json.items() if key != "unsigned"}
        return json.dumps([200, {"event": remote.sign(event)}]).encode()

    remote.answers("PUT", V1, signed)


@pytest.mark.parametrize(
    ("version", "refusal", "falls_back"),
    [("1", 404, True), ("2", 400, True), ("1", 403, False), ("3", 404, False), ("11", 400, False)],
)
async def test_fed_26_the_first_version_of_invites_is_for_old_rooms_and_servers(
    federation: Federation, version: str, refusal: int, *, falls_back: bool
) -> None:
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    room = await alice.create_room(room_version=version)
    remote.answers("PUT", V2, lambda _: status(refusal, {"errcode": "M_UNRECOGNIZED", "error": "what?"}))
    takes_v1(remote)
    await alice.invite(room, remote.user("bob"), expect=200 if falls_back else None)
    assert bool(remote.requests("PUT", V1)) == falls_back
    assert ((await alice.members(room)).get(remote.user("bob")) == "invite") == falls_back


@pytest.mark.parametrize("what", ["send_join", "send_leave"])
async def test_fed_22_the_first_version_of_joining_and_leaving_is_gone(
    federation: Federation, what: str
) -> None:
    here, remote = await federation.start(), await federation.remote()
    uri = f"/_matrix/federation/v1/{what}/!room:{here.name}/$event"
    answered, error = await remote.ask(here, "PUT", uri, {})
    assert (answered, error["errcode"]) == (404, "M_UNRECOGNIZED")


async def test_fed_24_who_knocks_is_shown_what_is_signed(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    room = RemoteRoom(remote, "12", join_rule="knock")
    room.send("m.room.name", {"name": "Behind the door"}, "")
    room.serves()
    good = [dict(event.fields) for event in room.state.values()]
    forged = dict(room.draft("m.room.topic", {"topic": "signed"}, "").fields)
    forged["signatures"] = {remote.name: {"ed25519:a": "A" * 86}}
    remote.answers(
        "PUT", "/_matrix/federation/v1/send_knock/*", {"knock_room_state": [*good, forged, "nothing"]}
    )
    anna = await here.register("anna")
    await anna.post("/knock/{}", room.name, json={}, params={"via": [remote.name]})
    shown = (await anna.sync())["rooms"]["knock"][room.name]["knock_state"]["events"]
    kinds = [event["type"] for event in shown]
    assert {"m.room.create", "m.room.name", "m.room.join_rules"} <= set(kinds)
    assert "m.room.topic" not in kinds


@pytest.mark.parametrize("errcode", ["M_MISSING_PARAM", "M_INVALID_PARAM"])
async def test_fed_27_what_another_server_finds_missing_is_no_fault_of_the_client(
    federation: Federation, errcode: str
) -> None:
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    refusal = status(400, {"errcode": errcode, "error": "what you sent is not right"})
    remote.answers("PUT", V2, refusal)
    ours = await alice.create_room()
    await alice.invite(ours, remote.user("bob"), expect=502)
    assert remote.requests("PUT", V2)
    assert remote.user("bob") not in await alice.members(ours)

    room = RemoteRoom(remote, "12")
    room.serves()
    joining = "/_matrix/federation/v2/send_join/*"
    remote.answers("PUT", joining, refusal)
    await alice.join(room.name, via=[remote.name], expect=502)
    assert remote.requests("PUT", joining)
    assert room.name not in (await alice.sync(since=None)).get("rooms", {}).get("join", {})
