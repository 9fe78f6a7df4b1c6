"""Devices and keys asked for by other servers, and asked of them: queries, claims, and lists that are kept."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from federation.devices.following import RESYNC
from federation.devices.introductions import IntroductionEntry
from federation.devices.sharing import Move, Sharing
from homeserver.log.readers.types import Item
from homeserver.matrix.ids import RoomId
from homeserver.rooms.memberships import Memberships, UserRooms
from homeserver.runtime.cache import MemoryBudget
from tests.integration.federation.test_outbound_to_another import join_from
from tests.support.crypto import ONE_TIME, DeviceCrypto, Identity
from tests.support.federation import Federation
from tests.support.outbound import until
from tests.support.remote_members import take_part
from tests.support.remote_room import RemoteRoom
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server
from tests.support.unread import looked_at
from tests.support.user import User
from tests.support.waiting import until as eventually

USER = "/_matrix/federation/v1/user"
PUBLIC: dict[str, Any] = {"preset": "public_chat", "room_version": "11"}


class Person:
    """What a test has to know of somebody with a device elsewhere."""

    def __init__(self, remote: RemoteServer, name: str, device_id: str = "DEV") -> None:
        self.user_id = str(remote.user(name))
        self.device_id = device_id
        self.crypto = DeviceCrypto(self, device_id)  # type: ignore[arg-type]  # has all that is asked for

    def keys(self, **more: Any) -> dict[str, Any]:
        return self.crypto.device_keys(**more)


async def upload(user: User) -> DeviceCrypto:
    crypto = DeviceCrypto(user)
    await crypto.upload(2)
    return crypto


def serve_keys(remote: RemoteServer, *people: Person, signing: dict[str, Any] | None = None) -> None:
    """The remote server answers queries for these people."""
    keys = {person.user_id: {person.device_id: person.keys()} for person in people}
    remote.answers("POST", f"{USER}/keys/query", {"device_keys": keys, **(signing or {})})


async def query(user: User, *users: str, timeout: int = 10_000) -> Any:
    return await user.post(
        "/keys/query", json={"device_keys": {key: [] for key in users}, "timeout": timeout}
    )


async def test_keys_of_our_users_are_served(federation: Federation) -> None:
    """FED-32, E2E-05, E2E-06: of local users alone, without the user-signing key; claims obey E2E-03."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    crypto = await upload(alice)
    signing = Identity(alice)
    await signing.upload()
    stranger = str(remote.user("bob"))
    asked = {"device_keys": {alice.user_id: [], stranger: [], f"@nobody:{here.name}": []}}
    code, answer = await remote.ask(here, "POST", f"{USER}/keys/query", asked)
    assert code == 200
    assert set(answer) == {"device_keys", "master_keys", "self_signing_keys"}
    assert set(answer["device_keys"]) == {alice.user_id, f"@nobody:{here.name}"}
    told = answer["device_keys"][alice.user_id][alice.device_id]
    assert told["keys"] == crypto.device_keys()["keys"]
    assert set(answer["master_keys"]) == set(answer["self_signing_keys"]) == {alice.user_id}
    code, answer = await remote.ask(here, "GET", f"{USER}/devices/{alice.user_id}")
    assert code == 200
    assert answer["user_id"] == alice.user_id
    assert answer["stream_id"] > 0
    assert [device["device_id"] for device in answer["devices"]] == [alice.device_id]
    assert "unsigned" not in answer["devices"][0]["keys"]
    assert answer["master_key"]["user_id"] == alice.user_id
    assert "user_signing_key" not in answer
    for user in (stranger, f"@nobody:{here.name}"):
        assert (await remote.ask(here, "GET", f"{USER}/devices/{user}"))[0] == 404
    claim = {"one_time_keys": {alice.user_id: {alice.device_id: ONE_TIME}, stranger: {"X": ONE_TIME}}}
    seen = []
    for _ in range(3):
        code, answer = await remote.ask(here, "POST", f"{USER}/keys/claim", claim)
        assert code == 200
        seen += list(answer["one_time_keys"].get(alice.user_id, {}).get(alice.device_id, {}))
        assert stranger not in answer["one_time_keys"]
    assert len(seen) == len(set(seen)) == 2
    many = {"device_keys": {f"@u{number}:{here.name}": [] for number in range(5_001)}}
    assert (await remote.ask(here, "POST", f"{USER}/keys/query", many))[0] == 400


