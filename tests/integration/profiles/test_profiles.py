"""Profiles: CHECKLIST USER-01, USER-02, USER-03 (the order given to rooms), USER-04, GUEST-01, CAP-03."""

import asyncio
from typing import Any

import pytest

from homeserver.matrix.ids import localpart_of
from homeserver.runtime.clock import FakeClock
from tests.support.identity import IdentityServer
from tests.support.waiting import until

FIELD = "/profile/{}/{}"


async def put(user: Any, key: str, value: Any, expect: Any = 200) -> Any:
    return await user.put(FIELD, user.user_id, key, json={key: value}, expect=expect)


def as_registered(user: Any) -> dict[str, Any]:
    """The profile of somebody who has changed nothing in it."""
    return {"displayname": localpart_of(user.user_id)}


async def test_a_new_user_is_called_by_the_local_part_until_they_say_otherwise(
    server: IdentityServer,
) -> None:
    alice = await server.register("alice")
    assert await server.client.get("/profile/{}", alice.user_id) == as_registered(alice)
    await alice.delete(FIELD, alice.user_id, "displayname")
    assert await server.client.get("/profile/{}", alice.user_id) == {}
    await server.client.get(FIELD, alice.user_id, "displayname", expect=(404, "M_NOT_FOUND"))


async def test_a_guest_has_no_name(server: IdentityServer) -> None:
    guest = await server.client.post("/register", params={"kind": "guest"}, json={})
    assert await server.client.get("/profile/{}", guest["user_id"]) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("displayname", "Alice 🦊 Wonderland"),
        ("displayname", "with \u0000 inside"),
        ("avatar_url", "mxc://localhost/SEsfnsuifSDFSSEF"),
        ("m.tz", "Europe/Berlin"),
        ("com.example.field", {"nested": [1, 2.5, None, "x", True]}),
        ("com.example.null", None),
        ("org.example.number", 12345678901234),
        ("plain", False),
    ],
)
async def test_whatever_is_set_can_be_read_by_everybody(server: IdentityServer, key: str, value: Any) -> None:
    """USER-01, USER-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await put(alice, key, value)
    assert await server.client.get(FIELD, alice.user_id, key) == {key: value}
    assert (await bob.get("/profile/{}", alice.user_id))[key] == value
    await alice.delete(FIELD, alice.user_id, key)
    await alice.delete(FIELD, alice.user_id, key)
    await bob.get(FIELD, alice.user_id, key, expect=(404, "M_NOT_FOUND"))
    assert key not in await bob.get("/profile/{}", alice.user_id)
    assert (await bob.get("/profile/{}", alice.user_id)).items() <= as_registered(alice).items()


@pytest.mark.parametrize("key", ["displayname", "avatar_url"])
@pytest.mark.parametrize("empty", ["", None])
async def test_clients_empty_a_name_or_picture_to_remove_it(
    server: IdentityServer, key: str, empty: Any
) -> None:
    alice = await server.register("alice")
    await put(alice, key, "mxc://localhost/abc")
    await put(alice, key, empty)
    left = {name: value for name, value in as_registered(alice).items() if name != key}
    assert await alice.get("/profile/{}", alice.user_id) == left


@pytest.mark.parametrize(
    ("key", "body", "errcode"),
    [
        ("displayname", {}, "M_MISSING_PARAM"),
        ("displayname", {"avatar_url": "mxc://a/b"}, "M_MISSING_PARAM"),
        ("displayname", {"displayname": 5}, "M_INVALID_PARAM"),
        ("displayname", {"displayname": "x" * 257}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "https://example.com/cat.png"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "mxc://localhost/../secret"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": ["mxc://a/b"]}, "M_INVALID_PARAM"),
        ("m.tz", {"m.tz": 5}, "M_INVALID_PARAM"),
        ("m.tz", {"m.tz": None}, "M_INVALID_PARAM"),
        ("1field", {"1field": 1}, "M_INVALID_PARAM"),
        ("Field", {"Field": 1}, "M_INVALID_PARAM"),
        ("_field", {"_field": 1}, "M_INVALID_PARAM"),
        ("a/b", {"a/b": 1}, "M_INVALID_PARAM"),
        ("ä", {"ä": 1}, "M_INVALID_PARAM"),
        ("a" * 256, {"a" * 256: 1}, "M_KEY_TOO_LARGE"),
    ],
)
async def test_what_no_profile_can_hold_is_refused(
    server: IdentityServer, key: str, body: Any, errcode: str
) -> None:
    """USER-02."""
    alice = await server.register("alice")
    await alice.put(FIELD, alice.user_id, key, json=body, expect=(400, errcode))
    assert await alice.get("/profile/{}", alice.user_id) == as_registered(alice)


@pytest.mark.parametrize(
    ("data", "errcode"),
    [(b"", "M_NOT_JSON"), (b"{", "M_NOT_JSON"), (b"[]", "M_BAD_JSON"), (b"5", "M_BAD_JSON")],
)
async def test_a_body_that_is_no_object_is_refused(server: IdentityServer, data: bytes, errcode: str) -> None:
    """API-03."""
    alice = await server.register("alice")
    await alice.put(FIELD, alice.user_id, "displayname", data=data, expect=(400, errcode))


async def test_a_key_of_255_bytes_still_fits(server: IdentityServer) -> None:
    """USER-02."""
    alice = await server.register("alice")
    await put(alice, "a" * 255, "value")


async def test_a_profile_stays_below_64_kib(server: IdentityServer) -> None:
    """USER-02."""
    alice = await server.register("alice")
    await put(alice, "com.example.large", "x" * 40_000)
    await put(alice, "com.example.more", "x" * 30_000, (400, "M_PROFILE_TOO_LARGE"))
    await put(alice, "com.example.more", "x" * 20_000)
    await put(alice, "com.example.large", "y" * 40_000)
    await put(alice, "com.example.large", "y" * 50_000, (400, "M_PROFILE_TOO_LARGE"))


async def test_fields_set_at_the_same_moment_are_all_kept(server: IdentityServer) -> None:
    alice = await server.register("alice")
    keys = [f"com.example.f{number}" for number in range(6)]
    await asyncio.gather(*(put(alice, key, key) for key in keys))
    assert await alice.get("/profile/{}", alice.user_id) == as_registered(alice) | {key: key for key in keys}


async def test_everybody_changes_their_own_profile_only(server: IdentityServer) -> None:
    """USER-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    body = {"displayname": "Mallory"}
    await bob.put(FIELD, alice.user_id, "displayname", json=body, expect=(403, "M_FORBIDDEN"))
    await bob.delete(FIELD, alice.user_id, "displayname", expect=(403, "M_FORBIDDEN"))


