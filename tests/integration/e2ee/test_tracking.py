"""Who hears of whose devices: CHECKLIST E2E-11 to E2E-13, SYNC-19, DEV-01."""

import pytest

from homeserver.e2ee import store
from homeserver.sync.log_slices import LogSlices
from tests.support.background import log_is_read
from tests.support.crypto import (
    ONE_TIME,
    DeviceCrypto,
    Identity,
    changed_in,
    claim,
    in_encrypted_room,
    left_in,
    query,
)
from tests.support.server import PASSWORD, Server
from tests.support.user import User
from tests.support.waiting import until


async def changes(user: User, since: str, upto: str) -> tuple[set[str], set[str]]:
    """What /keys/changes says."""
    answer = await user.get("/keys/changes", params={"from": since, "to": upto})
    return set(answer["changed"]), set(answer["left"])


async def sees(user: User, changed: set[User] | None = None, left: set[User] | None = None) -> None:
    """The next sync tells just this, and /keys/changes tells the same between its tokens (E2E-12)."""
    since = user.since
    assert since is not None
    reply = await user.sync()
    expected = {u.user_id for u in changed or ()}, {u.user_id for u in left or ()}
    assert (changed_in(reply), left_in(reply)) == expected
    assert await changes(user, since, reply["next_batch"]) == expected


# Users are compared as dataclasses and so cannot be in sets unless told how.
User.__hash__ = lambda self: hash(self.user_id)  # type: ignore[method-assign]


async def test_sharers_hear_of_new_device_keys_and_nobody_else_does(server: Server) -> None:
    """E2E-11, E2E-12."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    await in_encrypted_room(alice, bob)
    for user in (alice, bob, carol):
        await user.sync()
    await DeviceCrypto(alice).upload()
    await sees(alice, {alice})
    await sees(bob, {alice})
    await sees(carol)
    await DeviceCrypto(alice).upload(5, keys=False)
    await sees(bob)


async def test_an_initial_sync_says_nothing_of_device_lists(server: Server) -> None:
    """SYNC-19."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    await DeviceCrypto(bob).upload()
    assert "device_lists" not in await alice.sync(since=None)


async def test_cross_signing_keys_and_names_are_changes_too(server: Server) -> None:
    """E2E-11."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    await DeviceCrypto(alice).upload()
    await bob.sync()
    await Identity(alice).upload()
    await sees(bob, {alice})
    await alice.put("/devices/{}", alice.device_id, json={"display_name": "New"})
    await sees(bob, {alice})


async def test_whoever_begins_to_share_an_encrypted_room_is_news(server: Server) -> None:
    """E2E-11: on both sides; in a room that is not encrypted nothing."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await in_encrypted_room(alice)
    plain = await alice.create_room(preset="public_chat")
    for user in (alice, bob, carol):
        await user.sync()
    await carol.join(plain)
    await sees(alice)
    await sees(carol)
    await bob.join(room)
    await sees(alice, {bob})
    await sees(bob, {alice})
    await sees(carol)


async def test_a_room_that_becomes_encrypted_makes_sharers_of_its_members(server: Server) -> None:
    """E2E-11."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await alice.sync()
    await bob.sync()
    await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await sees(alice, {bob})
    await sees(bob, {alice})


async def test_left_names_those_with_whom_no_encrypted_room_is_shared_any_more(server: Server) -> None:
    """E2E-11."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    first = await in_encrypted_room(alice, bob, carol)
    second = await in_encrypted_room(alice, bob)
    for user in (alice, bob, carol):
        await user.sync()
    await bob.leave(first)
    await sees(alice)
    await sees(carol, left={bob})
    await sees(bob, left={carol})
    await alice.kick(second, bob)
    await sees(alice, left={bob})
    await sees(bob, left={alice})