async def test_a_list_is_kept_while_a_room_is_shared(federation: Federation) -> None:
    """E2E-05, FED-31: the second query needs no request; a change that follows is applied, one that does not is fetched."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    bob = Person(remote, "bob")
    room = await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
    await looked_at(here)  # what was kept of bob's devices is doubtful once that is seen
    serve_keys(remote, bob)
    for _ in range(3):
        answer = await query(alice, bob.user_id)
        assert answer["device_keys"][bob.user_id] == {"DEV": bob.keys()}
        assert not answer["failures"]
    assert len(remote.requests("POST", f"{USER}/keys/query")) == 1
    # A change whose version nobody knows: the list is fetched.
    second = Person(remote, "bob", "TWO")
    listed = [{"device_id": "DEV", "keys": bob.keys()}, {"device_id": "TWO", "keys": second.keys()}]
    remote.answers("GET", f"{USER}/devices/*", {"user_id": bob.user_id, "stream_id": 7, "devices": listed})
    serve_keys(remote)
    since = (await alice.sync())["next_batch"]
    await room.send(edus=[update(bob, 7, [6])])
    await until(lambda: len(remote.requests("GET", f"{USER}/devices/*")) == 1)
    await fetched(here)  # a query that comes before would ask the server, too
    assert bob.user_id in (await changed(alice, since))["changed"]
    await until_devices(alice, bob.user_id, {"DEV", "TWO"})
    # What follows needs no request; the same again changes nothing.
    asked = len(remote.asked)
    third = Person(remote, "bob", "THREE")
    for _ in range(2):
        await room.send(edus=[update(third, 8, [7], device_display_name="Third")])
    await room.send(edus=[{**update(bob, 9, [8], deleted=True)}])
    answer = (await query(alice, bob.user_id))["device_keys"][bob.user_id]
    assert set(answer) == {"TWO", "THREE"}
    assert answer["THREE"]["unsigned"] == {"device_display_name": "Third"}
    assert len(remote.asked) == asked


async def test_what_was_missed_while_no_room_was_shared_is_asked_for(federation: Federation) -> None:
    """FED-31: sharing has ended and begun: changes between were not told to us."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    bob = Person(remote, "bob")
    room = await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
    serve_keys(remote, bob)
    await query(alice, bob.user_id)
    for membership in ("leave", "join"):
        event = room.says("bob", "m.room.member", {"membership": membership}, state_key=bob.user_id)
        await room.send(event)
        await room.arrives(event)
        fresh = Person(remote, "bob", membership)
        serve_keys(remote, fresh)
        await until_devices(alice, bob.user_id, {membership})


async def test_servers_are_asked_at_once_and_those_that_fail_are_named(federation: Federation) -> None:
    """E2E-05: a server that hangs, one that is away and one that answers nonsense delay nobody beyond `timeout`."""
    here = await federation.start()
    good, hanging, broken = [await federation.remote(key) for key in ("a_1", "a_2", "a_3")]
    alice = await here.register("alice")
    bob = Person(good, "bob")
    serve_keys(good, bob)

    async def hang(_: Asked) -> Any:
        await asyncio.sleep(120)
        return {}

    hanging.answers("POST", f"{USER}/keys/*", hang)
    broken.answers("POST", f"{USER}/keys/*", status(500, b"<html>"))
    others = [f"@x:{server}" for server in (hanging.name, broken.name, "localhost:1")]
    began = asyncio.get_running_loop().time()
    answer = await query(alice, bob.user_id, alice.user_id, *others, timeout=1_500)
    assert asyncio.get_running_loop().time() - began < 30
    assert set(answer["failures"]) == {hanging.name, broken.name, "localhost:1"}
    assert set(answer["device_keys"]) == {bob.user_id, alice.user_id}
    key = {f"{ONE_TIME}:AAA": {"key": "x", "signatures": {}}}
    claimed = {bob.user_id: {"DEV": key, "OTHER": key}, alice.user_id: {"D": key}}
    good.answers("POST", f"{USER}/keys/claim", {"one_time_keys": claimed})
    wish = {user: {"DEV": ONE_TIME} for user in (bob.user_id, *others)}
    reply = await alice.post("/keys/claim", json={"one_time_keys": wish, "timeout": 1_500})
    assert reply["one_time_keys"] == {bob.user_id: {"DEV": key}}
    assert set(reply["failures"]) == {hanging.name, broken.name, "localhost:1"}


