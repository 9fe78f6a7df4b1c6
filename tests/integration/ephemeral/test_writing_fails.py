"""What is in memory is what was written: presence and typing while the database is away, or refuses something.

CHECKLIST section 13 (EPH-08 to EPH-10).
"""

import asyncio
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from homeserver.config.presence import PresenceSection
from homeserver.matrix.ids import RoomId, UserId
from homeserver.presence.service import PresenceService
from homeserver.runtime.clock import FakeClock
from homeserver.typing.service import LOST_SECONDS, Typing, TypingService
from homeserver.web.auth import Requester
from tests.integration.ephemeral.test_presence import STATUS, Hears
from tests.support.failing import FailingLog
from tests.support.graph import Process, process
from tests.support.server import Server
from tests.support.user import User

AWAY = psycopg.OperationalError("the database does not answer")
REFUSED = psycopg.DataError("no column holds this")


async def nid_of(server: Server, user: User) -> int:
    assert server.app is not None
    user_id = UserId(user.user_id)
    return (await server.app.core.interning.find_user_nids([user_id]))[user_id]


async def test_a_status_that_cannot_be_kept_is_refused_and_forgotten(server: Server) -> None:
    """EPH-10: nothing of it is written later by whoever looks after presence."""
    assert server.app is not None
    alice = await server.register("alice")
    await alice.put(STATUS, alice.user_id, json={"presence": "online", "status_msg": "tea"})
    body = {"presence": "unavailable", "status_msg": "x\0y"}
    await alice.put(STATUS, alice.user_id, json=body, expect=(400, "M_INVALID_PARAM"))
    service = server.app.features.presence.service
    known = service._known[await nid_of(server, alice)]
    assert (known.presence, known.status_msg) == ("online", "tea")
    known.last_seen_ms = known.last_active_ms = 0
    await service.tick()
    assert await alice.get(STATUS, alice.user_id) | {"last_active_ago": 0} == {
        "presence": "offline",
        "status_msg": "tea",
        "last_active_ago": 0,
    }


def services(each: Process, clock: FakeClock, *, alone: bool = True) -> tuple[PresenceService, FailingLog]:
    log = FailingLog(each.core.log)
    service = PresenceService(
        each.core.db, log, each.core.interning, clock, config=PresenceSection(), alone=alone
    )
    each.core.tail.attach(Hears(service))
    return service, log


async def presence_of(service: PresenceService, user: Requester) -> tuple[str, str | None]:
    row = await service.get(user, user.user_id)
    return row.presence, row.status_msg


async def test_what_could_not_be_written_is_written_later(database: str, tmp_path: Path) -> None:
    """EPH-09: nobody stays online because the database was away when they went."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        service, log = services(one, clock)
        people = [await one.user(name) for name in ("alice", "bob", "carol")]
        for user in people:
            await service.set(user, "online", "here")
        log.fails = lambda _: AWAY
        await service.touch(people[0], "unavailable")  # no error: a sync goes on
        assert service._known[people[0].user_nid].presence == "online"
        await clock.advance(3600)
        for _ in range(10):
            await service.tick()
        assert {await presence_of(service, user) for user in people} == {("online", "here")}
        log.fails = lambda _: None
        await service.tick()
        assert {await presence_of(service, user) for user in people} == {("offline", "here")}
        assert not service._known


async def test_one_who_cannot_be_written_does_not_keep_others(database: str, tmp_path: Path) -> None:
    """EPH-09: and is given up after some attempts."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        service, log = services(one, clock)
        alice, bob = await one.user("alice"), await one.user("bob")
        for user in (alice, bob):
            await service.touch(user, "online")
        log.fails = lambda entry: REFUSED if entry.user_nid == alice.user_nid else None  # type: ignore[attr-defined]
        await clock.advance(3600)
        for _ in range(10):
            await service.tick()
        assert await presence_of(service, bob) == ("offline", None)
        assert log.failed == 3
        assert not service._known


