"""Messages to devices: CHECKLIST TD-01, TD-02, SYNC-18, E2E-13, E2E-18."""

import asyncio
from itertools import count
from typing import Any

import pytest

from homeserver.log import transaction_ids
from homeserver.log.forgetting import Forgetting
from homeserver.runtime.clock import FakeClock
from homeserver.to_device import service, store, stream
from homeserver.to_device.bound import Most, QueueBound
from homeserver.to_device.known import KnownDevices
from tests.conftest import StartServer
from tests.support.crypto import messages_in
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

_numbers = count(1)


async def send(
    sender: User,
    messages: dict[str, Any],
    *,
    kind: str = "m.room.encrypted",
    txn: str | None = None,
    **more: Any,
) -> None:
    path = "/sendToDevice/{}/{}"
    await sender.put(path, kind, txn or f"td{next(_numbers)}", json={"messages": messages}, **more)


async def contents(user: User, **options: Any) -> list[Any]:
    return [event["content"] for event in messages_in(await user.sync(**options))]


async def test_a_message_reaches_the_device_it_is_for_as_it_was_sent(server: Server) -> None:
    """TD-01, E2E-18: the server adds nothing but the sender, and looks at nothing."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device()
    content = {"algorithm": "x", "deep": {"b": [1.5, None, "é\0"], "a": {}}, "org.example": 2**60}
    for kind in (
        "m.room_key_request",
        "m.forwarded_room_key",
        "m.room_key.withheld",
        "m.key.verification.start",
    ):
        await send(alice, {bob.user_id: {phone.device_id: content}}, kind=kind)
        event = {"type": kind, "sender": alice.user_id, "content": content}
        assert messages_in(await phone.sync()) == [event]
    assert messages_in(await bob.sync()) == []


async def test_a_star_is_all_devices_there_are_now_and_unknown_ones_are_passed_over(server: Server) -> None:
    """TD-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device()
    nobody = f"@nobody:{bob.server_name}"
    await send(alice, {bob.user_id: {"*": {"n": 1}}, nobody: {"*": {}}, alice.user_id: {"NONE": {}}})
    late = await bob.new_device()
    assert await contents(bob) == await contents(phone) == [{"n": 1}]
    assert await contents(late) == []
    await send(alice, {bob.user_id: {"*": {"n": 2}, phone.device_id: {"n": 3}}})
    assert (await contents(bob), await contents(phone)) == ([{"n": 2}], [{"n": 3}])


async def test_a_message_to_some_reaches_them_alone_whatever_else_is_named(server: Server) -> None:
    """TD-01: of who is named by device no others are looked up."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone, tablet = await bob.new_device(), await bob.new_device()
    named = {phone.device_id: {"n": 1}, "NONE": {}, alice.device_id: {}}
    await send(alice, {bob.user_id: named, alice.user_id: {"*": {"n": 2}}})
    assert await contents(phone) == [{"n": 1}]
    assert await contents(tablet) == await contents(bob) == []
    assert await contents(alice) == [{"n": 2}]


async def test_a_message_sent_again_under_its_transaction_id_arrives_once(server: Server) -> None:
    """TD-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    to = {bob.user_id: {bob.device_id: {"n": 1}}}
    await asyncio.gather(*(send(alice, to, txn="same") for _ in range(5)))
    await send(alice, to, txn="same", kind="m.other")
    phone = await alice.new_device()
    await send(phone, to, txn="same")
    assert len(await contents(bob)) == 3


async def test_transaction_ids_are_forgotten_when_nobody_can_mean_a_retry(fresh_server: Server) -> None:
    """TD-02, API-10: after a week; until then they are known."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    to = {bob.user_id: {bob.device_id: {"n": 1}}}
    await send(alice, to, txn="same")
    assert server.app is not None
    db, now_ms = server.app.core.db, server.app.core.clock.now_ms()
    assert await Forgetting(db, FakeClock(now_ms + transaction_ids.KEEP_MS - 60_000)).forget() == 0
    assert await Forgetting(db, FakeClock(now_ms + transaction_ids.KEEP_MS + 60_000)).forget() == 1


async def test_messages_come_in_order_a_hundred_at_a_time_until_acknowledged(server: Server) -> None:
    """SYNC-18, TD-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    start = (await bob.sync())["next_batch"]
    for n in range(250):
        await send(alice, {bob.user_id: {bob.device_id: {"n": n}}})
    first = await contents(bob, since=start)
    assert first == [{"n": n} for n in range(100)]
    assert await contents(bob, since=start) == first
    acknowledged = bob.since
    second = await contents(bob)
    assert second == [{"n": n} for n in range(100, 200)]
    assert await contents(bob, since=acknowledged) == second
    assert await contents(bob) == [{"n": n} for n in range(200, 250)]
    assert await contents(bob) == []
    assert await contents(bob, since=start) == []