async def test_what_a_server_makes_up_is_not_shown(federation: Federation) -> None:
    """E2E-06: keys of other users and devices, signatures of others, keys that are none."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    await upload(alice)
    bob = Person(remote, "bob")
    await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
    good = bob.keys()
    good["signatures"][alice.user_id] = {"ed25519:X": "forged"}
    devices = {
        "DEV": good,
        "OTHER": bob.keys(),
        "X\0": {**bob.keys(), "device_id": "X\0"},
        "none": 5,
        "odd": {**bob.keys(), "device_id": "odd", "algorithms": 5},
    }
    master = {"user_id": bob.user_id, "usage": ["master"], "keys": {"ed25519:short": "short"}}
    remote.answers(
        "POST",
        f"{USER}/keys/query",
        {
            "device_keys": {bob.user_id: devices, alice.user_id: {"Y": bob.keys()}},
            "master_keys": {bob.user_id: master, alice.user_id: master},
            "user_signing_keys": {bob.user_id: master},
        },
    )
    for _ in range(2):
        answer = await query(alice, bob.user_id, alice.user_id)
        assert answer["device_keys"][bob.user_id] == {"DEV": bob.keys()}
        assert set(answer["device_keys"][alice.user_id]) == {alice.device_id}
        assert answer["master_keys"] == answer["user_signing_keys"] == {}


async def test_edus_of_users_of_others_and_floods_change_nothing(federation: Federation) -> None:
    """FED-29, FED-30: users of other domains are refused; of a flood little is written and nothing wrong is shown."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    bob = Person(remote, "bob")
    room = await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
    serve_keys(remote, bob)
    await query(alice, bob.user_id)
    core = here.app.core  # type: ignore[union-attr]
    await core.tail.fresh()
    before = core.tail.position
    odd: list[Any] = [
        {"user_id": alice.user_id},
        {"user_id": "@x:else"},
        {"stream_id": "5"},
        {"prev_id": [1.5]},
        {"prev_id": "5"},
        {"device_id": None},
        {"device_id": "\0"},
    ]
    await room.send(
        edus=[{**update(bob, 5, [4]), "content": {**update(bob, 5, [4])["content"], **e}} for e in odd]
    )
    for kind in ("m.signing_key_update", "org.matrix.signing_key_update"):
        key = {"user_id": bob.user_id, "usage": ["master"], "keys": {"ed25519:x": "x"}}
        contents = [{"user_id": alice.user_id}, {"user_id": bob.user_id, "master_key": key}]
        await room.send(edus=[{"edu_type": kind, "content": content} for content in contents])
    await core.tail.fresh()
    # That alice's devices are told to bob's server may be noted meanwhile.
    assert [
        each.entry for each in core.tail.since(before) if not isinstance(each.entry, IntroductionEntry)
    ] == []
    for first in range(0, 400, 100):
        await room.send(edus=[update(bob, number, [number - 1]) for number in range(first + 10, first + 110)])
    await core.tail.fresh()
    assert core.tail.position - before < 100
    assert set((await query(alice, bob.user_id))["device_keys"][bob.user_id]) == {"DEV"}