async def test_who_comes_while_their_absence_is_written_is_there(database: str, tmp_path: Path) -> None:
    """EPH-09."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        service, _ = services(one, clock)
        alice = await one.user("alice")
        await service.touch(alice, "online")
        await clock.advance(3600)
        await asyncio.gather(service.tick(), service.touch(alice, "online"))
        assert await presence_of(service, alice) == ("online", None)


async def test_a_process_that_lags_does_not_undo_what_was_said(database: str, tmp_path: Path) -> None:
    """EPH-09, SYNC-22: two processes, and the one has not heard what was said to the other."""
    clock = FakeClock()
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        here, _ = services(one, clock, alone=False)
        there, _ = services(two, clock, alone=False)
        alice = await one.user("alice")
        telephone = replace(alice, device_id="TELEPHONE")
        for number in range(20):
            await asyncio.gather(
                here.set(alice, "unavailable", f"tea {number}"), there.touch(telephone, "online")
            )
            assert (await presence_of(here, alice))[1] == f"tea {number}"
            await clock.advance(1)


@pytest.mark.parametrize("processes", [1, 2])
async def test_nobody_stays_online_for_ever_because_the_server_started_anew(
    database: str, tmp_path: Path, processes: int
) -> None:
    """EPH-09: who comes back in time was never away."""
    clock, config = FakeClock(), PresenceSection()
    async with process(database, tmp_path) as one:
        before, _ = services(one, clock)
        alice, bob = await one.user("alice"), await one.user("bob")
        for user in (alice, bob):
            await before.touch(user, "online")
        after = [services(one, clock, alone=processes == 1)[0] for _ in range(processes)]
        changes = Hears(after[0])
        one.core.tail.attach(changes)
        for _ in range(8):
            for service in after:
                await service.tick()
            await after[0].touch(bob, "online")
            await clock.advance(config.offline_after / 2)
        assert await presence_of(after[0], alice) == ("offline", None)
        assert await presence_of(after[0], bob) == ("online", None)
        assert changes.changes == ["offline"]


async def test_activity_ends_idleness(database: str, tmp_path: Path) -> None:
    """EPH-09: who was thought idle and does something is online again; who says that they are away is not."""
    clock, config = FakeClock(), PresenceSection()
    async with process(database, tmp_path) as one:
        service, _ = services(one, clock)
        alice = await one.user("alice")
        await service.set(alice, "online", None)
        for _ in range(10):  # they are connected, but do nothing
            await clock.advance(config.idle_after / 9)
            await service.touch(alice, "unavailable")
            await service.tick()
        assert await presence_of(service, alice) == ("unavailable", None)
        await service.set(alice, "online", None)
        await clock.advance(50)
        for _ in range(10):
            service.acted(alice.user_nid)
            await clock.advance(50)
            await service.tick()
        assert await presence_of(service, alice) == ("online", None)
        service._known[alice.user_nid].last_active_ms -= round(config.idle_after * 1000)
        await service.tick()
        assert await presence_of(service, alice) == ("unavailable", None)
        service.acted(alice.user_nid)
        await service.tick()
        assert await presence_of(service, alice) == ("online", None)
        await service.set(alice, "unavailable", None)
        service.acted(alice.user_nid)
        await service.tick()
        assert await presence_of(service, alice) == ("unavailable", None)


async def test_who_writes_reads_or_types_is_active(server: Server) -> None:
    """EPH-09: `last_active_ago`, of things that were done through any process."""
    assert server.app is not None
    service = server.app.features.presence.service
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.sync()
    known = service._known[await nid_of(server, alice)]

    async def ago_after(act: str) -> int:
        known.last_active_ms -= 200_000
        if act == "send":
            await alice.send(room, "hello")
        elif act == "type":
            await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True})
        elif act == "read":
            event = await alice.send(room, "again")
            known.last_active_ms -= 200_000
            await alice.post("/rooms/{}/receipt/{}/{}", room, "m.read", event, json={})
        return int((await alice.get(STATUS, alice.user_id))["last_active_ago"])

    assert await ago_after("nothing") > 100_000
    for act in ("send", "type", "read"):
        assert await ago_after(act) < 50_000, act


async def test_typing_ends_when_the_database_is_back(database: str, tmp_path: Path) -> None:
    """EPH-08: neither is it forgotten, nor does what looks after it end."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        typing = Typing(clock)
        one.core.tail.attach(typing)
        log = FailingLog(one.core.log)
        service = TypingService(log, one.core.rooms, typing, clock)
        alice = await one.user("alice")
        room = RoomId(await one.room(alice))
        nid = (await one.core.rooms.known(room)).name.nid
        await service.set(alice, room, typing=True, timeout_ms=5000)
        log.fails = lambda _: AWAY
        with pytest.raises(psycopg.OperationalError):
            await service.set(alice, room, typing=False, timeout_ms=0)
        await clock.advance(6)
        await service.tick()
        assert typing.of(nid, alice.user_nid) is not None
        log.fails = lambda _: None
        await service.tick()
        assert typing.of(nid, alice.user_nid) is None


async def test_typing_ends_though_its_process_has_ended(database: str, tmp_path: Path) -> None:
    """EPH-08: who goes on typing is not ended by others, however long it takes."""
    clock = FakeClock()
    async with process(database, tmp_path) as one:
        typing = Typing(clock)
        one.core.tail.attach(typing)
        ended, other = (TypingService(one.core.log, one.core.rooms, typing, clock) for _ in range(2))
        alice = await one.user("alice")
        room = RoomId(await one.room(alice))
        nid = (await one.core.rooms.known(room)).name.nid
        for _ in range(10):
            await ended.set(alice, room, typing=True, timeout_ms=30_000)
            await clock.advance(25)
            await other.tick()
            assert typing.of(nid, alice.user_nid) is not None
        await clock.advance(LOST_SECONDS + 1)
        await other.tick()
        assert typing.of(nid, alice.user_nid) is None