async def test_large_messages_come_a_few_at_a_time(server: Server) -> None:
    """SYNC-18: an answer is bounded in bytes, too; nothing is left out and the order stays."""
    alice, bob = await server.register("alice"), await server.register("bob")
    start = (await bob.sync())["next_batch"]
    for n in range(40):
        await send(alice, {bob.user_id: {bob.device_id: {"n": n, "x": "x" * 60_000}}})
    answers = [[m["n"] for m in await contents(bob, since=start)]]
    while sum(map(len, answers)) < 40:
        answers.append([m["n"] for m in await contents(bob)])
    assert [n for numbers in answers for n in numbers] == list(range(40))
    assert max(map(len, answers)) == 18  # the one that exceeds 2 ** 20 bytes is the last
    assert await contents(bob) == []


async def test_of_too_much_that_waits_requests_go_first_and_then_the_oldest(server: Server) -> None:
    """TD-02: the bound that keeps a device that never comes back from filling the disk."""
    alice, bob = await server.register("alice"), await server.register("bob")
    for n in range(6):
        kind = "m.room_key_request" if n in {2, 4} else "m.room.encrypted"
        await send(alice, {bob.user_id: {bob.device_id: {"n": n}}}, kind=kind)
    for most, left in ((6, [0, 1, 2, 3, 4, 5]), (5, [0, 1, 3, 4, 5]), (3, [1, 3, 5])):
        await bound(server, Most(most, 10**9)).sweep()
        assert [message["n"] for message in await contents(bob, since=None)] == left


def bound(server: Server, most: Most) -> QueueBound:
    assert server.app is not None
    return QueueBound(server.app.core.db, server.app.core.clock, most)


async def test_what_waits_is_bounded_in_bytes_for_a_device_and_for_a_person(fresh_server: Server) -> None:
    """TD-02: few messages may be as large as many."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    for n in range(5):
        kind = "m.room_key_request" if n == 3 else "m.room.encrypted"
        await send(alice, {bob.user_id: {"*": {"n": n, "x": "x" * 10_000}}}, kind=kind)
    for size, left in ((60_000, [0, 1, 2, 3, 4]), (45_000, [0, 1, 2, 4]), (25_000, [2, 4])):
        await bound(server, Most(100, size)).sweep()
        assert [m["n"] for m in await contents(bob, since=None)] == left, size
    others = [await bob.new_device() for _ in range(8)]
    await send(alice, {bob.user_id: {"*": {"n": 5, "x": "x" * 10_000}}})
    assert await bound(server, Most(100, 25_000)).sweep() == 2, (
        "of eleven messages as many as four queues hold"
    )
    queues = [[m["n"] for m in await contents(device, since=None)] for device in (bob, *others)]
    assert queues == [[5]] * 9


async def test_much_that_comes_is_swept_at_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TD-02: the bound is kept between two sweeps, too."""
    monkeypatch.setattr(stream, "MUCH", 1_200_000)
    server = await start_server(limits={"waiting_bytes": 2**20})
    alice, bob = await server.register("alice"), await server.register("bob")
    for n in range(21):
        await send(alice, {bob.user_id: {"*": {"n": n, "x": "x" * 60_000}}})

    async def few_are_left() -> bool:
        assert server.app is not None
        async with server.app.core.db.read() as tx:
            return int(await tx.value("SELECT count(*) FROM to_device")) < 20

    await until(few_are_left)
    assert [m["n"] for m in await contents(bob, since=None)][-1] == 20


async def test_who_sends_too_much_to_devices_has_to_wait(start_server: StartServer) -> None:
    """TD-01: one person cannot push out of a queue what others have put there, not at once at least."""
    rate = {"enabled": True, "to_device": {"per_second": 1, "burst": 100}}
    server = await start_server(rate_limits=rate)
    alice, bob = await server.register("alice"), await server.register("bob")
    message = {"x": "x" * 60_000}
    await send(alice, {bob.user_id: {"*": message}})
    await send(alice, {bob.user_id: {"*": message}}, expect=(429, "M_LIMIT_EXCEEDED"))
    await send(bob, {alice.user_id: {"*": message}})
    assert await contents(bob) == [message]