async def test_the_same_is_told_to_a_client_that_was_away_for_long(
    fresh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-11, E2E-12: read from the database, where memory does not reach."""
    server = fresh_server
    alice, bob, carol, dave = [await server.register(name) for name in ("alice", "bob", "carol", "dave")]
    room = await in_encrypted_room(alice, carol)
    other = await in_encrypted_room(dave)
    await alice.sync()
    await bob.join(room)
    await carol.leave(room)
    await DeviceCrypto(bob).upload()
    await DeviceCrypto(dave).upload()
    await alice.join(other)
    await carol.join(other)  # whom alice shared an encrypted room with before, so that she is no news
    content = {"membership": "join", "displayname": "Alice"}
    await alice.put_state(room, "m.room.member", content, alice.user_id)
    monkeypatch.setattr(LogSlices, "between", lambda *_: None)
    await sees(alice, {bob, dave})


BACKGROUND = ("jobs", "log_cursors", "log_readers", "periodic_work")  # written whenever their time has come


async def rows_of_all_tables(server: Server) -> dict[str, int]:
    """Of the tables that requests write."""
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        names = await tx.column("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        asked = [name for name in names if name not in BACKGROUND]
        return {name: await tx.value(f"SELECT count(*) FROM {name}") for name in asked}  # type: ignore[arg-type]


async def test_a_change_of_a_device_is_two_rows_in_however_many_rooms(fresh_server: Server) -> None:
    """E2E-11: no storm where somebody has many devices and is in many rooms; each of their people hears of it."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    devices = [alice, *[await alice.new_device() for _ in range(9)]]
    cryptos = [DeviceCrypto(device) for device in devices]
    for crypto in cryptos:
        await crypto.upload()
    for rooms in (1, 20):
        for _ in range(rooms):
            await in_encrypted_room(alice, bob)
        await bob.sync()
        await until(lambda: log_is_read(server))
        before = await rows_of_all_tables(server)
        keys = cryptos[-1].device_keys(**{"org.example.rooms": rooms})
        await devices[-1].post("/keys/upload", json={"device_keys": keys})
        after = await rows_of_all_tables(server)
        more = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        assert more == {"device_list_changes": 1, "log_feed": 1}
        assert changed_in(await bob.sync()) == {alice.user_id}


async def test_of_old_changes_the_last_of_each_user_is_kept(
    fresh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-11, E2E-12: whoever was away for however long hears of it."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    await bob.sync()
    monkeypatch.setattr(store, "KEPT_POSITIONS", 2)
    for _ in range(10):
        await DeviceCrypto(alice).upload()
    assert (await rows_of_all_tables(server))["device_list_changes"] <= 3
    await DeviceCrypto(bob).upload()
    monkeypatch.setattr(LogSlices, "between", lambda *_: None)  # not from memory
    await sees(bob, {alice, bob})


@pytest.mark.parametrize("memory", [True, False])
async def test_who_was_never_in_is_not_gone(
    server: Server, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    """E2E-11: neither by an invite, nor by turning it down, nor by a ban of who was not there."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await in_encrypted_room(alice)
    for user in (alice, bob):
        await user.sync()
    if not memory:
        monkeypatch.setattr(LogSlices, "between", lambda *_: None)
    for act in (alice.invite(room, bob), bob.leave(room), alice.ban(room, bob), alice.unban(room, bob)):
        await act
        await sees(alice)
        await sees(bob)
    await alice.invite(room, bob)
    await carol.join(room)
    await bob.leave(room)
    await sees(alice, {carol})
    await sees(bob)


@pytest.mark.parametrize("memory", [True, False])
async def test_who_comes_and_goes_between_two_syncs_is_no_news(
    server: Server, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    """E2E-11: on both sides; nor who goes and comes back, nor another room with the same people."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await in_encrypted_room(alice, carol)
    for user in (alice, bob, carol):
        await user.sync()
    if not memory:
        monkeypatch.setattr(LogSlices, "between", lambda *_: None)
    await bob.join(room)
    await bob.leave(room)
    await carol.leave(room)
    await carol.join(room)
    await in_encrypted_room(alice, carol)
    for user in (alice, bob, carol):
        await sees(user)


async def test_a_new_name_in_a_room_is_no_change_of_devices(server: Server) -> None:
    """E2E-11: no storm of queries because somebody changes their picture."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await in_encrypted_room(alice, bob)
    await alice.sync()
    content = {"membership": "join", "displayname": "Robert"}
    await bob.put_state(room, "m.room.member", content, bob.user_id)
    await sees(alice)


async def test_logging_out_ends_keys_and_tells_sharers(server: Server) -> None:
    """E2E-13."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    phone = await alice.new_device("PHONE")
    await DeviceCrypto(phone).upload(5, fallback=True)
    assert (await phone.sync())["device_one_time_keys_count"] == {ONE_TIME: 5}
    await bob.sync()
    await phone.logout()
    await sees(bob, {alice})
    assert (await query(bob, alice))["device_keys"] == {alice.user_id: {}}
    assert await claim(bob, alice, "PHONE") is None
    again = await alice.new_device("PHONE")
    reply = await again.sync()
    assert reply["device_one_time_keys_count"].get(ONE_TIME, 0) == 0
    assert reply["device_unused_fallback_key_types"] == []


async def test_devices_deleted_in_bulk_end_with_one_change(server: Server) -> None:
    """E2E-13, DEV-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    phones = [await alice.new_device() for _ in range(3)]
    for phone in phones:
        await DeviceCrypto(phone).upload(1)
    kept = (await DeviceCrypto(alice).upload())["device_keys"]
    await bob.sync()
    ids = [phone.device_id for phone in phones]
    question = await alice.post("/delete_devices", json={"devices": ids}, expect=401)
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
        "session": question["session"],
    }
    await alice.post("/delete_devices", json={"devices": ids, "auth": auth})
    await sees(bob, {alice})
    assert (await query(bob, alice))["device_keys"] == {alice.user_id: {alice.device_id: kept}}


async def test_tokens_that_are_none_are_refused(server: Server) -> None:
    """E2E-12."""
    alice = await server.register("alice")
    token = (await alice.sync())["next_batch"]
    for since, upto in (("x", token), (token, "x"), ("s1\0", token)):
        params = {"from": since, "to": upto}
        await alice.get("/keys/changes", params=params, expect=(400, "M_INVALID_PARAM"))
    assert await changes(alice, token, "s0") == (set(), set())
