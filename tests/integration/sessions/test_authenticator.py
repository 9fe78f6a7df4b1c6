"""Tokens are checked from memory, and every process forgets in time: CHECKLIST API-14, DEV-03, ACC-01."""

import asyncio
from typing import Any

import pytest

from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import FakeClock
from homeserver.sessions.authenticator import SESSION_BYTES, Session, Sessions
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.last_seen import Seen
from homeserver.web.auth import Requester
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User
from tests.support.waiting import until


async def on(server: IdentityServer, user: User) -> User:
    return User(client=server.client, user_id=user.user_id, token=user.token, device_id=user.device_id)


async def test_an_active_client_is_recognised_without_the_database(server: IdentityServer) -> None:
    alice = await server.register("alice")
    await alice.get("/account/whoami")
    assert server.db is not None
    taken = server.db._acquire

    async def nobody_may() -> Any:
        raise AssertionError("the database was asked")

    server.db._acquire = nobody_may  # type: ignore[method-assign]
    try:
        assert (await alice.get("/account/whoami"))["user_id"] == alice.user_id
    finally:
        server.db._acquire = taken  # type: ignore[method-assign]


async def test_two_processes_agree_who_is_logged_out(start: Any) -> None:
    first, second = await start(alone=False), await start(alone=False)
    here = await first.register("alice")
    there = await on(second, here)
    other = await here.login()
    for session in (here, there, await on(second, other)):
        await session.get("/account/whoami")
    await here.logout()
    await second.tail.fresh()
    await there.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    assert (await (await on(second, other)).get("/account/whoami"))["device_id"] == other.device_id


async def test_a_lost_hint_costs_a_second_not_correctness(start: Any) -> None:
    first, second = await start(alone=False), await start(alone=False)
    here = await first.register("alice")
    there = await on(second, here)
    await there.get("/account/whoami")
    await here.logout()

    async def is_refused() -> bool:
        return (await there.exchange("GET", "/account/whoami", expect=None)).status == 401

    await until(is_refused)


@pytest.mark.parametrize(
    ("flags", "refusal"),
    [({"locked": True}, (401, "M_USER_LOCKED")), ({"suspended": True}, (403, "M_USER_SUSPENDED"))],
)
async def test_two_processes_agree_who_is_locked_or_suspended(start: Any, flags: Any, refusal: Any) -> None:
    first, second = await start(alone=False), await start(alone=False)
    here = await first.register("alice")
    there = await on(second, here)
    body = {"displayname": "A"}
    await there.put("/profile/{}/displayname", here.user_id, json=body)
    account = await first.parts.accounts.find(here.user_id)
    await first.parts.accounts.set_flags(account.user_nid, **flags)
    await second.tail.fresh()
    await there.put("/profile/{}/displayname", here.user_id, json={"displayname": "B"}, expect=refusal)


def session(nid: int, device: str) -> Session:
    return Session(Requester(user_id="@u:x", user_nid=nid, device_id=device), None)  # type: ignore[arg-type]


def test_what_was_read_before_a_change_is_not_remembered_after_it() -> None:
    """A token that ends while it is being looked up must not live on in memory."""
    sessions = Sessions(MemoryBudget(1 << 20))
    before = sessions.version
    sessions.handlers()[SessionsChanged](1, SessionsChanged(7))
    sessions.add(b"a", session(7, "A"), before)
    assert sessions.get(b"a") is None
    sessions.add(b"a", session(7, "A"), sessions.version)
    assert sessions.get(b"a") is not None


def test_only_the_device_that_changed_is_forgotten() -> None:
    sessions = Sessions(MemoryBudget(1 << 20))
    for digest, device in ((b"a", "A"), (b"b", "B")):
        sessions.add(digest, session(7, device), 0)
    sessions.add(b"c", session(8, "A"), 0)
    changed = sessions.handlers()[SessionsChanged]
    changed(1, SessionsChanged(7, "A"))
    assert [sessions.get(d) is not None for d in (b"a", b"b", b"c")] == [False, True, True]
    changed(2, SessionsChanged(8))
    assert [sessions.get(d) is not None for d in (b"a", b"b", b"c")] == [False, True, False]
    changed(3, SessionsChanged(9))
    sessions.reset()
    assert len(sessions) == 0


def test_memory_is_bounded_and_whoever_is_active_stays() -> None:
    sessions = Sessions(MemoryBudget(3 * SESSION_BYTES))
    for number in range(3):
        sessions.add(bytes([number]), session(number, "D"), 0)
    assert sessions.get(b"\0") is not None
    for number in range(3, 5):
        sessions.add(bytes([number]), session(number, "D"), 0)
    assert [n for n in range(5) if sessions.get(bytes([n]))] == [0, 3, 4]
    assert len(sessions) == 3