async def test_a_guest_may_change_the_name_and_nothing_else(server: IdentityServer) -> None:
    """GUEST-01, CAP-03."""
    made = await server.client.post("/register", json={}, params={"kind": "guest"})
    guest = server.user(made)
    await put(guest, "displayname", "Visitor")
    await put(guest, "avatar_url", "mxc://a/b", (403, "M_GUEST_ACCESS_FORBIDDEN"))
    capabilities = (await guest.get("/capabilities"))["capabilities"]
    assert capabilities["m.profile_fields"] == {"enabled": True, "allowed": ["displayname"]}
    assert capabilities["m.set_avatar_url"] == {"enabled": False}


async def test_who_does_not_exist_has_no_profile(server: IdentityServer) -> None:
    await server.client.get("/profile/{}", "@nobody.at.all:localhost", expect=(404, "M_NOT_FOUND"))
    await server.client.get("/profile/{}", "@nobody:elsewhere.example", expect=(404, "M_NOT_FOUND"))
    await server.client.get("/profile/{}", "nonsense", expect=(400, "M_INVALID_PARAM"))
    await server.client.get(FIELD, "@nobody:localhost", "Bad Key", expect=(400, "M_INVALID_PARAM"))


async def test_profiles_of_other_servers_are_asked_for_there(start: Any) -> None:
    """USER-05: through whoever speaks with other servers."""
    server = await start()

    class Remote:
        async def fetch(self, user_id: str, field: str | None) -> dict[str, Any]:
            return {"displayname": f"{user_id} {field}"}

    server.parts.profiles.fetch_with(Remote())
    answer = await server.client.get(FIELD, "@a:elsewhere.example", "displayname")
    assert answer == {"displayname": "@a:elsewhere.example displayname"}