async def test_two_servers_tell_each_other_of_devices_and_keys(federation: Federation) -> None:
    """FED-30, FED-33, E2E-11, E2E-19: new and deleted devices and cross-signing keys come by EDUs; a query needs no request."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    await upload(alice)
    room = await alice.create_room(**PUBLIC)
    await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await join_from(there, bob.user_id, here, room)
    since = (await bob.sync())["next_batch"]
    assert set((await query(bob, alice.user_id))["device_keys"][alice.user_id]) == {alice.device_id}
    second = await alice.new_device()
    await upload(second)
    assert alice.user_id in (await changed(bob, since))["changed"]
    await until_devices(bob, alice.user_id, {alice.device_id, second.device_id})
    since = (await bob.sync())["next_batch"]
    signing = Identity(alice)
    await signing.upload()
    assert alice.user_id in (await changed(bob, since))["changed"]
    answer = await query(bob, alice.user_id)
    assert answer["master_keys"][alice.user_id]["keys"] == signing.key("master")["keys"]
    assert alice.user_id not in answer["user_signing_keys"]
    since = (await bob.sync())["next_batch"]
    await second.logout()
    assert alice.user_id in (await changed(bob, since))["changed"]
    await until_devices(bob, alice.user_id, {alice.device_id})


async def test_a_user_who_joins_is_introduced_to_servers_that_are_new(federation: Federation) -> None:
    """FED-30: once, and not again for another room with the same server."""
    here, remote = await federation.start(), await federation.remote()
    remote.answers("PUT", "/_matrix/federation/v1/send/*", {"pdus": {}})
    alice, carol = await here.register("alice"), await here.register("carol")
    crypto = await upload(carol)
    await Identity(carol).upload()
    rooms = [await alice.create_room(**PUBLIC) for _ in range(2)]
    for room in rooms:
        await RemoteRoom.join(here, remote, room, "bob")

    def told(edu_type: str) -> list[Any]:
        sent = [asked.json for asked in remote.requests("PUT", "/_matrix/federation/v1/send/*")]
        edus = [edu for body in sent for edu in body["edus"] if edu["edu_type"] == edu_type]
        return [edu["content"] for edu in edus if edu["content"]["user_id"] == carol.user_id]

    assert not told("m.device_list_update")
    await carol.join(rooms[0])
    await until(lambda: bool(told("m.signing_key_update")))
    (content,) = told("m.device_list_update")
    assert content["keys"]["keys"] == crypto.device_keys()["keys"]
    assert content["prev_id"] == []
    listed = (await remote.ask(here, "GET", f"{USER}/devices/{carol.user_id}"))[1]
    assert listed["stream_id"] == content["stream_id"]
    await carol.join(rooms[1])
    second = await carol.new_device()
    await upload(second)
    await until(lambda: len(told("m.device_list_update")) == 2)
    last = told("m.device_list_update")[-1]
    assert (last["device_id"], last["prev_id"]) == (second.device_id, [content["stream_id"]])


def update(person: Person, stream_id: int, prev: list[int], **more: Any) -> dict[str, Any]:
    content = {
        "user_id": person.user_id,
        "device_id": person.device_id,
        "stream_id": stream_id,
        "prev_id": prev,
        "keys": person.keys(),
        **more,
    }
    return {"edu_type": "m.device_list_update", "content": content}


async def changed(user: User, since: str) -> dict[str, Any]:
    """The next change of device lists."""
    for _ in range(120):
        answer = await user.sync(since=since, timeout=1_000)
        if "device_lists" in answer:
            return dict(answer["device_lists"])
        since = answer["next_batch"]
    raise AssertionError("nothing has changed")


async def fetched(here: Server) -> None:
    """Until no list is being fetched."""
    assert here.app is not None
    db = here.app.core.db

    async def done() -> bool:
        async with db.read() as tx:
            return not await tx.value("SELECT count(*) FROM jobs WHERE kind = %(kind)s", kind=RESYNC.name)

    await eventually(done, within=60)


async def until_devices(user: User, user_id: str, devices: set[str]) -> None:
    """Until a query tells just these."""
    answer: dict[str, Any] = {}
    for _ in range(600):
        answer = await query(user, user_id)
        if set(answer["device_keys"].get(user_id, {})) == devices:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(answer)


@pytest.mark.parametrize("told", [False, True])
async def test_what_people_call_their_devices(federation: Federation, told: bool) -> None:
    """FED-30, FED-32: other servers are told only where it is configured, whatever they ask."""
    here = await federation.start(federation={"device_names": told})
    remote = await federation.remote()
    remote.answers("PUT", "/_matrix/federation/v1/send/*", {"pdus": {}})
    alice = await here.register("alice", initial_device_display_name="In the kitchen")
    await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
    await upload(alice)
    _, keys = await remote.ask(
        here, "POST", f"{USER}/keys/query", {"device_keys": {alice.user_id: [alice.device_id]}}
    )
    _, devices = await remote.ask(here, "GET", f"{USER}/devices/{alice.user_id}")
    (device,) = keys["device_keys"][alice.user_id].values()
    assert device["keys"]
    assert device.get("unsigned") == ({"device_display_name": "In the kitchen"} if told else None)
    assert ("device_display_name" in devices["devices"][0]) == told

    def edus() -> list[Any]:
        sent = remote.requests("PUT", "/_matrix/federation/v1/send/*")
        return [
            edu for each in sent for edu in each.json["edus"] if edu["edu_type"] == "m.device_list_update"
        ]

    await until(edus)
    assert {("device_display_name" in edu["content"]) for edu in edus()} == {told}
    (own,) = (await query(alice, alice.user_id))["device_keys"][alice.user_id].values()
    assert own["unsigned"] == {"device_display_name": "In the kitchen"}


class CountedMemberships(Memberships):
    """One that knows nobody yet, and counts its queries."""

    asked = 0

    async def _load(self, user_nids: Sequence[int]) -> dict[int, UserRooms]:
        self.asked += 1
        return await super()._load(user_nids)


async def test_many_who_enter_rooms_are_looked_up_together(federation: Federation) -> None:
    """FED-30: rooms that no other server is in cost no query, others one for all who have entered them."""
    here, remote = await federation.start(), await federation.remote()
    users = [await here.register(f"user{number}") for number in range(6)]
    rooms = [await users[0].create_room(**PUBLIC) for _ in range(2)]
    for room in rooms:
        for user in users[1:]:
            await user.join(room)
    await take_part(here, remote, rooms[1], remote.user("bob"))
    assert here.app is not None
    core, features = here.app.core, here.app.features
    for room, queries in zip(rooms, (0, 1), strict=True):
        memberships = CountedMemberships(core.db, core.tail, MemoryBudget(1 << 24))
        sharing = Sharing(
            features.federation_devices.lists,
            core.rooms,
            core.interning,
            core.events,
            memberships,
            features.federation_devices._sharing._servers,
            core.log,
            core.server_name,
        )
        nid = (await core.rooms.known(RoomId(room))).name.nid
        await sharing.deliver("", [Item(1, Move(nid, [user.user_id])) for user in users])
        assert memberships.asked == queries