async def test_when_and_whence_a_device_was_seen_is_known_at_once_and_written_soon(start: Any) -> None:
    """DEV-03, ACC-05."""
    clock = FakeClock()
    server = await start(clock=clock)
    alice = await server.register("alice")
    await alice.get("/account/whoami", headers={"User-Agent": "Tester/1.0"})
    seen = (await alice.get("/devices"))["devices"][0]
    assert seen["last_seen_ip"] == "127.0.0.1"
    assert seen["last_seen_ts"] == clock.now_ms()
    await clock.advance(67)  # a minute, and the jitter of periodic work
    await until(lambda: stored(server, alice))
    ip, agent = await stored(server, alice)
    assert (ip, agent) == ("127.0.0.1", "Tester/1.0")


async def stored(server: IdentityServer, user: User) -> Any:
    assert server.db is not None
    async with server.db.read() as tx:
        return await tx.one(
            "SELECT last_seen_ip, last_seen_agent FROM devices WHERE device_id = %(id)s AND last_seen_ms IS NOT NULL",
            id=user.device_id,
        )


async def test_a_user_agent_that_is_no_text_keeps_nobodys_sightings_from_being_written(start: Any) -> None:
    """DEV-03."""
    server = await start(clock=FakeClock())
    alice, bob = await server.register("alice"), await server.register("bob")
    last_seen = server.parts.last_seen
    for user, agent in ((alice, "\udcff\udcfe"), (bob, "Tester/1.0")):
        account = await server.parts.accounts.find(user.user_id)
        last_seen.note(account.user_nid, user.device_id, Seen(1, "192.0.2.1", agent))
    await last_seen.flush()
    assert await stored(server, alice) == ("192.0.2.1", "\ufffd\ufffd")
    assert await stored(server, bob) == ("192.0.2.1", "Tester/1.0")


async def test_a_sighting_that_cannot_be_written_is_lost_alone(start: Any) -> None:
    """DEV-03: whatever it is that the database refuses."""
    server = await start(clock=FakeClock())
    people = [await server.register(name) for name in ("alice", "bob", "carol")]
    last_seen = server.parts.last_seen
    for user, ip in zip(people, ("192.0.2.1", "192.0.2.\0", "192.0.2.3"), strict=True):
        account = await server.parts.accounts.find(user.user_id)
        last_seen.note(account.user_nid, user.device_id, Seen(1, ip, "Tester/1.0"))
    await last_seen.flush()
    assert await stored(server, people[0]) == ("192.0.2.1", "Tester/1.0")
    assert await stored(server, people[2]) == ("192.0.2.3", "Tester/1.0")
    assert last_seen.of(account.user_nid, people[1].device_id) is None


async def test_sightings_never_go_back_in_time(server: IdentityServer) -> None:
    """DEV-03: two processes write theirs in any order."""
    from homeserver.devices.store import find_device
    from homeserver.sessions.store import update_last_seen

    alice = await server.register("alice")
    account = await server.parts.accounts.find(alice.user_id)
    assert account is not None
    assert server.db is not None
    for at_ms, ip in ((2_000, "192.0.2.2"), (1_000, "192.0.2.1")):
        async with server.db.transaction() as tx:
            await update_last_seen(tx, [(account.user_nid, alice.device_id, at_ms, ip, "")])
    async with server.db.read() as tx:
        row = await find_device(tx, account.user_nid, alice.device_id)
    assert row is not None
    assert (row.last_seen_ms, row.last_seen_ip) == (2_000, "192.0.2.2")


async def test_flushing_from_two_processes_at_once_does_not_deadlock(start: Any) -> None:
    first, second = await start(alone=False), await start(alone=False)
    users = [await first.register("u") for _ in range(20)]
    for _ in range(3):
        for user in users:
            await user.get("/account/whoami")
            await (await on(second, user)).get("/account/whoami")
        await asyncio.gather(first.parts.last_seen.flush(), second.parts.last_seen.flush())


async def test_an_imported_bcrypt_password_works_and_is_replaced(server: IdentityServer) -> None:
    import bcrypt

    alice = await server.register("alice")
    assert server.db is not None
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    async with server.db.transaction() as tx:
        await tx.execute(
            "UPDATE accounts SET password_hash = %(hash)s FROM users u WHERE u.user_nid = accounts.user_nid "
            "AND user_id = %(id)s",
            hash=hashed,
            id=alice.user_id,
        )
    await server.login(alice.user_id, "wrong", expect=(403, "M_FORBIDDEN"))
    await server.login(alice.user_id)
    account = await server.parts.accounts.find(alice.user_id)
    assert account is not None
    assert str(account.password_hash).startswith("$argon2id$")
    await server.login(alice.user_id)