async def test_a_message_to_all_devices_is_bounded_as_a_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TD-01: it is sent once and kept many times."""
    monkeypatch.setattr(service, "MAX_COPIES", 100_000)
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device()
    large = {"x": "x" * 60_000}
    await send(alice, {bob.user_id: {"*": large}}, expect=(413, "M_TOO_LARGE"))
    await send(alice, {bob.user_id: {bob.device_id: large, phone.device_id: large}})
    assert await contents(bob) == await contents(phone) == [large]


async def test_one_request_cannot_fill_many_queues(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """TD-01: `*` makes many messages of one; together they are bounded."""
    monkeypatch.setattr(service, "MAX_TOTAL", 100_000)
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device()
    large = {"x": "x" * 60_000}
    await send(alice, {bob.user_id: {"*": large}}, expect=(413, "M_TOO_LARGE"))
    assert await contents(bob) == await contents(phone) == []
    await send(alice, {bob.user_id: {phone.device_id: large}})
    assert await contents(phone) == [large]


async def test_an_initial_sync_gives_what_was_never_acknowledged(server: Server) -> None:
    """SYNC-18."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await send(alice, {bob.user_id: {bob.device_id: {"n": 1}}})
    assert await contents(bob, since=None) == await contents(bob, since=None) == [{"n": 1}]
    assert await contents(bob) == []


async def test_a_message_ends_a_long_poll(server: Server) -> None:
    """SYNC-18."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await bob.sync()
    waiting = asyncio.create_task(bob.sync_until(messages_in))
    await send(alice, {bob.user_id: {"*": {"n": 1}}})
    assert messages_in(await waiting)[0]["content"] == {"n": 1}


async def test_what_waits_for_a_device_ends_with_it(server: Server) -> None:
    """E2E-13."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device("PHONE")
    await send(alice, {bob.user_id: {"PHONE": {"n": 1}}})
    await phone.logout()
    again = await bob.new_device("PHONE")
    assert await contents(again) == []
    await send(alice, {bob.user_id: {"PHONE": {"n": 2}}})
    assert await contents(again) == [{"n": 2}]


async def test_a_message_reaches_none_of_a_wrong_request(server: Server) -> None:
    """TD-01: refused whole."""
    alice, bob = await server.register("alice"), await server.register("bob")
    good = {bob.user_id: {bob.device_id: {"n": 1}}}
    for user in ("bob", "@a\0b:x.y", "", "@" + "x" * 300 + ":x.y"):
        await send(alice, {**good, user: {"*": {}}}, expect=(400, "M_INVALID_PARAM"))
    large = {**good, alice.user_id: {"*": {"x": "x" * 70_000}}}
    await send(alice, large, expect=(413, "M_TOO_LARGE"))
    for messages in ([], {bob.user_id: []}, {bob.user_id: {"*": "x"}}, {bob.user_id: None}):
        await send(alice, {**good, **messages} if isinstance(messages, dict) else messages, expect=400)  # type: ignore[arg-type]
    assert await contents(bob) == []


@pytest.mark.parametrize("name", ["a\0b", "\0", "x" * 400])
async def test_strange_names_are_no_fault_of_the_server(server: Server, name: str) -> None:
    """TD-01: event types, transaction ids, device ids."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await send(alice, {bob.user_id: {name: {}}}, expect=400 if "\0" in name else 200)
    await send(alice, {bob.user_id: {"*": {}}}, kind=name, expect=None)
    await send(alice, {bob.user_id: {"*": {}}}, txn=name, expect=None)
    await bob.sync()


async def test_a_device_that_was_sent_to_is_not_looked_up_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TD-01, E2E-13: one that ends is forgotten, and one of the same name that comes after it has nothing of before."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device("PHONE")
    asked: list[Any] = []
    real = store.find_devices

    async def counted(tx: Any, users: Any, named: Any) -> Any:
        asked.extend(each for each in named if each[1] in {"PHONE", bob.device_id})
        return await real(tx, users, named)

    monkeypatch.setattr(store, "find_devices", counted)
    for number in range(3):
        await send(alice, {bob.user_id: {"PHONE": {"n": number}, "NONE": {}}})
    assert len(asked) == 1
    assert await contents(phone) == [{"n": 0}, {"n": 1}, {"n": 2}]
    await phone.logout()
    await send(alice, {bob.user_id: {"PHONE": {"n": 3}, bob.device_id: {"n": 4}}})
    assert len(asked) == 3
    phone = await bob.new_device("PHONE")
    assert await contents(phone) == []
    await send(alice, {bob.user_id: {"PHONE": {"n": 5}, bob.device_id: {"n": 6}}})
    assert await contents(phone) == [{"n": 5}]
    assert await contents(bob) == [{"n": 4}, {"n": 6}]


async def test_a_device_that_ended_unnoticed_gets_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-13: whoever remembers it, a message for it is not kept."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await bob.new_device("PHONE")
    await send(alice, {bob.user_id: {"PHONE": {"n": 1}}})

    async def known(_: Any, __: Any, named: Any) -> dict[int, list[str]]:
        return {user_nid: ["PHONE"] for user_nid, _ in named}

    monkeypatch.setattr(KnownDevices, "find", known)
    await phone.logout()
    await send(alice, {bob.user_id: {"PHONE": {"n": 2}}})
    assert await contents(await bob.new_device("PHONE")) == []