async def test_two_processes_agree_on_a_profile(start: Any) -> None:
    first, second = await start(alone=False), await start(alone=False)
    alice = await first.register("alice")
    for name in ("One", "Two"):
        await put(alice, "displayname", name)
        await second.tail.fresh()
        assert await second.client.get("/profile/{}", alice.user_id) == {"displayname": name}


async def test_own_membership_events_carry_name_and_picture(server: IdentityServer) -> None:
    """USER-04: what rooms are told; the events are tested with them."""
    alice = await server.register("alice")
    await put(alice, "displayname", "Alice")
    await put(alice, "m.tz", "UTC")
    fields = await server.parts.profiles.membership_fields(alice.user_id)  # type: ignore[arg-type]
    assert fields == {"displayname": "Alice"}
    assert await server.parts.profiles.membership_fields("@nobody:localhost") == {}  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- telling the rooms


class Rooms:
    """Stands for the rooms feature: notes what it is told, and can be made slow or failing."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.called = asyncio.Event()
        self.failures = 0

    async def profile_changed(self, user_id: str, profile: Any) -> None:
        self.called.set()
        await self.may_go_on.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is away")
        self.told.append(profile.get("displayname"))


async def pending(server: IdentityServer) -> int:
    assert server.db is not None
    async with server.db.read() as tx:
        return int(await tx.value("SELECT count(*) FROM jobs"))


async def none_pending(server: IdentityServer) -> bool:
    return await pending(server) == 0


async def test_the_answer_comes_when_the_rooms_have_been_told(start: Any) -> None:
    """USER-03."""
    server, rooms = await start(), Rooms()
    server.parts.profiles.propagate_with(rooms)
    alice = await server.register("alice")
    await put(alice, "displayname", "Alice")
    assert rooms.told == ["Alice"]
    await put(alice, "m.tz", "UTC")
    await put(alice, "displayname", "Alice")
    assert rooms.told == ["Alice"]
    await put(alice, "avatar_url", "mxc://a/b")
    await alice.delete(FIELD, alice.user_id, "displayname")
    assert rooms.told == ["Alice", "Alice", None]
    assert await pending(server) == 0


async def test_a_change_while_the_rooms_are_being_told_is_told_afterwards(start: Any) -> None:
    """USER-03: the last name wins, whatever the timing."""
    server, rooms = await start(), Rooms()
    server.parts.profiles.propagate_with(rooms)
    alice = await server.register("alice")
    rooms.may_go_on.clear()
    first = asyncio.create_task(put(alice, "displayname", "One"))
    await asyncio.wait_for(rooms.called.wait(), 60)
    second = asyncio.create_task(put(alice, "displayname", "Two"))

    async def is_changed() -> bool:
        return bool((await alice.get("/profile/{}", alice.user_id))["displayname"] == "Two")

    await until(is_changed)
    rooms.may_go_on.set()
    await asyncio.gather(first, second)
    assert rooms.told[0] in ("One", "Two")
    assert rooms.told[-1] == "Two"
    assert await pending(server) == 0


async def test_rooms_are_told_after_a_restart(start: Any) -> None:
    """USER-03: the order outlives the process."""
    clock = FakeClock()
    dying = await start(clock=clock, alone=False)
    dying.parts.profiles.propagate_with(Rooms())
    dying.die()
    alice = await dying.register("alice")
    request = asyncio.create_task(put(alice, "displayname", "Alice"))
    await until(lambda: pending(dying))
    request.cancel()
    rooms = Rooms()
    reborn = await start(clock=clock, alone=False)
    reborn.parts.profiles.propagate_with(rooms)
    async with asyncio.timeout(60):
        while not rooms.told:
            await clock.advance(5)
            await asyncio.sleep(0.02)
    await until(lambda: none_pending(reborn))
    assert rooms.told == ["Alice"]


async def test_what_fails_is_tried_again_and_keeps_nobody_waiting(start: Any) -> None:
    """USER-03."""
    clock = FakeClock()
    server, rooms = await start(clock=clock), Rooms()
    server.parts.profiles.propagate_with(rooms)
    alice = await server.register("alice")
    rooms.failures = 2
    async with asyncio.timeout(60):
        await put(alice, "displayname", "Alice")
    assert rooms.told == []
    async with asyncio.timeout(60):
        while not rooms.told:
            await clock.advance(5)
            await asyncio.sleep(0.02)
    assert rooms.told == ["Alice"]
