"""Presence as others see it: CHECKLIST section 13."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from homeserver.config.presence import PresenceSection
from homeserver.log.entries import Entry
from homeserver.presence.service import PresenceService
from homeserver.presence.types import PresenceEntry
from homeserver.runtime.clock import FakeClock
from tests.support.graph import process
from tests.support.server import Server
from tests.support.user import User


async def test_who_never_said_how_they_are_is_offline(server: Server) -> None:
    """EPH-10: 404 is for those who do not exist."""
    alice = await server.register("alice")
    assert await alice.get("/presence/{}/status", alice.user_id) == {"presence": "offline"}
    stranger = alice.user_id.replace("@", "@nobody-")
    await alice.get("/presence/{}/status", stranger, expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize("recent", [True, False])
async def test_who_comes_into_sight_is_seen_as_they_are(server: Server, recent: bool) -> None:
    """EPH-09, SYNC-18: to who joins, and to who was there; from memory and from the database."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    for user, says in ((alice, "tea"), (bob, "coffee")):
        await user.put("/presence/{}/status", user.user_id, json={"presence": "online", "status_msg": says})
    tokens = {user.user_id: (await user.sync())["next_batch"] for user in (alice, bob)}
    await bob.join(room)
    if not recent:
        assert server.app is not None
        server.app.core.tail._recent.clear()
    for user, other, says in ((alice, bob, "coffee"), (bob, alice, "tea")):
        reply = await user.sync(since=tokens[user.user_id])
        seen = {event["sender"]: event["content"]["status_msg"] for event in reply["presence"]["events"]}
        assert seen == {other.user_id: says}
        again = await user.sync(since=reply["next_batch"])
        assert "presence" not in again


STATUS = "/presence/{}/status"


async def presence_of(user: User) -> str:
    return str((await user.get(STATUS, user.user_id))["presence"])


async def test_a_sync_says_that_its_user_is_about(server: Server) -> None:
    """SYNC-22: unless it asks not to."""
    alice = await server.register("alice")
    await alice.sync(set_presence="offline")
    assert await presence_of(alice) == "offline"
    await alice.sync(set_presence="unavailable")
    assert await presence_of(alice) == "unavailable"
    await alice.sync(set_presence="offline")
    assert await presence_of(alice) == "unavailable"
    await alice.sync()
    assert await presence_of(alice) == "online"
    await alice.sync(set_presence="here", expect=(400, "M_INVALID_PARAM"))


async def test_the_most_present_device_counts(server: Server) -> None:
    """SYNC-22, EPH-09: an idle telephone does not make somebody idle who sits at the desk."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    telephone = await alice.new_device()
    await alice.sync()
    await bob.sync()
    await telephone.sync(set_presence="unavailable")
    await alice.sync()
    await telephone.sync(set_presence="unavailable")
    assert await presence_of(alice) == "online"
    assert alice.user_id not in str((await bob.sync()).get("presence", {}))


async def test_silence_is_idleness_and_then_absence(database: str, tmp_path: Path) -> None:
    """EPH-09: about five minutes, and activity ends it."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        alice = await one.user("alice")
        config = PresenceSection()
        service = PresenceService(
            one.core.db, one.core.log, one.core.interning, clock, config=config, alone=True
        )

        async def shown() -> str:
            return (await service.get(alice, alice.user_id)).presence

        await service.touch(alice, "online")
        for _ in range(10):  # polls of a client that says it is idle
            await clock.advance(config.idle_after / 9)
            await service.touch(alice, "unavailable")
            await service.tick()
        assert await shown() == "unavailable"
        await service.touch(alice, "online")
        assert await shown() == "online"
        await clock.advance(config.offline_after + 29)
        await service.tick()
        assert await shown() == "online"
        await clock.advance(config.offline_after + 31)
        await service.tick()
        assert await shown() == "offline"
        await service.touch(alice, "offline")
        assert await shown() == "offline"


class Hears:
    """What tells a service of the entries of all processes."""

    def __init__(self, service: PresenceService) -> None:
        self._service = service
        self.changes: list[str] = []

    def handlers(self) -> dict[type[Entry], Callable[[int, Any], None]]:
        return {PresenceEntry: self._heard}

    def reset(self) -> None:
        """Nothing is kept."""

    def _heard(self, position: int, entry: PresenceEntry) -> None:
        self._service.heard(entry, position)
        if not entry.beat:
            self.changes.append(entry.presence)


async def test_the_most_present_device_counts_whichever_process_hears_it(
    database: str, tmp_path: Path
) -> None:
    """SYNC-22: a desk that syncs with one process and an idle telephone at another do not take turns."""
    clock, config = FakeClock(), PresenceSection()
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice = await one.user("alice")
        desk, telephone = (replace(alice, device_id=device) for device in ("DESK", "TELEPHONE"))
        services, heard = [], []
        for each in (one, two):
            service = PresenceService(
                each.core.db, each.core.log, each.core.interning, clock, config=config, alone=False
            )
            services.append(service)
            heard.append(Hears(service))
            each.core.tail.attach(heard[-1])
        at_desk, on_the_way = services
        await at_desk.touch(desk, "online")
        for _ in range(20):
            for service, device, says in (
                (on_the_way, telephone, "unavailable"),
                (at_desk, desk, "online"),
            ):
                await one.core.tail.fresh()
                await two.core.tail.fresh()
                await service.touch(device, says)
            await clock.advance(25)
        assert heard[0].changes == ["online"]
        for _ in range(8):  # the desk is switched off
            await two.core.tail.fresh()
            await on_the_way.touch(telephone, "unavailable")
            await clock.advance(25)
        await one.core.tail.fresh()
        assert heard[0].changes == ["online", "unavailable"]


async def test_a_new_name_is_told_with_presence(server: Server) -> None:
    """EPH-11."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await alice.sync()
    await bob.sync()
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice Liddell"})
    await alice.put("/profile/{}/avatar_url", alice.user_id, json={"avatar_url": "mxc://localhost/a"})
    told = {event["sender"]: event["content"] for event in (await bob.sync())["presence"]["events"]}
    assert told[alice.user_id]["displayname"] == "Alice Liddell"
    assert told[alice.user_id]["avatar_url"] == "mxc://localhost/a"
    assert told[alice.user_id]["presence"] == "online"
